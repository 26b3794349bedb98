"""The seam to trackers: networks of other packages that follow what a person marks or names.

Each entry point of the group `foremask.trackers` is the name of a tracker and loads a
`NamedTracker`; `integrations/trackers` is such a package. None is imported before it is asked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol

from foremask.errors import ModelUnavailable
from foremask.hints.kinds import Hint
from foremask.media.frames import Frame
from foremask.options import DEFAULT_TRACKER, Device, JobSpec, Quality, Resources
from foremask.pipeline.hinting import marks_of_frame, marks_of_frames
from foremask.pipeline.images import pts_of
from foremask.pipeline.progress import Work
from foremask.types import Image
from foremask.vision.temporal.frame_hints import Mark
from foremask.vision.temporal.grids import MaskAlpha
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.tier import BLOCK_FRAMES

GROUP: Final = "foremask.trackers"
INSTALL: Final = "pip install ./integrations/trackers"  # in a copy of foremask's repository


@dataclass(frozen=True, slots=True)
class Marked:
    """What a tracker follows through a clip, and how closely."""

    hints: Sequence[Hint]
    marks: Mapping[int, Sequence[Mark]]  # by pts
    quality: Quality
    flows_ahead: int = BLOCK_FRAMES

    def marks_on(self, image: Image) -> Sequence[Mark]:
        return self.marks.get(pts_of(image), ())


class LoadedTracker(Protocol):
    @property
    def runtime(self) -> str:
        """The tracker's name and device, for the report."""
        ...

    def masker(
        self, marked: Marked, observer: Observer, remarks: list[str]
    ) -> Callable[[Iterable[Image]], Iterator[MaskAlpha]]:
        """Return what yields one mask for each image of a clip, in order.

        ``observer`` is told of each mask that the network makes. ``remarks`` gets warnings for the
        report with the last mask. Raises ModelUnavailable if what finds words is not here.
        """
        ...


class NamedTracker(Protocol):
    def folders(self, tracker_dir: Path | None) -> Sequence[Path]:
        """Return the folders that a run reads. Raises ModelUnavailable, with the remedy."""
        ...

    def load(self, tracker_dir: Path | None, device: Device) -> LoadedTracker:
        """Load the network. Raises ModelUnavailable, with the remedy."""
        ...


class TrackedMasker:
    """Makes the coarse masks of a clip's images by a tracker, as `mask_images` by the network."""

    def __init__(self, tracker: LoadedTracker, marked: Marked) -> None:
        self.runtime = tracker.runtime
        self.work = Work()
        self.remarks: list[str] = []
        self._masks = tracker.masker(marked, self.work, self.remarks)

    def __call__(self, images: Iterable[Image]) -> Iterator[MaskAlpha]:
        return self._masks(images)


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
    tracker = tracker_for(spec, resources)
    marks = marks_of_frames(opened, spec.hints, size_px)
    return TrackedMasker(tracker, Marked(spec.hints, marks, spec.quality, flows_ahead))


def tracked_masker_of_picture(spec: JobSpec, resources: Resources, frame: Frame) -> TrackedMasker:
    """As `tracked_masker`, for one picture: all hints are on it, also those that name frames."""
    marks = {frame.pts: marks_of_frame(frame, spec.hints)}
    marked = Marked(spec.hints, marks, spec.quality)
    return TrackedMasker(tracker_for(spec, resources), marked)


def tracker_for(spec: JobSpec, resources: Resources) -> LoadedTracker:
    """Load the job's tracker; the last one is cached. Raises ModelUnavailable."""
    return load_tracker(spec.chosen_tracker or DEFAULT_TRACKER, resources)


def load_tracker(name: str, resources: Resources) -> LoadedTracker:
    """Load a tracker; the last one is cached. Raises ModelUnavailable."""
    return _loaded(name, resources.tracker_dir, resources.device)


def forget_trackers() -> None:
    """Free the memory of the cached tracker."""
    _loaded.cache_clear()


def tracker_folders(names: Sequence[str], tracker_dir: Path) -> list[Path]:
    """The folders that a process reads which runs these trackers. Raises ModelUnavailable."""
    folders = [each for name in names for each in _named(name).folders(tracker_dir)]
    return list(dict.fromkeys(folders))


@lru_cache(maxsize=1)
def _loaded(name: str, tracker_dir: Path | None, device: Device) -> LoadedTracker:
    return _named(name).load(tracker_dir, device)


def _named(name: str) -> NamedTracker:
    trackers = {each.name: each for each in entry_points(group=GROUP)}
    if not trackers:
        raise ModelUnavailable(
            f"no tracker is installed, {name} neither: `{INSTALL}` in a copy of foremask's"
            " repository brings SAM 2.1, EdgeTAM and SAM 3"
        )
    if name not in trackers:
        known = ", ".join(sorted(trackers))
        raise ModelUnavailable(f"there is no tracker {name}: {known} are installed")
    try:
        tracker: NamedTracker = trackers[name].load()
    except (ImportError, AttributeError) as error:
        raise ModelUnavailable(f"the tracker {name} cannot be imported: {error}") from error
    return tracker
