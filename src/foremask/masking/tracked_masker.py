"""Masks by a tracker: chooses and loads it, and brings a job's marks and words to it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from foremask.hints.kinds import Hint, words_of
from foremask.masking.hinting import marks_of_frame, marks_of_frames, pts_of
from foremask.masking.report import Work
from foremask.media.frames import Frame
from foremask.options import DEFAULT_TRACKER, Device, JobSpec, Resources, TrackerName
from foremask.types import Image
from foremask.vision.temporal.frame_hints import Mark
from foremask.vision.temporal.grids import MaskAlpha
from foremask.vision.temporal.tier import BLOCK_FRAMES, TIERS, Tier
from foremask.vision.tracking.tracked_masks import BACK_FRAMES, Finder, track_images
from foremask.vision.tracking.tracker import Tracker
from foremask.weights.trackers import TRACKERS, WORDS, folder_of

if TYPE_CHECKING:
    from foremask.vision.tracking.words import WordFinder


@dataclass(slots=True)
class TrackedMasker:
    """Makes the coarse masks of a clip's images by a tracker, as `mask_images` by the network.

    ``remarks`` gets warnings for the report with the last mask.
    """

    tracker: Tracker
    tier: Tier
    hints: Sequence[Hint]
    marks: Mapping[int, Sequence[Mark]]  # by pts
    find: Finder | None = None
    flows_ahead: int = BLOCK_FRAMES
    work: Work = field(default_factory=Work)
    remarks: list[str] = field(default_factory=list)

    @property
    def runtime(self) -> str:
        return self.tracker.runtime

    def __call__(self, images: Iterable[Image]) -> Iterator[MaskAlpha]:
        remarks = [_nothing_found(self.hints)]

        def on_begun(begun_on: int, masked_from: int) -> None:
            nonlocal remarks
            remarks = _followed_back(begun_on, masked_from)

        yield from track_images(
            images,
            self.tracker,
            self.tier,
            lambda image: self.marks.get(pts_of(image), ()),
            find=self.find,
            on_begun=on_begun,
            observer=self.work,
            flows_ahead=self.flows_ahead,
        )
        self.remarks += remarks


def tracked_masker(
    spec: JobSpec,
    resources: Resources,
    opened: Callable[[], AbstractContextManager[Iterable[Frame]]],
    size_px: tuple[int, int],
    flows_ahead: int = BLOCK_FRAMES,
) -> TrackedMasker:
    """Load the job's tracker, and find the frames of its hints among those that are ``opened``.

    Raises ModelUnavailable, with the remedy, and FieldInvalid for a hint after the last frame.
    """
    return TrackedMasker(
        tracker=tracker_for(spec, resources),
        tier=TIERS[spec.quality],
        hints=spec.hints,
        marks=marks_of_frames(opened, spec.hints, size_px),
        find=finder_for(spec, resources),
        flows_ahead=flows_ahead,
    )


def tracked_masker_of_picture(spec: JobSpec, resources: Resources, frame: Frame) -> TrackedMasker:
    """As `tracked_masker`, for one picture: all hints are on it, also those that name frames."""
    return TrackedMasker(
        tracker=tracker_for(spec, resources),
        tier=TIERS[spec.quality],
        hints=spec.hints,
        marks={frame.pts: marks_of_frame(frame, spec.hints)},
        find=finder_for(spec, resources),
    )


def tracker_for(spec: JobSpec, resources: Resources) -> Tracker:
    """Load the job's tracker; the last one is cached. Raises ModelUnavailable."""
    return load_tracker(spec.chosen_tracker or DEFAULT_TRACKER, resources)


def load_tracker(name: TrackerName, resources: Resources) -> Tracker:
    """Load a tracker; the last one is cached. Raises ModelUnavailable."""
    return _loaded(name, folder_of(TRACKERS[name], resources.tracker_dir), resources.device)


def forget_trackers() -> None:
    """Free the memory of the cached tracker, and of what finds words."""
    _loaded.cache_clear()
    _loaded_words.cache_clear()


def finder_for(spec: JobSpec, resources: Resources) -> Finder | None:
    """Load what finds the job's words on a frame; None without words. Raises ModelUnavailable."""
    words = words_of(spec.hints)
    if not words:
        return None
    network = _loaded_words(folder_of(WORDS, resources.tracker_dir), resources.device)
    return lambda image: network.boxes(image, words)


def _nothing_found(hints: Sequence[Hint]) -> str:
    words = " or ".join(f'"{text}"' for text in words_of(hints))
    return f"nothing in the clip was found for {words or 'the hints'}: the mask is empty"


def _followed_back(begun_on: int, masked_from: int) -> list[str]:
    if not masked_from:
        return []
    return [
        f"what is marked begins on frame {begun_on}, and was followed back to frame"
        f" {masked_from}: the masks before it are empty (at most {BACK_FRAMES} frames, and"
        " no cut, are followed back)"
    ]


@lru_cache(maxsize=1)
def _loaded(name: TrackerName, folder: Path, device: Device) -> Tracker:
    from foremask.vision.tracking.sam import SamTracker

    return SamTracker(name, folder, device)


@lru_cache(maxsize=1)
def _loaded_words(folder: Path, device: Device) -> "WordFinder":
    from foremask.vision.tracking.words import WordFinder

    return WordFinder(folder, device)
