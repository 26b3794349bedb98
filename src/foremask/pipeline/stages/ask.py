"""Asks the network about some frames of each shot, and hands on the frames window by window.

A window of frames begins at a multiple of `WINDOW_FRAMES` or at a cut. Its anchors are decided
together with those in the `CONTEXT_FRAMES` before and after it. Other frames change its masks only
by hints. So a window read with only its context gets the same masks as in the clip (docs/adr/0157).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from foremask.facts import SEGMENT_GRID
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import Features
from foremask.vision.network.opinions import View
from foremask.vision.stopping import StoppedError
from foremask.vision.temporal.anchors import Window
from foremask.vision.temporal.appearance import Appearance
from foremask.vision.temporal.blocks import Asking, Blocks
from foremask.vision.temporal.cuts import DELAY_FRAMES, IncomingFrame
from foremask.vision.temporal.decision import is_decided
from foremask.vision.temporal.grids import MaskLevels
from foremask.vision.temporal.tier import BLOCK_FRAMES, CONTEXT_FRAMES

WINDOW_FRAMES: Final = SEGMENT_GRID.window_frames
LAG_FRAMES: Final = WINDOW_FRAMES + CONTEXT_FRAMES + 3 * BLOCK_FRAMES + DELAY_FRAMES
"""At most this many images are read after an image before its mask is yielded."""


class Ask:
    """Yields windows of wanted frames in order, once the network has answered about their anchors.

    Wanted frames are consecutive; those before and after them are context. With ``finishes_cache``,
    the cache is complete after the last window.
    """

    name = "ask"

    def __init__(self, asking: Asking, *, finishes_cache: bool = True) -> None:
        self._asking = asking
        self._finishes_cache = finishes_cache

    def __call__(self, frames: Iterator[IncomingFrame], /) -> Iterator[Window]:
        shot: _Shot | None = None
        end: int | None = None  # number of the first image after the wanted images
        try:
            for incoming in frames:
                number = incoming.number
                if end is None and number >= 0 and not incoming.is_wanted:
                    end = number
                if number < -CONTEXT_FRAMES or (end is not None and number > end + CONTEXT_FRAMES):
                    continue
                if shot is None or incoming.frame_flow.to_previous is None:
                    if shot is not None:
                        yield from _wanted(shot.rest(is_last=False), end)
                    shot = _Shot(self._asking, incoming)
                else:
                    yield from _wanted(shot.add(incoming), end)
            if shot is not None:
                yield from _wanted(shot.rest(is_last=True), end)
                if self._finishes_cache:
                    self._asking.cache.finish()
        except (StoppedError, GeneratorExit):
            if shot is not None:
                shot.keep()
            raise


def _wanted(windows: Iterator[Window], end: int | None) -> Iterator[Window]:
    """The windows that make masks of frames before ``end``, and of no others.

    A generator would hold each window while the next one is asked about.
    """
    return filter(_makes_masks, map(partial(_before, end), windows))


def _before(end: int | None, window: Window) -> Window:
    stop = min(window.own.stop, max(window.steps) + 1)
    if end is not None:
        stop = min(stop, end)
    return replace(window, own=range(window.own.start, stop))


def _makes_masks(window: Window) -> bool:
    return len(window.own) > 0


class _Shot:
    """Asks the network about the frames of a shot, and yields its windows in order."""

    def __init__(self, asking: Asking, first: IncomingFrame) -> None:
        self._number = first.number
        self._cache = asking.cache
        self._open = _OpenWindows(asking.cache)
        here = first.number // WINDOW_FRAMES
        self._open.add(here, first.number)
        if first.number >= (here + 1) * WINDOW_FRAMES - CONTEXT_FRAMES:
            self._open.add(here + 1, first.number)
        # Blocks know the open windows and not the shot: a reference cycle would delay freeing them.
        self._blocks = Blocks(
            asking, first, self._open.collect, self._open.repeat, self._open.kept_opinions
        )

    def add(self, incoming: IncomingFrame) -> Iterator[Window]:
        """Add a frame; yield the window whose anchors have all been asked with it, if any.

        The window is open until the next one is wanted, so that `keep` knows it meanwhile.
        """
        at = incoming.number
        opens_window = at % WINDOW_FRAMES == WINDOW_FRAMES - CONTEXT_FRAMES
        if opens_window:
            self._open.add(at // WINDOW_FRAMES + 1, at)
        if not self._blocks.add(incoming):
            return
        if opens_window or at % WINDOW_FRAMES == 0:
            self._blocks.restart_budget()  # every window gets the same budget of anchors
        windows = self._open.windows
        if windows[0].own.stop + CONTEXT_FRAMES == at:
            yield self._asked(windows[0])
            del windows[0]
            self._blocks.forget(windows[0].first)

    def rest(self, *, is_last: bool) -> Iterator[Window]:
        """End the shot and yield its other windows; the last two of a clip are one."""
        self._blocks.finish()
        windows = self._open.windows
        if is_last and len(windows) > 1:
            last = windows.pop()
            windows[0] = replace(windows[0], own=range(windows[0].own.start, last.own.stop))
        for window in windows:
            yield self._asked(window)

    def keep(self) -> None:
        """Keep what the next run needs to decide the undecided windows without the network."""
        for window in self._open.windows:
            if not is_decided(window.name, self._cache):
                window.appearance.keep()

    def _asked(self, window: "_OpenWindow") -> Window:
        steps = {at: each for at, each in self._blocks.steps.items() if at >= window.first}
        frames = sorted(at for at in self._blocks.anchors if at >= window.first)
        anchors = {at: self._blocks.anchors[at] for at in frames}
        return Window(
            name=window.name,
            shot=self._number,
            own=window.own,
            grids=self._blocks.grids,
            steps=steps,
            anchors=anchors,
            appearance=window.appearance,
        )


@dataclass(frozen=True, slots=True)
class _OpenWindow:
    """A window, from frame ``first`` on, whose frames arrive; it makes the masks of ``own``."""

    name: str
    first: int
    own: range
    appearance: Appearance


class _OpenWindows:
    """The open windows of a shot; a frame near the border of two windows is in both."""

    def __init__(self, cache: NetworkCache) -> None:
        self._cache = cache
        self.windows: list[_OpenWindow] = []

    def add(self, number: int, first: int) -> None:
        if number >= 0:
            own = range(max(first, number * WINDOW_FRAMES), (number + 1) * WINDOW_FRAMES)
            name = f"{first}:{own.start}"
            appearance = Appearance(name, self._cache.unfinished)
            self.windows.append(_OpenWindow(name, first, own, appearance))

    def collect(self, frame: int, features: Features) -> None:
        """Give the network's features of a frame to the classifiers of its windows."""
        for window in self._around(frame):
            window.appearance.learn(frame, features)

    def repeat(self, frame: int, before: int) -> bool:
        """Give a frame the features of one that it repeats; False if a window of it lacks them."""
        around = self._around(frame)
        if not all(window.appearance.knows(before) for window in around):
            return False
        for window in around:
            window.appearance.repeat(frame, before)
        return True

    def kept_opinions(self, frame: int) -> dict[View, MaskLevels]:
        """An earlier run's opinions of a frame; none if a classifier still needs its features."""
        around = self._around(frame)
        if any(is_decided(window.name, self._cache) for window in around):
            self._cache.kept(f"{frame}/{View.STRETCHED}")  # raises if the anchor is missing
        for window in around:
            if not (is_decided(window.name, self._cache) or window.appearance.recall(frame)):
                return {}
        return self._cache.opinions(f"{frame}")

    def _around(self, frame: int) -> list[_OpenWindow]:
        return [window for window in self.windows if frame >= window.first]
