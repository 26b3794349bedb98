"""Runs SQL statements in PostgreSQL, each in a transaction of its own."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, LiteralString, Self

import msgspec
import psycopg
from msgspec import Struct
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from foremask.errors import ServiceUnavailable
from foremask.service.observability import metrics

type Row = dict[str, Any]
type Params = Sequence[object] | Mapping[str, object]

KEEPALIVE: dict[str, int] = {  # by default, TCP notices a lost connection after two hours
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
}
CALL_S = 10.0  # longer than any statement takes on a healthy server
RETRY_EVERY_S = 0.1
READ_ONLY = "the database is read-only; nothing was lost, try again in a moment"


class OtherTables(ServiceUnavailable):
    """Another version of foremask migrated the database after this process started."""


class Database:
    """A pool of connections that survives a restart of the server; use it with ``async with``.

    If the connection is lost, a call is repeated, so every statement must be idempotent. A call
    raises ServiceUnavailable after ``patience_s`` without a connection, or after ``call_s`` in all.
    No call leaves a transaction open, so a paused process blocks no other process (docs/adr/0021).
    """

    def __init__(
        self, url: str, *, connections: int = 8, patience_s: float = 2.0, call_s: float = CALL_S
    ) -> None:
        self.url = make_conninfo("", **{**KEEPALIVE, **conninfo_to_dict(url)})
        self.patience_s = patience_s
        self.call_s = call_s
        self._left: set[asyncio.Task[list[Row]]] = set()
        self._pool = AsyncConnectionPool[psycopg.AsyncConnection[Row]](
            self.url,
            min_size=1,
            max_size=connections,
            timeout=max(patience_s, 1.0),
            reconnect_timeout=5.0,
            open=False,
            kwargs={"autocommit": True, "row_factory": dict_row},
            reconnect_failed=AsyncConnectionPool.check,  # reconnect until the server is back
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def one(self, statement: LiteralString, params: Params = ()) -> Row | None:
        rows = await self.all(statement, params)
        if not rows:
            return None
        return rows[0]

    async def all(self, statement: LiteralString, params: Params = ()) -> list[Row]:
        loop = asyncio.get_running_loop()
        last = loop.time() + self.patience_s
        end = loop.time() + self.call_s
        is_counted = False
        while True:
            try:
                return await self._within(end - loop.time(), statement, params)
            except (
                psycopg.errors.UndefinedFunction,  # also raised by the function `check_version`
                psycopg.errors.UndefinedTable,
                psycopg.errors.UndefinedColumn,
            ) as error:
                raise OtherTables(
                    "the database has tables of another foremask: run `foremask migrate`"
                ) from error
            except (
                psycopg.OperationalError,
                psycopg.InterfaceError,
                psycopg.errors.ReadOnlySqlTransaction,
                TimeoutError,
            ) as error:
                if not is_counted:
                    metrics.DATABASE_ERRORS.inc()
                is_counted = True
                if loop.time() >= last:
                    raise _unavailable(error) from error
            await asyncio.sleep(RETRY_EVERY_S)

    async def notifications(
        self, channels: Iterable[str], quiet_s: float
    ) -> AsyncGenerator[str | None]:
        """Yield the channel of each notification, received on an extra connection.

        Yields None when the connection starts to listen, and every ``quiet_s`` while it works.
        Raises ServiceUnavailable if the connection is lost.
        """
        try:
            async with await psycopg.AsyncConnection.connect(
                self.url, autocommit=True
            ) as connection:
                for channel in channels:
                    await connection.execute(sql.SQL("listen {}").format(sql.Identifier(channel)))
                while True:
                    yield None
                    async for each in connection.notifies(timeout=quiet_s):
                        yield each.channel
                    await connection.execute("select 1")
        except psycopg.OperationalError as error:
            raise ServiceUnavailable(f"the database is listened to no more: {error}") from error

    async def row_of(self, function: LiteralString, *args: object) -> Row | None:
        """Call a SQL function; Structs and dictionaries become jsonb."""
        marks = ", ".join("%s" for _ in args)
        values = [_as_parameter(each) for each in args]
        return await self.one(f"select * from {function}({marks})", values)  # noqa: S608  # literals

    async def value_of(self, function: LiteralString, *args: object) -> Any:  # noqa: ANN401
        row = await self.row_of(function, *args)
        return row and next(iter(row.values()))

    async def answers(self, within_s: float = 1.0) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self.all("select 1")
        except (ServiceUnavailable, TimeoutError):
            return False
        return True

    async def _within(self, seconds: float, statement: LiteralString, params: Params) -> list[Row]:
        # If the server hangs, psycopg takes up to 10 s to cancel a statement. So the statement has
        # its own task, and the caller does not wait for the cancellation (docs/adr/0021).
        asking = asyncio.create_task(self._ask(statement, params))
        self._left.add(asking)
        asking.add_done_callback(self._let_go)
        try:
            done, _ = await asyncio.wait({asking}, timeout=max(seconds, RETRY_EVERY_S))
        except asyncio.CancelledError:
            asking.cancel()
            raise
        if not done:
            asking.cancel()
            raise TimeoutError
        return asking.result()

    async def _ask(self, statement: LiteralString, params: Params) -> list[Row]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, params)
            if cursor.description is None:  # the statement returns no rows
                return []
            return await cursor.fetchall()

    def _let_go(self, asking: asyncio.Task[list[Row]]) -> None:
        self._left.discard(asking)
        if not asking.cancelled():
            asking.exception()  # asyncio would log an exception that is never retrieved


def _unavailable(error: Exception) -> ServiceUnavailable:
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return ServiceUnavailable(READ_ONLY)
    return ServiceUnavailable(
        "the database does not answer; nothing was lost, try again in a moment"
    )


async def check_writable(database: Database) -> None:
    """Raise ServiceUnavailable if the server is a standby, or was made read-only."""
    row = await database.one("select current_setting('transaction_read_only') = 'on' as so")
    if row is not None and row["so"]:
        raise ServiceUnavailable(READ_ONLY)


async def on_disk(database: Database) -> None:
    """Wait until all earlier commits are on the disk; concurrent callers share one flush."""
    await database.all("select pg_logical_emit_message(true, 'foremask', '')")


def _as_parameter(value: object) -> object:
    if isinstance(value, Struct | dict):
        return json_value(value)
    return value


def json_value(value: object) -> Jsonb:
    return Jsonb(msgspec.to_builtins(value))
