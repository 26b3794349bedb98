"""A media runner that executes requests the easy way: a clip is text, one line to a frame.

The first line is ``clip FRAMES``; masking turns each line ``frame N`` into ``mask N``. A line
``die`` ends the process that masks it, as a hostile clip would; ``sleep S`` takes its time, or
waits until the test has done `TextMedia.pause`. With ``keeps``, the cache has
the masks so far; a line whose mask is known takes no time.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

from msgspec import structs

from foremask.errors import ClipRefused, CorruptVideo
from foremask.facts import Clip, Report, SegmentPlan, Written
from foremask.hints.kinds import frame_beyond, marked_hints
from foremask.options import Files, JobSpec
from foremask.service.sandbox import messages
from foremask.service.sandbox.pool import ChildDied, OnProgress

SEGMENT_FRAMES, SEGMENT_S = 10, 8.0
CLIP = Clip(
    container="text", codec="lines", pixel_format=None, width=1, height=1,
    rotation=0, mirrored=False, matrix=None, sample_aspect_ratio=(1, 1),
    fps=25.0, vfr=False, frames=None, start_s=0.0, duration_s=None, time_base=(1, 25),
    hdr=None, full_range=False, interlaced=False, alpha=False, audio=(), size_bytes=0, warnings=(),
)  # fmt: skip
REPORT = Report(
    frames_in=0, frames_out=0, duration_s=0.0, fps=25.0, duration_drift_ms=0.0,
    audio=(), warnings=(), coverage=0.5, flicker=0.0, strip=(),
    runtime="text", stage_cpu_s={}, sha256="", bytes=0, kind="mask",
)  # fmt: skip


def clip(frames: int, *, pause_s: float = 0.0, die_at: int | None = None) -> bytes:
    lines = [f"clip {frames}"]
    for number in range(frames):
        if number == die_at:
            lines.append("die")
        if pause_s:
            lines.append(f"sleep {pause_s}")
        lines.append(f"frame {number}")
    return ("\n".join(lines) + "\n").encode()


def mask(frames: int) -> bytes:
    return "".join(f"mask {number}\n" for number in range(frames)).encode()


class TextMedia:
    """Executes requests in this process; those of the kind named ``slow`` take a minute."""

    def __init__(
        self,
        slow: str = "",
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        *,
        keeps: bool = False,
    ) -> None:
        self.slow, self.pause, self.doing = slow, pause, set[str]()
        self.keeps = keeps

    async def run[R](
        self, request: messages.Request[R], *, on_progress: OnProgress | None = None, **_: object
    ) -> R:
        kind = type(request).__name__.lower()
        self.doing.add(kind)
        if kind == self.slow:
            await asyncio.sleep(60)
        result: R = await getattr(self, f"_{kind}")(request, on_progress)
        return result

    async def _probe(self, request: messages.Probe, _: OnProgress | None) -> Clip:
        text = request.source.read_text() if request.source else ""
        if not text.startswith("clip "):
            raise ClipRefused("this is no clip", reason="not_a_video", param="video")
        frames = int(text.split()[1])
        if text.count("frame ") != frames:
            raise CorruptVideo(f"{text.count('frame ')} of {frames} frames are there")
        duration_s = frames * SEGMENT_S / SEGMENT_FRAMES
        return replace(CLIP, frames=frames, duration_s=duration_s, size_bytes=len(text))

    async def _plan(self, request: messages.Plan, _: OnProgress | None) -> tuple[SegmentPlan, ...]:
        frames = request.source.read_text().count("frame ")
        length = max(SEGMENT_FRAMES, math.ceil(frames / request.most))
        return tuple(
            SegmentPlan(start, min(frames, start + length)) for start in range(0, frames, length)
        )

    async def _cut(self, request: messages.Cut, _: OnProgress | None) -> None:
        kept: list[str] = []
        pending: list[str] = []
        for line in request.source.read_text().splitlines()[1:]:
            pending.append(line)
            if line.startswith("frame "):
                if request.span.holds(int(line.split()[1])):
                    kept += pending
                pending = []
        request.target.write_text("\n".join(["clip 0", *kept]) + "\n")

    async def _make(self, request: messages.Make, on_progress: OnProgress | None) -> Report:
        files = request.files
        if files.mask is None:
            known = request.known.read_text() if request.known else ""
            return await self._masked(request.spec, files, on_progress, known)
        text = files.mask.read_text()
        files.target.write_text(text)
        frames = text.count("mask ")
        return structs.replace(REPORT, frames_in=frames, frames_out=frames)

    async def _masked(
        self, spec: JobSpec, files: Files, on_progress: OnProgress | None, known: str
    ) -> Report:
        masked: list[str] = []
        for line in files.source.read_text().splitlines()[1:]:
            word, _, value = line.partition(" ")
            if word == "die":
                raise ChildDied("the media child died")
            if word == "sleep":
                if len(masked) >= known.count("mask "):
                    await self.pause(float(value))
            else:
                masked.append(f"mask {value}\n")
                if self.keeps and files.cache is not None:
                    files.cache.write_text("".join(masked))
                if on_progress is not None:
                    await on_progress(messages.ChildProgress(len(masked), left_s=100.0))
        for number, hint in enumerate(marked_hints(spec.hints)):
            if (hint.frame or 0) >= len(masked):
                raise frame_beyond(hint, number, len(masked))
        for target in filter(None, (files.target, files.mask_target)):
            target.write_text("".join(masked))
        return structs.replace(REPORT, frames_in=len(masked), frames_out=len(masked))

    async def _join(self, request: messages.Join, _: OnProgress | None) -> Written:
        joined = "".join(part.read_text() for part in request.parts)
        request.target.write_text(joined)
        frames = joined.count("mask ")
        return Written(frames, frames / 25, 0.0, (), (), "", len(joined))
