"""A process of the attacked service: ``chaos_member api`` or ``chaos_member worker [SLOTS]``."""

import os
import sys
from pathlib import Path

import uvloop

from foremask.options import Limits
from foremask.service.sandbox.pool import MediaPool
from foremask.service.settings import Settings, read_settings
from foremask.service.worker.process import QUEUES, open_work, work_until_stopped

HERE = Path(__file__).parents[2]
EXECUTION = "benchmarks.endurance.chaos_operations"


async def work(settings: Settings, slots: int = 1) -> None:
    """As worker.run_worker, with a network that costs nothing in a real, confined child."""
    scratch = settings.data_dir / "scratch" / "worker"
    async with (
        MediaPool(scratch, sandbox=settings.sandbox) as files,
        MediaPool(
            scratch,
            slots=slots,
            sandbox=settings.sandbox,
            execution=EXECUTION,
            import_from=[HERE],
        ) as masks,
        open_work(settings, scratch, masks, files, Limits()) as means,
    ):
        await work_until_stopped(means, QUEUES, slots, sandbox=str(masks.level))


if __name__ == "__main__":
    chosen = read_settings(os.environ)
    if sys.argv[1] == "api":
        from foremask.service.api.application import run

        run(chosen)
    else:
        uvloop.run(work(chosen, *map(int, sys.argv[2:])))
