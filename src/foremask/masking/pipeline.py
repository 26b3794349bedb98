"""The whole of masking: decode, see, refine, encode, each in its thread, none far ahead of the next."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from foremask.errors import Internal
from foremask.facts import Clip, Report, Span
from foremask.masking.outputs import check_output, written_whole
from foremask.media.frames import Frame
from foremask.media.presets import HUGE_PIXELS, check_preset
from foremask.media.probe import check_length, frame_bytes, probe
from foremask.media.reader import VideoReader
from foremask.media.writer import MaskWriter
from foremask.options import Limits, MaskOptions, Quality
from foremask.types import Alpha, Image, Levels, Rgb
from foremask.vision.image import ArrayImage
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.edges import refine
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.session import network_at
from foremask.vision.prefetch import prefetch, tee
from foremask.vision.temporal.windows import BLOCK_FRAMES, LAG_FRAMES, TIERS, mask_images
from foremask.weights.catalogue import model_path

_SMALL_PX: Final = 2048
_WINDOW_BYTES: Final = 700_000_000  # of decoded frames: 8-bit 4:2:0 up to 1080p, docs/adr/0057
_AHEAD_BYTES: Final = 100_000_000  # of them: all that the backdrop reads ahead up to 4 megapixels


class Masker(Protocol):
    """Sees pictures and answers one upright alpha for each, in order, at any size; it may lag behind."""

    def __call__(self, images: Iterable[Image], /) -> Iterator[Alpha]: ...  # noqa: D102


class Refiner(Protocol):
    """Brings upright alphas to the size and the coded orientation of their frames, in order; it may read ahead."""

    def __call__(  # noqa: D102
        self, pairs: Iterable[tuple[Frame, Alpha]], /
    ) -> Iterator[tuple[Frame, Levels]]: ...


def refine_edges(
    pairs: Iterable[tuple[Frame, Alpha]], ahead_frames: int | None = None
) -> Iterator[tuple[Frame, Levels]]:
    """The `Refiner` that a mask deserves: the outline where the colours meet, then the detail of full size.

    ``ahead_frames`` as in `resolve_outlines`.
    """
    for frame, alpha in resolve_outlines(pairs, ahead_frames):
        coded = np.ascontiguousarray(frame.orientation.to_coded(alpha))
        yield frame, refine(coded, frame.luma())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a masking is; ``frames_total`` may be a guess, or None.

    ``frames_done`` counts work: a frame that has been looked at is four fifths done, and the rest
    when its mask is written, which may be a window of frames later.
    """

    frames_done: int
    frames_total: int | None
    stage: str = "masking"


OnFrame = Callable[[Progress], None]


def _no_progress(_: Progress) -> None:
    """Show no progress."""


def mask_video(
    source: Path,
    target: Path,
    options: MaskOptions = MaskOptions(),  # noqa: B008  (frozen)
    on_frame: OnFrame = _no_progress,
    span: Span | None = None,
    masker: Masker | None = None,
    refiner: Refiner | None = None,
    *,
    replace: bool = False,
) -> Report:
    """Write to ``target`` a video in which white is the foreground of ``source``.

    ``on_frame`` is called whenever there is progress, in this thread, and cancels by raising. With
    a ``span``, ``source`` is what `segments.cut` made for it, and ``target`` becomes a part for
    `segments.join`. ``masker`` and ``refiner`` replace the network and what is done along the
    edges. Raises the errors of `probe` before anything is written, CorruptVideo where the source
    breaks on the way, PresetUnsuitable where the preset cannot, OutputFailed where ``target`` is
    ``source`` or is there already and ``replace`` is not set. ``target`` appears when it is whole:
    until then, and after any error, it is as it was.
    """
    check_output(target, source, replace=replace)
    clip = probe(source, options.limits)
    check_preset(clip, options.preset, options.limits.memory_bytes)
    with written_whole(target, replace=replace) as part:
        return _mask_clip(clip, source, part, options, on_frame, span, masker, refiner)


def _mask_clip(
    clip: Clip,
    source: Path,
    target: Path,
    options: MaskOptions,
    on_frame: OnFrame,
    span: Span | None,
    masker: Masker | None,
    refiner: Refiner | None,
) -> Report:
    runtime = "own masker"
    frames_can_wait = masker is None and _frames_can_wait(
        clip, options.quality
    )  # another's lag is not known
    if masker is None:
        network = network_at(options.model or model_path(), options.device)
        masker = partial(mask_images, network=network, tier=TIERS[options.quality])
        runtime = network.runtime
    if refiner is None:
        refiner = partial(refine_edges, ahead_frames=_ahead_frames(clip, options.quality))
    costs: dict[str, float] = {}
    stop = threading.Event()
    depth = 1 if clip.pixels > HUGE_PIXELS else 4
    statistics = _Statistics()
    with ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source))
        writer = stack.enter_context(
            MaskWriter(target, options.preset, clip, source, part=span is not None)
        )

        reporter = _ProgressReporter(clip, span, on_frame)

        def staged[T](items: Iterable[T], size: int, stage: str) -> Iterator[T]:
            return stack.enter_context(prefetch(items, size, stage, costs, stop))

        # Keyframes on both sides speak for a span's ends: docs/adr/0056
        roll_pts = round(BLOCK_FRAMES / (Fraction(clip.fps or 1) * reader.time_base))
        analysed = _around_span(reader, span, roll_pts)
        if frames_can_wait:
            analysed, frames = tee(analysed, stop)
        else:
            again = stack.enter_context(VideoReader(source))
            frames = staged(_around_span(again, span, roll_pts), depth, "decode")
        counted = reporter.counting(analysed)
        shown: Iterable[Image] = map(_small, counted) if clip.pixels > HUGE_PIXELS else counted
        images = staged(shown, depth, "decode for the network")
        alphas = staged(masker(images), 2 * depth, "see")
        pairs = _paired(frames, alphas, span, statistics)
        refined = stack.enter_context(
            prefetch(
                refiner(pairs), min(2, depth), "refine", costs, stop, meanwhile=reporter.report
            )
        )
        stack.callback(stop.set)  # all stages at once, before each is waited for
        started = time.thread_time()
        for frame, levels in refined:
            writer.write(levels, frame)
            check_length(clip, options.limits, None, frame.index + 1)
            _check_time(clip, options.limits, frame)
            reporter.written += 1
            reporter.report()
        end_pts = span.end_pts if span and span.end_pts is not None else reader.end_pts
        written = writer.finish(end_pts, reader.time_base)
        costs["encode"] = time.thread_time() - started
    all_warnings = (*clip.warnings, *reader.warnings, *written.sound_warnings, *_warnings(clip))
    return Report(
        frames_in=statistics.frames,
        frames_out=written.frames_out,
        duration_s=written.duration_s,
        fps=clip.fps,
        duration_drift_ms=written.duration_drift_ms,
        audio=written.audio,
        warnings=tuple(dict.fromkeys(all_warnings)),
        coverage=statistics.coverage / max(1, statistics.frames),
        flicker=statistics.flicker / max(1, statistics.frames - 1),
        strip=tuple(statistics.strip),
        runtime=runtime,
        stage_cpu_s={stage: round(cost, 3) for stage, cost in costs.items()},
        sha256=written.sha256,
        bytes=written.bytes,
    )


def _frames_can_wait(clip: Clip, quality: Quality) -> bool:
    """Whether decoded frames may stay until their masks come, a window later; else they are decoded twice."""
    return TIERS[quality].keeps_frames and LAG_FRAMES * frame_bytes(clip) <= _WINDOW_BYTES


def _ahead_frames(clip: Clip, quality: Quality) -> int | None:
    """How many decoded frames may wait for what comes after them; None where the quality does not look behind."""
    if not TIERS[quality].uses_backdrop:
        return None
    return min(BACKDROP_REACH_FRAMES, _AHEAD_BYTES // frame_bytes(clip))


@dataclass(frozen=True, slots=True)
class _Small:
    """A huge frame at a size that the network does not outgrow, so that many can wait."""

    width: int
    height: int
    pixels: Rgb

    def rgb(self, width: int, height: int) -> Rgb:
        return ArrayImage(self.pixels).rgb(width, height)


def _small(frame: Frame) -> _Small:
    scale = min(1.0, _SMALL_PX / max(frame.width, frame.height))
    size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    return _Small(frame.width, frame.height, frame.rgb(*size))


def _check_time(clip: Clip, limits: Limits, frame: Frame) -> None:
    if frame.time_s - clip.start_s > limits.max_duration_s:
        check_length(clip, limits, frame.time_s - clip.start_s + 1 / (clip.fps or 1), None)


@dataclass(slots=True)
class _ProgressReporter:
    """Counts frames looked at and written, and tells when there is more to tell."""

    clip: Clip
    span: Span | None
    on_frame: OnFrame
    inferred: int = 0
    written: int = 0
    last: int = 0

    def counting(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Count those of the span as they pass."""
        for frame in frames:
            self.inferred += self.span is None or self.span.holds(frame.pts)
            yield frame

    def report(self) -> None:
        """Call ``on_frame`` if work has been done since the last time."""
        done = (4 * self.inferred + self.written) // 5
        if done > self.last:
            self.last = done
            self.on_frame(Progress(done, self.clip.expected_frames))


def _around_span(frames: Iterable[Frame], span: Span | None, roll_pts: int) -> Iterator[Frame]:
    """Those of the span, and a few on each side; what comes later is not even decoded."""
    for frame in frames:
        if span is None or span.is_near(frame.pts, roll_pts):
            yield frame
        elif frame.pts > span.first_pts:
            break


@dataclass(slots=True)
class _Statistics:
    """Running sums over the masks."""

    frames: int = 0
    coverage: float = 0.0
    flicker: float = 0.0
    strip: list[tuple[float, float, float]] = field(default_factory=list)
    last: Alpha | None = field(default=None, repr=False)

    def note(self, alpha: Alpha, time_s: float) -> None:
        coverage, change = float(alpha.mean()), 0.0
        if self.last is not None and self.last.shape == alpha.shape:
            change = float(np.abs(alpha - self.last).mean())
        self.frames += 1
        self.coverage += coverage
        self.flicker += change
        self.strip.append((round(time_s, 4), round(coverage, 4), round(change, 4)))
        self.last = alpha


def _paired(
    frames: Iterator[Frame], alphas: Iterable[Alpha], span: Span | None, statistics: _Statistics
) -> Iterator[tuple[Frame, Alpha]]:
    """Each frame of the span with its mask.

    Masks are waited for and not frames: a masker that breaks says so, and then nobody draws frames
    any more.
    """
    for number, alpha in enumerate(alphas):
        frame = next(frames, None)
        if frame is None:
            raise Internal(f"the masker answered mask {number}, and there are {number} frames")
        if span is not None and not span.holds(frame.pts):
            continue
        statistics.note(alpha, frame.time_s)
        yield frame, alpha
    beyond = next(frames, None)
    if beyond is not None:
        raise Internal(f"the masker ended at frame {beyond.index}, before the video")


def _warnings(clip: Clip) -> Iterator[str]:
    if clip.hdr:
        yield f"the source is HDR ({clip.hdr}); it was tone-mapped for the network only"
