"""What is deleted: sources when a job ends, results after their time, records after theirs."""

from dataclasses import dataclass
from typing import Any, LiteralString

from foremask.service.jobs.database import Database

RECORD_EXTRA_S = 7 * 86400  # a week in which a status read can still say that the result is gone
FAILED_KEPT_S = 30 * 86400
ENGINE_DEAD_S = 60.0
AT_ONCE: LiteralString = "50"
NETWORK_KEPT_S = 86400  # half a megabyte a frame: long enough for a person to say what is wrong


async def to_sweep(database: Database) -> list[tuple[str, str | None]]:
    """Ended jobs whose source and segments are still stored, and the keys of their results."""
    return await _oldest(database, "ended_at is not null and swept_at is null")


async def _oldest(
    database: Database, which: LiteralString, *params: float
) -> list[tuple[str, Any]]:
    """Ids and result keys of the jobs where ``which`` holds, those that ended first."""
    rows = await database.all(
        f"select id, result_key from jobs where {which} order by ended_at limit {AT_ONCE}",  # noqa: S608
        params,
    )
    return [(row["id"], row["result_key"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended; ``reason`` is empty unless it failed, ``wait_s`` None if it never began."""

    status: str
    reason: str
    wait_s: float | None
    seconds: float


async def swept(database: Database, request_id: str) -> Ended | None:
    """Note that source and segments are deleted; how the job ended, None the second time."""
    row = await database.one(
        """update jobs set swept_at = clock() where id = %s and swept_at is null
           returning status, coalesce(error ->> 'reason', '') as reason,
               extract(epoch from started_at - created_at)::float8 as wait_s,
               extract(epoch from ended_at - created_at)::float8 as seconds""",
        (request_id,),
    )
    return None if row is None else Ended(**row)


async def to_expire(database: Database, result_ttl_s: float) -> list[tuple[str, str]]:
    """Ids and object keys of the results that have expired; none where ``result_ttl_s`` is 0."""
    if not result_ttl_s:
        return []
    return await _oldest(
        database,
        """ended_at < clock() - make_interval(secs => %s)
           and result_key is not null and expired_at is null""",
        result_ttl_s,
    )


async def expired(database: Database, request_id: str) -> None:
    """The job's result is deleted."""
    await database.all("update jobs set expired_at = clock() where id = %s", (request_id,))


async def networks_to_drop(database: Database) -> list[tuple[str, str]]:
    """Ids and object keys of results whose network cache has expired."""
    return await _oldest(
        database,
        """report ? 'network_bytes' and expired_at is null
           and ended_at < clock() - make_interval(secs => %s)""",
        NETWORK_KEPT_S,
    )


async def network_dropped(database: Database, request_id: str) -> None:
    """Record that the network caches are deleted."""
    await database.all(
        "update jobs set report = report - 'network_bytes' where id = %s", (request_id,)
    )


async def forget_records(database: Database, result_ttl_s: float) -> list[str]:
    """Delete records a week after their result expired, or 30 days after they failed; their ids.

    Those that their callers deleted have expired at the epoch: they go at once.
    """
    rows = await database.all(
        """delete from jobs where swept_at is not null
           and ((status = 'completed' and expired_at < clock() - make_interval(secs => %s))
                or expired_at = 'epoch' or (status in ('failed', 'cancelled')
                    and ended_at < clock() - make_interval(secs => %s)))
           and not exists (select from deliveries d where d.job = jobs.id and d.status = 'pending')
           returning id""",
        (RECORD_EXTRA_S, max(FAILED_KEPT_S, result_ttl_s)),
    )
    return [row["id"] for row in rows]


async def drop_dead_engine_rows(database: Database) -> int:
    """Delete the engine's abandoned rows; our tables know what is left to do."""
    rows = await database.all(
        """delete from procrastinate_jobs p where p.status <> 'todo' and (
               p.status <> 'doing' or not exists (
                   select from procrastinate_workers w where w.id = p.worker_id
                   and w.last_heartbeat > now() - make_interval(secs => %s)))
           returning id""",
        (ENGINE_DEAD_S,),
    )
    return len(rows)
