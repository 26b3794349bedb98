"""The trackers by name, as the entry points of this package give them to foremask."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from foremask.hints.kinds import Hint, words_of
from foremask.options import Device
from foremask.pipeline.trackers import Marked
from foremask.types import Image
from foremask.vision.temporal.grids import MaskAlpha
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.tier import TIERS
from foremask_trackers.files import TRACKERS, WORDS, TrackerName, folder_of
from foremask_trackers.tracked_masks import BACK_FRAMES, Finder, track_images
from foremask_trackers.tracker import Tracker

if TYPE_CHECKING:
    from foremask_trackers.words import WordFinder


@dataclass(frozen=True, slots=True)
class Named:
    """A `NamedTracker` of foremask."""

    name: TrackerName

    def folders(self, tracker_dir: Path | None) -> list[Path]:
        return [folder_of(files, tracker_dir) for files in (TRACKERS[self.name], WORDS)]

    def load(self, tracker_dir: Path | None, device: Device) -> "Loaded":
        folder = folder_of(TRACKERS[self.name], tracker_dir)
        from foremask_trackers.sam import SamTracker

        return Loaded(SamTracker(self.name, folder, device), tracker_dir, device)


class Loaded:
    """A `LoadedTracker` of foremask. What finds words is loaded with the first of them."""

    def __init__(self, tracker: Tracker, tracker_dir: Path | None, device: Device) -> None:
        self.runtime = tracker.runtime
        self._tracker = tracker
        self._tracker_dir = tracker_dir
        self._device = device

    def masker(
        self, marked: Marked, observer: Observer, remarks: list[str]
    ) -> Callable[[Iterable[Image]], Iterator[MaskAlpha]]:
        finder = self._finder(words_of(marked.hints))
        return partial(self._masks, marked, finder, observer, remarks)

    def _masks(
        self,
        marked: Marked,
        find: Finder | None,
        observer: Observer,
        remarks: list[str],
        images: Iterable[Image],
    ) -> Iterator[MaskAlpha]:
        last = [_nothing_found(marked.hints)]

        def on_begun(begun_on: int, masked_from: int) -> None:
            nonlocal last
            last = _followed_back(begun_on, masked_from)

        yield from track_images(
            images,
            self._tracker,
            TIERS[marked.quality],
            marked.marks_on,
            find=find,
            on_begun=on_begun,
            observer=observer,
            flows_ahead=marked.flows_ahead,
        )
        remarks += last

    def _finder(self, words: Sequence[str]) -> Finder | None:
        if not words:
            return None
        return partial(self._words.boxes, words=words)

    @cached_property
    def _words(self) -> "WordFinder":
        folder = folder_of(WORDS, self._tracker_dir)
        from foremask_trackers.words import WordFinder

        return WordFinder(folder, self._device)


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


SAM21_TINY: Final = Named("sam2.1-tiny")
SAM21_SMALL: Final = Named("sam2.1-small")
SAM21_BASE_PLUS: Final = Named("sam2.1-base-plus")
SAM21_LARGE: Final = Named("sam2.1-large")
EDGETAM: Final = Named("edgetam")
SAM3: Final = Named("sam3")
