"""Plans a masking: chooses the network, opens its cache, and learns from hints."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid
from foremask.facts import Clip, Span
from foremask.hints.kinds import check_hints, upright_size
from foremask.masking.hinting import guidance_of_frames, pts_of, remarks
from foremask.masking.report import Work
from foremask.masking.stored_mask import STORED_MASK, coded_masks, stored_masks
from foremask.masking.trackers import tracked_masker
from foremask.media.frames import Frame
from foremask.media.presets import check_result
from foremask.media.probe import check_length, excerpt_of, frame_bytes, probe
from foremask.media.reader import VideoReader
from foremask.options import JobSpec, Limits, Quality, Resources, ResultKind, unfinished_cache
from foremask.types import Alpha, Image, Levels
from foremask.vision.matting.backdrop import BACKDROP_REACH_FRAMES
from foremask.vision.matting.edges import refine
from foremask.vision.matting.foreground import Behind, behind_edges
from foremask.vision.matting.outline import resolve_outlines
from foremask.vision.network.finder import MaskFinder, Unmoved
from foremask.vision.network.kept_results import FileStore, NotACacheError, open_file_store
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import Network
from foremask.vision.temporal.frame_hints import Guidance
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import TIERS, Tier
from foremask.vision.temporal.windows import LAG_FRAMES, mask_images
from foremask.weights.catalogue import ISNET, model_path, sha256_of, spec_of

_MOST_BYTES: Final = 4 << 30  # limit for all caches in a directory
_SUFFIX: Final = ".cache"


def network_for(resources: Resources) -> Network:
    # Loading OpenVINO takes a fifth of the time in which a stored mask is written again.
    from foremask.vision.network.devices import network_at

    return network_at(resources.model or model_path(), resources.device)


def mask_finder_for(resources: Resources) -> MaskFinder:
    """What reads points and finds corrected masks again.

    Without IS-Net's weights beside the network's, this is `Unmoved`: corrections follow the flow.
    """
    folder = (resources.model or model_path()).parent
    if not ISNET.is_pulled(folder):
        return Unmoved()
    from foremask.vision.network.prompted import prompted_network

    return prompted_network(folder / ISNET.file_name)


@contextmanager
def opened_cache(
    path: Path | None, source: Path, spec: JobSpec, resources: Resources, span: Span | None = None
) -> Iterator[NetworkCache | None]:
    """Open the cache of network results at ``path``, or yield None if this is None.

    A file has the results for one clip or excerpt, quality, network and foremask version. A file
    with other results is replaced. A directory has a file for each combination; above 4 GiB
    in total, the least recently used files are deleted. A run that is stopped leaves a second file,
    ``.unfinished``, until the next run ends. Raises FieldInvalid if the file is no cache, and
    ModelUnavailable if the network's weights are missing.
    """
    if path is None:
        yield None
        return
    identity = _identity(source, spec, resources, span)
    in_folder = path.is_dir()
    if in_folder:
        name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        path /= f"{name}{_SUFFIX}"
    most_bytes = resources.cache_bytes
    unfinished = unfinished_cache(path)
    try:
        with ExitStack() as held:
            store = _opened_store(held, path, identity, most_bytes, replaces=in_folder)
            features = _opened_store(held, unfinished, identity, most_bytes, replaces=True)
            cache = NetworkCache(store, features)
            yield cache
            if cache.is_complete:
                features.drop()
                unfinished.unlink(missing_ok=True)
    except NotACacheError as error:
        remedy = "name another one"
        if in_folder:  # else each later run would fail too
            remedy = "they were deleted: run it again"
            with suppress(OSError):
                path.unlink(missing_ok=True)
                unfinished.unlink(missing_ok=True)
        raise FieldInvalid(f"{error}; {remedy}", param="cache") from None
    finally:
        if in_folder:
            with suppress(OSError):
                os.utime(path)  # time of the last use
            _trim(path.parent)


def _identity(
    source: Path, spec: JobSpec, resources: Resources, span: Span | None
) -> dict[str, str]:
    """What a cache of network results depends on."""
    model = resources.model or model_path()
    return {
        "foremask": version("foremask"),
        "source": sha256_of(source),
        "model": _model_digest(model, model.stat().st_mtime_ns),
        "spec": repr(spec_of(model)),
        "runtime": network_for(resources).runtime,
        "tier": repr(TIERS[spec.quality]),
        "part": repr((spec.excerpt, span)),
    }


def _opened_store(
    held: ExitStack, path: Path, identity: Mapping[str, object], most_bytes: int, *, replaces: bool
) -> FileStore:
    try:
        return held.enter_context(open_file_store(path, identity, most_bytes))
    except NotACacheError:
        if not replaces:
            raise
        with suppress(OSError):
            path.unlink()
        return held.enter_context(open_file_store(path, identity, most_bytes))


def _trim(directory: Path) -> None:
    """Delete the least recently used caches until the rest has at most `_MOST_BYTES`."""
    caches = []
    for each in directory.glob(f"*{_SUFFIX}*"):
        with suppress(FileNotFoundError):  # another process may have deleted it
            caches.append((each.stat(), each))
    total = sum(status.st_size for status, _ in caches)
    for status, path in sorted(caches, key=lambda each: each[0].st_mtime_ns):
        if total <= _MOST_BYTES:
            return
        with suppress(OSError):
            path.unlink()
            total -= status.st_size


@lru_cache(maxsize=4)
def _model_digest(path: Path, _changed_at: int) -> str:
    return sha256_of(path)


# Limits for decoded frames in memory. If frames that wait for masks need over `WINDOW_BYTES`
# (beyond 960x540 in 8-bit 4:2:0), `tee` would deadlock. So clips are decoded twice: docs/adr/0057.
WINDOW_BYTES: Final = 200_000_000
_QUEUE_BYTES: Final = 16_000_000  # Frames between two stages.
_AHEAD_BYTES: Final = 100_000_000  # Frames that wait for their backdrops.


type RoughMask = NDArray[Any]
"""An upright mask of any size: `Alpha`, or `Levels` if it comes from a stored mask."""

type ImageMasker = Callable[[Iterable[Image]], Iterator[RoughMask]]
"""Yields a mask for each image, in order; it may read ahead."""

type OnPicked = Callable[[list[PickedAnchor]], None]
"""Gets the anchors of each window, once they are decided."""

type Refiner = Callable[[Iterable[tuple[Frame, RoughMask]]], Iterator[tuple[Frame, Levels]]]
"""Yields masks of the size and coded orientation of their frames, in order; it may read ahead."""


def refine_edges(
    pairs: Iterable[tuple[Frame, Alpha]],
    ahead_frames: int | None = None,
    behind: dict[int, Behind] | None = None,
) -> Iterator[tuple[Frame, Levels]]:
    """The default `Refiner`: resolve soft edges by colour, then upsample the mask to the frame.

    ``behind`` gets the background behind each frame's soft edges, by frame index.
    """
    for frame, alpha, backdrop in resolve_outlines(pairs, ahead_frames):
        if behind is not None and backdrop is not None:
            behind[frame.index] = behind_edges(alpha, backdrop)
        coded = np.ascontiguousarray(frame.orientation.to_coded(alpha))
        yield frame, refine(coded, frame.luma())


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingPlan:
    """The functions that make the masks of one clip, and what they need.

    With ``decodes_once``, each decoded frame stays in memory until its mask is made. Otherwise the
    clip is decoded a second time, to pair frames with masks. The refiner puts the background behind
    each frame's soft edges into ``behind``, by frame index, if it estimates it. ``remarks`` gets
    warnings for the report from the masker while it runs.
    """

    spec: JobSpec
    source: Path
    clip: Clip
    limits: Limits
    span: Span | None
    masker: ImageMasker
    refiner: Refiner
    runtime: str
    decodes_once: bool = False
    work: Work = field(default_factory=Work)
    behind: dict[int, Behind] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def check_limits(self, frame: Frame) -> None:
        """Raise an error of `check_length` if the frames up to this one exceed the limits."""
        check_length(self.clip, self.limits, None, frame.index + 1)
        elapsed_s = frame.time_s
        if self.spec.excerpt is None:  # the times of an excerpt count from zero
            elapsed_s -= self.clip.start_s
        if elapsed_s > self.limits.max_duration_s:
            check_length(self.clip, self.limits, elapsed_s + 1 / (self.clip.fps or 1), None)


def checked_clip(source: Path, spec: JobSpec, limits: Limits) -> Clip:
    """Read the clip's properties. Raises an error if it cannot be masked or written."""
    clip = probe(source, limits, spec.excerpt)
    part = excerpt_of(clip, spec.excerpt)
    check_result(part, spec.form, spec.kind, limits.memory_bytes)
    check_hints(spec.hints, part)
    return clip


@contextmanager
def opened_plan(
    spec: JobSpec,
    source: Path,
    clip: Clip,
    resources: Resources,
    *,
    cache: Path | None = None,
    span: Span | None = None,
    masker: ImageMasker | None = None,
    refiner: Refiner | None = None,
    on_picked: OnPicked | None = None,
) -> Iterator[MaskingPlan]:
    """Plan the masking of ``clip`` by the network, by ``masker`` and ``refiner``, or by a tracker.

    A tracker makes the masks if the spec names one, or has words. It uses no ``cache``.
    """
    behind: dict[int, Behind] = {}
    ahead = ahead_frames(frame_bytes(clip), spec.quality)
    if refiner is None and spec.kind is not ResultKind.MASK and spec.quality is Quality.BEST:
        # With `behind`, estimating colours takes twice as long.
        refiner = partial(refine_edges, ahead_frames=ahead, behind=behind)
    by_tracker = masker is None and spec.chosen_tracker is not None
    if by_tracker:
        cache = None
    with opened_cache(cache, source, spec, resources, span) as store:
        plan = MaskingPlan(
            spec=spec,
            source=source,
            clip=clip,
            limits=resources.limits,
            span=span,
            masker=masker or no_masks,
            refiner=refiner or partial(refine_edges, ahead_frames=ahead),
            runtime="own masker",
            behind=behind,
        )
        if by_tracker:
            plan = _with_tracker(plan, resources)
        elif masker is None:
            plan = _with_network(plan, resources, store, on_picked)
        yield replace(plan, clip=excerpt_of(plan.clip, spec.excerpt))


def no_masks(_: Iterable[Image]) -> Iterator[RoughMask]:
    yield from ()


def _with_network(
    plan: MaskingPlan, resources: Resources, store: NetworkCache | None, on_picked: OnPicked | None
) -> MaskingPlan:
    spec = plan.spec
    clip = plan.clip
    network = network_for(resources)
    tier = TIERS[spec.quality]
    asks = store is None or not store.is_complete
    work = Work(1 / tier.stride, asks=asks, on_picked=on_picked)
    finder = mask_finder_for(resources)
    guidance = None
    if spec.hints:
        guidance = _guidance(plan, network, finder, store)
        clip = replace(clip, warnings=(*clip.warnings, *remarks(guidance)))
    masker = partial(
        mask_images,
        network=network,
        tier=tier,
        guidance=guidance,
        cache=store,
        is_wanted=lambda image: plan.span is None or plan.span.holds(pts_of(image)),
        observer=work,
        flows_ahead=3 * queue_frames(clip),
    )
    return replace(
        plan,
        clip=clip,
        masker=masker,
        runtime=network.runtime,
        decodes_once=_decodes_once(clip, tier),
        work=work,
    )


def _guidance(
    plan: MaskingPlan, network: Network, finder: MaskFinder, store: NetworkCache | None
) -> Guidance:
    spec = plan.spec
    opened = partial(VideoReader, plan.source, spec.excerpt)
    size_px = upright_size(plan.clip)
    return guidance_of_frames(opened, spec.hints, size_px, network, spec.quality, finder, store)


def _with_tracker(plan: MaskingPlan, resources: Resources) -> MaskingPlan:
    clip = plan.clip
    opened = partial(VideoReader, plan.source, plan.spec.excerpt)
    masker = tracked_masker(
        plan.spec, resources, opened, upright_size(clip), flows_ahead=3 * queue_frames(clip)
    )
    return replace(
        plan,
        masker=masker,
        runtime=masker.runtime,
        decodes_once=_decodes_once(clip, TIERS[plan.spec.quality]),
        work=masker.work,
        remarks=masker.remarks,
    )


def _decodes_once(clip: Clip, tier: Tier) -> bool:
    return tier.keeps_frames and LAG_FRAMES * frame_bytes(clip) <= WINDOW_BYTES


@contextmanager
def plan_of_stored_mask(
    spec: JobSpec, source: Path, clip: Clip, limits: Limits, mask: Path, *, mask_is_excerpt: bool
) -> Iterator[MaskingPlan]:
    """Plan a run with the stored ``mask`` of ``clip``, or of its excerpt."""
    part = None if mask_is_excerpt else spec.excerpt
    with VideoReader(mask, part) as masks:
        yield MaskingPlan(
            spec=spec,
            source=source,
            clip=excerpt_of(clip, spec.excerpt),
            limits=limits,
            span=None,
            masker=partial(stored_masks, masks),
            refiner=coded_masks,
            runtime=STORED_MASK,
            decodes_once=True,
        )


def queue_frames(clip: Clip) -> int:
    return max(1, min(4, _QUEUE_BYTES // frame_bytes(clip)))


def ahead_frames(bytes_per_frame: int, quality: Quality) -> int | None:
    """Return how many later frames a backdrop uses; None if the quality uses no backdrops."""
    if not TIERS[quality].uses_backdrop:
        return None
    return min(BACKDROP_REACH_FRAMES, _AHEAD_BYTES // bytes_per_frame)
