"""A disk that is full while a step of a job runs, and has room again later."""

import pytest
from structlog.testing import capture_logs

from foremask.service.jobs.life import MAX_CRASHES
from foremask.service.worker.queues import Leases, do_next
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, working
from tests.support.disks import disk_of
from tests.support.patience import until

PARTS = 3


@pytest.mark.linux
@pytest.mark.parametrize("stage", ["ingest", "segment", "join"])
async def test_a_full_disk_only_delays(caller: Caller, stage: str) -> None:
    """However often the step is tried, that is no crash of it."""
    request_id = await caller.submit(caller.site.clip(10 * PARTS))
    before = {"ingest": 0, "segment": 1, "join": 1 + PARTS}[stage]
    for number in range(before):
        await do_next(caller.work, "files" if number == 0 else "masks", Leases())
    failed = stage, "unavailable"
    with capture_logs(), disk_of(10):  # a log on the disk would be full too
        async with working(caller.work):
            await until(
                lambda: caller.outcomes(request_id),
                lambda outcomes: outcomes.count(failed) > MAX_CRASHES + 1,
            )
    async with working(caller.work):
        record = await caller.ended(request_id)
    assert await caller.result(record) == stand_in.mask(10 * PARTS)
    ends = await caller.outcomes(request_id)
    assert set(ends) - {failed, (stage, "given back")} <= {
        (each, "done") for each in ("ingest", "segment", "join")
    }
