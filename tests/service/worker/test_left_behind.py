import asyncio
import operator
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from foremask.facts import Written
from foremask.options import Form, JobSpec, ResultKind
from foremask.service.jobs import retention, steps
from foremask.service.jobs.database import Database
from foremask.service.jobs.life import Status
from foremask.service.sandbox.messages import Join
from foremask.service.sandbox.pool import OnProgress
from foremask.service.storage.objects import MASK, sibling_key
from foremask.service.worker.job_stages import WorkerContext
from foremask.service.worker.maintenance import sweep_sources, sweep_uploads
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, working
from tests.service.worker.stand_in import TextMedia
from tests.support.jobs import begun, value
from tests.support.patience import until, until_so

EACH = 5
CUTOUT: dict[str, Any] = {
    "spec": JobSpec(kind=ResultKind.CUTOUT, form=Form.WEBM_VP9),
}
KINDS: tuple[dict[str, Any], ...] = {}, CUTOUT


class CancelledWhileJoined(TextMedia):
    """Jobs are cancelled and swept when their mask is whole, and not yet stored."""

    def __init__(self, caller: Caller, jobs: set[str]) -> None:
        super().__init__()
        self.caller, self.jobs = caller, jobs

    async def _join(self, request: Join, on_progress: OnProgress | None) -> Written:
        joined = await super()._join(request, on_progress)
        for job in tuple(self.jobs):  # the test empties it meanwhile
            await self.caller.cancel(job)
            await sweep_sources(self.caller.work)
        return joined


def files_below(top: Path) -> set[str]:
    return {
        str(path.relative_to(top))
        for path in top.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    }


async def test_uploads_are_deleted_after_three_days(work: WorkerContext, tmp_path: Path) -> None:
    old, new = tmp_path / "objects/uploads/old", tmp_path / "objects/uploads/new"
    for each in (old, new):
        each.mkdir(parents=True)
        for name in ("clip.mp4", "half#1"):
            (each / name).write_bytes(b"clip")
    long_ago = time.time() - 3 * 86400 - 60
    for path in (*old.iterdir(), old):
        os.utime(path, (long_ago, long_ago))
    foreign = tmp_path / "objects/uploads/a name with spaces"
    foreign.write_bytes(b"no upload of ours")
    os.utime(foreign, (long_ago, long_ago))
    await sweep_uploads(work)
    assert not [path for path in old.rglob("*") if path.is_file()]
    assert len(list(new.iterdir())) == 2
    assert foreign.exists()


async def rows(database: Database, *tables: str) -> list[int]:
    counts = [f"select count(*) from {table}" for table in tables]  # noqa: S608
    return [await value(database, each) for each in counts]


async def test_after_jobs_of_all_endings_there_is_what_retention_says_and_nothing_else(
    caller: Caller, tmp_path: Path
) -> None:
    work, site, page = caller.work, caller.site, caller.site.page()
    await steps.recover(work.database, work.timing.wall_clock_s)  # after a gap, leases are renewed
    site.files |= {"/short": stand_in.clip(5), "/long": stand_in.clip(25)}
    short, long = f"{site.url}/short", f"{site.url}/long"
    cancelled = [await caller.submit(short) for _ in range(EACH)]
    for job in cancelled:
        await caller.cancel(job)
    lost = [await caller.submit(short, **KINDS[n % 2]) for n in range(EACH)]
    for job in lost:  # the worker has stored something, half of something else, and is killed
        await begun(caller.database, job, lease_s=0.05)
        (tmp_path / "stray").write_bytes(b"stray")
        await work.objects.put(f"sources/{job}/1/source", tmp_path / "stray")
        await work.objects.put(f"results/{job}/segment-9/{job}.mp4", tmp_path / "stray")
        (tmp_path / f"objects/sources/{job}/1/half#1").write_bytes(b"half")
    (tmp_path / "stray").unlink()
    await asyncio.sleep(0.1)
    joined: set[str] = set()
    media = CancelledWhileJoined(caller, joined)
    kept_for_good = replace(work, masks=media, files=media)
    async with working(kept_for_good):
        done = [await caller.submit(each) for each in [short] * EACH + [long] * EACH]
        done += [await caller.submit(each, **CUTOUT) for each in (short, long)]
        failed = [await caller.submit(page) for _ in range(EACH)]
        for job in (*done, *failed, *lost):
            await caller.ended(job)
        for kind in KINDS:
            job = await caller.submit(long, **kind)
            joined.add(job)
            assert (await caller.ended(job)).status is Status.CANCELLED
            joined.clear()
        await until(lambda: retention.due(caller.database, "sources"), operator.not_)
        records_of = [await caller.record(job) for job in (*done, *lost)]
        assert {each.status for each in records_of} == {Status.COMPLETED}
        kept = {each.result_key or "" for each in records_of}
        cut_out = [each for each in records_of if each.spec.kind is ResultKind.CUTOUT]
        assert all(each.report and each.report.mask_bytes for each in cut_out)
        kept |= {sibling_key(each.result_key or "", MASK) for each in cut_out}
        # A stale attempt may still be tidying up.
        await until_so(lambda: files_below(tmp_path / "objects") == {"signing-key"} | kept)
        await until_so(lambda: not files_below(work.scratch))
    jobs = 5 * EACH + 4
    assert await rows(caller.database, "jobs", "deliveries", "uploads") == [jobs, 0, 0]
    assert await value(caller.database, "select sum(unfinished) from tokens") == 0
    async with working(replace(work, result_ttl_s=0.001)):
        await until(lambda: retention.due(caller.database, "result", 0.001), operator.not_)
        await until_so(lambda: files_below(tmp_path / "objects") == {"signing-key"})
    await caller.database.all(
        "update jobs set ended_at = ended_at - interval '90 d',"
        " expired_at = expired_at - interval '90 d'"
    )
    assert len(await retention.forget_records(caller.database, 0.001)) == jobs
    assert await rows(caller.database, "jobs", "steps", "attempts", "deliveries") == [0] * 4


async def test_what_one_sweep_did_not_foresee_stops_no_other(caller: Caller) -> None:
    await caller.database.all(
        """create function refuse() returns trigger language plpgsql as
           $$ begin raise 'unforeseen'; end $$;
           create trigger refuse before delete on uploads execute function refuse()"""
    )
    left = "select count(*) from jobs where swept_at is null"
    with capture_logs() as lines:
        async with working(caller.work):
            await caller.ended(await caller.submit(caller.site.clip(2)))
            await until(lambda: value(caller.database, left), operator.not_)
    await caller.database.all("drop function refuse cascade")
    failed = [line for line in lines if line["event"] == "maintenance.failed"]
    assert {line["sweep"] for line in failed} == {"sweep_uploads"}
