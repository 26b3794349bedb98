"""One process of the service under attack: ``python -m benchmarks.chaos_member api|worker``."""

import os
import sys
from pathlib import Path

import uvloop

from foremask.engine.media import Media
from foremask.options import Limits
from foremask.sandbox.pool import MediaPool
from foremask.settings import Settings, read_settings
from foremask.worker import QUEUES, open_work, work_until_told

HERE = Path(__file__).parent.parent
OPERATIONS = "benchmarks.chaos_operations"


async def work(settings: Settings) -> None:
    """As worker.run_worker, with a network that costs nothing in a real, confined child."""
    scratch = settings.data_dir / "scratch" / "worker"
    async with (
        MediaPool(scratch, sandbox=settings.sandbox) as files,
        MediaPool(
            scratch, sandbox=settings.sandbox, operations=OPERATIONS, import_from=[HERE]
        ) as masks,
        open_work(settings, Media(masks, files, Limits()), scratch) as means,
    ):
        await work_until_told(means, QUEUES, 1, sandbox=str(masks.level))


if __name__ == "__main__":
    chosen = read_settings(os.environ)
    if sys.argv[1] == "api":
        from foremask.api.app import run

        run(chosen)
    else:
        uvloop.run(work(chosen))
