"""The bundled PostgreSQL: it starts, survives kill -9, leaves nothing behind, and belongs to one."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from foremask.embedded import EmbeddedPostgres
from foremask.errors import SettingsInvalid
from foremask.jobs.database import open_database

pytestmark = pytest.mark.postgres

START_AND_HANG = """
import sys, time
from pathlib import Path
from foremask.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that any user gets to: pytest's own is closed to all but one."""
    path = Path(tempfile.mkdtemp(prefix="foremask-test-"))
    path.chmod(0o755)
    yield path
    with suppress(FileNotFoundError):
        shutil.rmtree((path / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(path)


def test_rows_outlive_a_stop(data_dir: Path) -> None:
    """What was committed is there after the next start; only its user may open the socket."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("create table kept as select 42 as answer")
    socket_dir = data_dir / "postgres" / "socket"
    assert socket_dir.stat().st_mode & 0o777 == 0o700
    server.stop()
    assert server.pid is None
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)
    server.stop()


async def test_a_killed_server_is_back_at_once(data_dir: Path) -> None:
    """kill -9 of the server while callers ask: committed rows stay, and a call just takes longer."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    watching = asyncio.create_task(server.watch())
    try:
        async with open_database(server.url, patience_s=20.0) as database:
            await database.all("create table kept as select 42 as answer")
            for _ in range(3):
                first = server.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                while server.pid in (first, None):  # noqa: ASYNC110  # a process has no event
                    await asyncio.sleep(0.01)
                assert await database.one("select answer from kept") == {"answer": 42}
    finally:
        watching.cancel()
        server.stop()


def test_a_data_directory_has_one_owner(data_dir: Path) -> None:
    """The second foremask is told who has it, and the first does not notice."""
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    first.start()
    with pytest.raises(SettingsInvalid, match="another foremask is using"):
        second.start()
    with psycopg.connect(first.url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    first.stop()


def test_a_long_path_gets_a_short_socket(data_dir: Path) -> None:
    """A Unix socket's path has 107 bytes; the data may lie deeper."""
    deep = data_dir / ("x" * 100)
    server = EmbeddedPostgres(deep)
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    server.stop()
    shutil.rmtree(server.url.partition("host=")[2])


def test_another_major_version_is_refused(data_dir: Path) -> None:
    """A directory of PostgreSQL 17 is left alone, and the message names the way out."""
    server = EmbeddedPostgres(data_dir)
    server.start()
    server.stop()
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(SettingsInvalid, match=r"docs/operations\.md"):
        server.start()


def test_a_closed_directory_serves_root_too(data_dir: Path) -> None:
    """Root's server runs as another user, who gets to a place of its own; parents stay closed."""
    data_dir.chmod(0o700)
    server = EmbeddedPostgres(data_dir)
    server.start()
    place = (data_dir / "postgres").resolve()
    moved = place.parent != data_dir.resolve()
    assert moved == (os.geteuid() == 0)
    assert data_dir.stat().st_mode & 0o777 == 0o700
    server.stop()
    server.start()
    server.stop()


def test_nothing_outlives_a_killed_parent(data_dir: Path) -> None:
    """kill -9 of whoever started the server: it is gone, and the next start works."""
    with subprocess.Popen(  # noqa: S603  # our own code
        [sys.executable, "-c", START_AND_HANG, data_dir], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()
    server = EmbeddedPostgres(data_dir)
    server.start()
    server.stop()
