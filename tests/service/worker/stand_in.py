"""A media process that does the job the easy way: a clip is text, one line to a frame.

The first line is ``clip FRAMES``; masking turns each line ``frame N`` into ``mask N``. A line
``die`` ends the process that masks it, as a hostile clip would; ``sleep S`` takes its time.
"""

# ruff: noqa: ASYNC240  # a few bytes on a local disk

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from foremask.errors import CorruptVideo, NotAVideo
from foremask.service.sandbox.messages import Progress
from foremask.service.sandbox.pool import ChildDied, OnProgress

SEGMENT_FRAMES = 10


def clip(frames: int, *, pause_s: float = 0.0, die_at: int | None = None) -> bytes:
    """A clip of so many frames."""
    lines = [f"clip {frames}"]
    for number in range(frames):
        if number == die_at:
            lines.append("die")
        if pause_s:
            lines.append(f"sleep {pause_s}")
        lines.append(f"frame {number}")
    return ("\n".join(lines) + "\n").encode()


def mask(frames: int) -> bytes:
    """What masking such a clip gives."""
    return "".join(f"mask {number}\n" for number in range(frames)).encode()


class TextMedia:
    """Does the five operations in this process; the one named ``slow`` takes a minute."""

    def __init__(self, slow: str = "") -> None:
        self.slow, self.doing = slow, set[str]()

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
        """As the real one."""
        self.doing.add(operation)
        if operation == self.slow:
            await asyncio.sleep(60)
        return await getattr(self, f"_{operation}")(args, on_progress)

    async def _probe(self, args: dict[str, Any], _: OnProgress | None) -> dict[str, Any]:
        text = Path(args["source"]).read_text()
        if not text.startswith("clip "):
            raise NotAVideo("this is no clip", param="video")
        frames = int(text.split()[1])
        if text.count("frame ") != frames:
            raise CorruptVideo(f"{text.count('frame ')} of {frames} frames are there")
        return {"container": "text", "codec": "lines", "width": 1, "height": 1, "frames": frames}

    async def _plan(self, args: dict[str, Any], _: OnProgress | None) -> list[dict[str, Any]]:
        frames = Path(args["source"]).read_text().count("frame ")
        starts = range(0, frames, SEGMENT_FRAMES)
        return [{"first_pts": s, "end_pts": min(frames, s + SEGMENT_FRAMES)} for s in starts]

    async def _cut(self, args: dict[str, Any], _: OnProgress | None) -> None:
        whole, wanted = Path(args["source"]).read_text(), args["span"]
        kept: list[str] = []
        pending: list[str] = []
        for line in whole.splitlines()[1:]:
            pending.append(line)
            if line.startswith("frame "):
                if wanted["first_pts"] <= int(line.split()[1]) < wanted["end_pts"]:
                    kept += pending
                pending = []
        Path(args["target"]).write_text("\n".join(["clip 0", *kept]) + "\n")

    async def _mask(self, args: dict[str, Any], on_progress: OnProgress | None) -> dict[str, Any]:
        masked: list[str] = []
        for line in Path(args["source"]).read_text().splitlines()[1:]:
            word, _, value = line.partition(" ")
            if word == "die":
                raise ChildDied("the media child died")
            if word == "sleep":
                await asyncio.sleep(float(value))
            else:
                masked.append(f"mask {value}\n")
                if on_progress is not None:
                    await on_progress(Progress(len(masked), None, "masking"))
        Path(args["target"]).write_text("".join(masked))
        return {
            "frames_in": len(masked),
            "frames_out": len(masked),
            "coverage": 0.5,
            "warnings": [],
        }

    async def _join(self, args: dict[str, Any], _: OnProgress | None) -> dict[str, Any]:
        joined = "".join(Path(part).read_text() for part in args["parts"])
        Path(args["target"]).write_text(joined)
        return {"bytes": len(joined)}
