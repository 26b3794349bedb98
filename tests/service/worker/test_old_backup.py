"""A database that is restored from an older dump than the object store, and from a newer one."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from foremask.errors import RequestUnknown
from foremask.service.jobs import records
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.run.bundled_postgres import bundled_binaries
from foremask.service.worker.queues import Leases, do_next
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, announce_slots, working
from tests.support.jobs import value
from tests.support.patience import PATIENT, until
from tests.support.programs import ran


def dumped(url: str, path: Path) -> Path:
    """Dump the database as docs/operations.md says."""
    ran(bundled_binaries() / "pg_dump", "--clean", "--if-exists", f"--file={path}", url)
    return path


@asynccontextmanager
async def restored(caller: Caller, url: str, dump: Path) -> AsyncIterator[Caller]:
    """The service as it is started again, after all its processes have stopped."""
    ran(bundled_binaries() / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", url, f"--file={dump}")
    async with Database(url, **PATIENT) as database:
        await announce_slots(database, 100)
        yield replace(caller, work=replace(caller.work, database=database))


async def test_an_old_database_beside_newer_objects_does_again_what_it_knows_as_unfinished(
    caller: Caller, database_url: str, tmp_path: Path
) -> None:
    clip = caller.site.clip(3)
    kept = await caller.served(clip)
    fetched = await caller.submit(clip)
    await do_next(caller.work, "files", Leases())
    queued = await caller.submit(clip)
    dump = dumped(database_url, tmp_path / "dump.sql")
    async with working(caller.work):
        for each in (fetched, queued, await caller.submit(clip)):
            newest = await caller.ended(each)
            assert await caller.result(newest) == stand_in.mask(3)
        left = "select count(*) from jobs where swept_at is null"
        await until(lambda: value(caller.database, left), lambda number: number == 0)
    async with restored(caller, database_url, dump) as again, working(again.work):
        assert await again.result(await again.ended(queued)) == stand_in.mask(3)
        assert await again.result(await again.record(kept.request_id)) == stand_in.mask(3)
        # Its source was deleted when it had ended; a caller can only submit it once more.
        lost = await again.ended(fetched)
        assert (lost.status, lost.error and lost.error.reason) == (Status.FAILED, "object_lost")
        with pytest.raises(RequestUnknown):
            await again.record(newest.request_id)
        assert await value(again.database, "select sum(unfinished) from tokens") == 0


async def test_older_objects_beside_a_newer_database_end_its_jobs_with_a_reason(
    caller: Caller, database_url: str, tmp_path: Path
) -> None:
    clip = caller.site.clip(3)
    objects = tmp_path / "objects"
    older = shutil.copytree(objects, tmp_path / "older")
    fetched = await caller.submit(clip)
    await do_next(caller.work, "files", Leases())
    queued = await caller.submit(clip)
    dump = dumped(database_url, tmp_path / "dump.sql")
    shutil.rmtree(objects)
    older.rename(objects)
    async with restored(caller, database_url, dump) as again, working(again.work):
        lost = await again.ended(fetched)
        assert (lost.status, lost.error and lost.error.reason) == (Status.FAILED, "object_lost")
        assert await again.result(await again.ended(queued)) == stand_in.mask(3)
        assert await value(again.database, "select sum(unfinished) from tokens") == 0
        assert await records.history(again.database, fetched)
