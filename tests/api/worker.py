"""A worker with everything real but the network: masking is done the easy way, red is the foreground."""

import asyncio
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from foremask.engine.lanes import run_lanes
from foremask.engine.media import Media
from foremask.engine.work import Work
from foremask.jobs.database import open_database
from foremask.options import Limits, MaskOptions, Preset
from foremask.outbound import Outbound
from foremask.pipeline import mask_video
from foremask.sandbox.messages import Progress
from foremask.sandbox.pool import MediaPool, OnProgress
from tests import synth
from tests.api.conftest import Running


class RedIsForeground:
    """Masks in this process."""

    async def run(
        self,
        operation: str,
        args: dict[str, Any],
        *,
        read_paths: Iterable[Path] = (),
        scratch: Path | None = None,
        on_progress: OnProgress | None = None,
        wall_clock_s: float = 600.0,
        owner: str = "",
    ) -> Any:  # noqa: ANN401
        """As the confined child does it."""
        assert operation == "mask"
        options = MaskOptions(preset=Preset(args["options"]["preset"]))
        report = await asyncio.to_thread(
            mask_video,
            Path(args["source"]),
            Path(args["target"]),
            options,
            masker=synth.red_is_foreground,
            refiner=synth.stretched,
        )
        if on_progress is not None:
            await on_progress(Progress(report.frames_out, report.frames_out, "masking"))
        return msgspec.to_builtins(report)


@contextmanager
def working(service: Running, scratch: Path) -> Generator[None]:
    """A worker of the service, in a thread, for the length of a block."""
    told = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(_work(service, scratch, told),))
    thread.start()
    try:
        yield
    finally:
        told.set()
        thread.join(30)
        assert not thread.is_alive()


async def _work(service: Running, scratch: Path, told: threading.Event) -> None:
    async with (
        MediaPool(scratch / "files") as files,
        open_database(service.database_url) as database,
        Outbound() as outbound,  # as on a first day: the page's receiver is reached all the same
    ):
        work = Work(
            database=database,
            objects=await service.objects(),
            outbound=outbound,
            media=Media(RedIsForeground(), files, Limits()),
            scratch=scratch / "files",
            worker="test",
            result_ttl_s=0,
        )
        lanes = asyncio.create_task(run_lanes(work, {"files": 2, "masks": 1, "webhooks": 2}, 0.0))
        while not told.is_set():  # noqa: ASYNC110  # told from another thread
            await asyncio.sleep(0.05)
        lanes.cancel()
        await asyncio.gather(lanes, return_exceptions=True)
