"""Chooses the stages that make the masks of a clip: the only place that does."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

from foremask.facts import Clip, Span
from foremask.hints.kinds import check_hints, upright_size
from foremask.media.frames import Frame
from foremask.media.presets import check_result
from foremask.media.probe import check_length, excerpt_of, frame_bytes, probe
from foremask.media.reader import VideoReader
from foremask.options import JobSpec, Limits, Quality, Resources, ResultKind
from foremask.pipeline.cache_file import opened_cache
from foremask.pipeline.clip_file import ClipFile
from foremask.pipeline.hinting import guidance_of_frames, remarks
from foremask.pipeline.images import pts_of
from foremask.pipeline.network_masks import network_stages
from foremask.pipeline.networks import mask_finder_for, network_for
from foremask.pipeline.progress import Work
from foremask.pipeline.stage_list import Pipeline, Queue, Stage
from foremask.pipeline.stages.ask import LAG_FRAMES
from foremask.pipeline.stages.decode import Decode
from foremask.pipeline.stages.edges import Edges, Turn
from foremask.pipeline.stages.mask import Mask
from foremask.pipeline.stages.pair import Pair
from foremask.pipeline.stored import STORED_MASK, stored_masks
from foremask.pipeline.threads import BoundedQueue, Workers
from foremask.pipeline.trackers import tracked_masker
from foremask.pipeline.values import ImageMasker
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.foreground import Behind
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import TIERS

# Limits for decoded frames in memory. If frames that wait for masks need over `WINDOW_BYTES`
# (beyond 960x540 in 8-bit 4:2:0), a queue of them would never empty. So such clips are decoded
# twice, as docs/adr/0057 says.
WINDOW_BYTES: Final = 200_000_000
_QUEUE_BYTES: Final = 16_000_000  # Frames between two threads.
_AHEAD_BYTES: Final = 100_000_000  # Frames that wait for their backdrops.

type OnPicked = Callable[[list[PickedAnchor]], None]
"""Gets the anchors of each window, once they are decided."""

type PipelineChange = Callable[[Pipeline], Pipeline]
"""Puts stages of a user into a pipeline, or takes some out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """The pipeline of one clip, which ends with masks of the frames' size, and what its run needs.

    ``clip`` is the clip or its excerpt, with the warnings about hints. ``clip_file`` is its file as
    it was before anything was read of it. The stage `edges` puts the background behind each
    frame's soft edges into ``behind``, by frame index, if it estimates it. ``remarks`` gets
    warnings for the report while the stages run.
    """

    spec: JobSpec
    source: Path
    clip_file: ClipFile
    clip: Clip
    limits: Limits
    span: Span | None
    pipeline: Pipeline
    reader: VideoReader
    decode: Decode
    pair: Pair
    runtime: str
    work: Work
    behind: dict[int, Behind] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def end(self) -> Fraction | None:
        """The last written frame's end in seconds, known after all frames are read."""
        if self.span is None or self.span.end_pts is None:
            return self.reader.end
        return self.span.end_pts * self.reader.time_base

    def check_limits(self, frame: Frame) -> None:
        """Raise an error of `check_length` if the frames up to this one exceed the limits."""
        check_length(self.clip, self.limits, None, frame.index + 1)
        elapsed_s = frame.time_s
        if self.spec.excerpt is None:  # the times of an excerpt count from zero
            elapsed_s -= self.clip.start_s
        if elapsed_s > self.limits.max_duration_s:
            check_length(self.clip, self.limits, elapsed_s + 1 / (self.clip.fps or 1), None)


@dataclass(frozen=True, slots=True)
class _Masks:
    """The stages from images to masks, and what is known of them."""

    stages: Sequence[Stage | Queue]
    runtime: str
    keeps_frames: bool = False  # whether frames wait in memory for their masks
    work: Work = field(default_factory=Work)
    warnings: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)


def checked_clip(source: Path, spec: JobSpec, limits: Limits) -> Clip:
    """Read the clip's properties. Raises an error if it cannot be masked or written."""
    clip = probe(source, limits, spec.excerpt)
    part = excerpt_of(clip, spec.excerpt)
    check_result(part, spec.form, spec.kind, limits.memory_bytes)
    check_hints(spec.hints, part)
    return clip


@contextmanager
def opened_masking(
    spec: JobSpec,
    source: Path,
    clip: Clip,
    resources: Resources,
    *,
    cache: Path | None = None,
    span: Span | None = None,
    masker: ImageMasker | None = None,
    on_picked: OnPicked | None = None,
    change: PipelineChange | None = None,
) -> Iterator[Masking]:
    """Choose the stages for a clip: masks by the network, by ``masker``, or by a tracker.

    A tracker makes the masks if the spec names one, or has words. It uses no ``cache``.
    """
    if masker is not None or spec.chosen_tracker is not None:
        cache = None
    with ExitStack() as opened:
        store = opened.enter_context(opened_cache(cache, source, spec, resources, span))
        if masker is not None:
            masks = _Masks([Mask(masker, span)], "own masker")
        elif spec.chosen_tracker is not None:
            masks = _by_tracker(spec, source, clip, resources, span)
        else:
            workers = opened.enter_context(Workers())
            masks = _by_network(spec, source, clip, resources, span, store, workers, on_picked)
        behind: dict[int, Behind] = {}
        edges = Edges(ahead_frames(frame_bytes(clip), spec.quality))
        if spec.kind is not ResultKind.MASK and spec.quality is Quality.BEST:
            # With `behind`, estimating colours takes twice as long.
            edges = replace(edges, behind=behind)
        clip = replace(clip, warnings=(*clip.warnings, *masks.warnings))
        clip = excerpt_of(clip, spec.excerpt)
        made = _built(opened, spec, source, clip, resources.limits, span, masks, edges)
        if change is not None:
            made = replace(made, pipeline=change(made.pipeline))
        yield replace(made, behind=behind)


@contextmanager
def opened_stored(
    spec: JobSpec, source: Path, clip: Clip, limits: Limits, mask: Path, *, mask_is_excerpt: bool
) -> Iterator[Masking]:
    """Take the masks from the stored ``mask`` of ``clip``, or of its excerpt."""
    part = None if mask_is_excerpt else spec.excerpt
    clip = excerpt_of(clip, spec.excerpt)
    with ExitStack() as opened:
        stored = opened.enter_context(VideoReader(mask, part))
        masks = _Masks([Mask(partial(stored_masks, stored))], STORED_MASK, keeps_frames=True)
        yield _built(opened, spec, source, clip, limits, None, masks, Turn())


def _built(
    opened: ExitStack,
    spec: JobSpec,
    source: Path,
    clip: Clip,
    limits: Limits,
    span: Span | None,
    masks: _Masks,
    edges: Stage,
) -> Masking:
    """Put decoding in front of ``masks``, and pairing and ``edges`` behind them."""
    reader = opened.enter_context(VideoReader(source, spec.excerpt))
    ahead = queue_frames(clip)
    if masks.keeps_frames:
        kept = BoundedQueue[Frame](max(1, WINDOW_BYTES // frame_bytes(clip)))
        decode = Decode(span, kept)
        pair = Pair(kept, span)
    else:
        decode = Decode(span)
        pair = Pair(opened.enter_context(VideoReader(source, spec.excerpt)), span)
    stages = [
        decode,
        Queue(ahead),
        *masks.stages,
        Queue(2 * ahead),
        pair,
        edges,
        Queue(min(2, ahead)),
    ]
    return Masking(
        spec=spec,
        source=source,
        clip_file=ClipFile(source),
        clip=clip,
        limits=limits,
        span=span,
        pipeline=Pipeline(reader, stages),
        reader=reader,
        decode=decode,
        pair=pair,
        runtime=masks.runtime,
        work=masks.work,
        remarks=masks.remarks,
    )


def _by_network(
    spec: JobSpec,
    source: Path,
    clip: Clip,
    resources: Resources,
    span: Span | None,
    store: NetworkCache | None,
    workers: Workers,
    on_picked: OnPicked | None,
) -> _Masks:
    network = network_for(resources)
    tier = TIERS[spec.quality]
    guidance = None
    if spec.hints:
        opened = partial(VideoReader, source, spec.excerpt)
        finder = mask_finder_for(resources)
        size_px = upright_size(clip)
        guidance = guidance_of_frames(
            opened, spec.hints, size_px, network, spec.quality, finder, store
        )
    asks = store is None or not store.is_complete
    work = Work(1 / tier.stride, asks=asks, on_picked=on_picked)
    stages = network_stages(
        workers,
        network,
        tier,
        guidance=guidance,
        is_wanted=lambda image: span is None or span.holds(pts_of(image)),
        cache=store,
        observer=work,
        flows_ahead=3 * queue_frames(clip),
    )
    return _Masks(
        stages,
        network.runtime,
        keeps_frames=_keeps_frames(clip, spec.quality),
        work=work,
        warnings=() if guidance is None else remarks(guidance),
    )


def _by_tracker(
    spec: JobSpec, source: Path, clip: Clip, resources: Resources, span: Span | None
) -> _Masks:
    opened = partial(VideoReader, source, spec.excerpt)
    masker = tracked_masker(
        spec, resources, opened, upright_size(clip), flows_ahead=3 * queue_frames(clip)
    )
    return _Masks(
        [Mask(masker, span)],
        masker.runtime,
        keeps_frames=_keeps_frames(clip, spec.quality),
        work=masker.work,
        remarks=masker.remarks,
    )


def _keeps_frames(clip: Clip, quality: Quality) -> bool:
    return TIERS[quality].keeps_frames and LAG_FRAMES * frame_bytes(clip) <= WINDOW_BYTES


def queue_frames(clip: Clip) -> int:
    return max(1, min(4, _QUEUE_BYTES // frame_bytes(clip)))


def ahead_frames(bytes_per_frame: int, quality: Quality) -> int | None:
    """Return how many later frames a backdrop uses; None if the quality uses no backdrops."""
    if not TIERS[quality].uses_backdrop:
        return None
    return min(BACKDROP_REACH_FRAMES, _AHEAD_BYTES // bytes_per_frame)
