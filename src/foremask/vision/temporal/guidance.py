"""Hints on some frames, and what they change in all frames of a clip.

The masks are decided as without hints. Then things that hints choose or ban are followed, and the
places that hints correct are evidence that is passed on along the flow. Source: docs/adr/0050.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Levels
from foremask.vision.temporal.correction import Shown, corrected_sides
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.regions import FOREGROUND, Link
from foremask.vision.temporal.things import NEITHER, sides
from foremask.vision.temporal.verdict import MOST_LOG_ODDS, along_flow

CLAIM = 14.0  # log odds on a hinted frame
LEAVING = 0.002  # chance that a pixel leaves a claimed place between two anchors, with full trust
SPOKEN = 0.05  # least log odds at which a correction counts
LEAST_DECIDED = 2.0  # log odds of what was decided
OUTLINE_PX = 2  # of the tracks' grid: how far the flow may be wrong at an outline


@dataclass(frozen=True, slots=True)
class Guidance:
    """The hints on the frames of a clip; ``key_of`` identifies an image among them.

    ``brought`` has, by the number of an earlier frame, 255 on what is chosen and 0 on what is out.
    """

    frames: Mapping[Hashable, FrameHints]
    key_of: Callable[[Image], Hashable]
    brought: Mapping[int, Levels] = field(default_factory=dict)

    def on(self, image: Image) -> FrameHints | None:
        """The hints on this image, if there are some."""
        return self.frames.get(self.key_of(image))

    def brought_to(self, frame: int, grid: tuple[int, int]) -> Alpha | None:
        """1 on what hints on later frames choose, -1 on what they ban, else `NEITHER`.

        None where that is not known.
        """
        levels = self.brought.get(frame)
        if levels is None:
            return None
        large = cv2.resize(levels, grid, interpolation=cv2.INTER_NEAREST)
        side = (large > 191).astype(np.float32) - (large < 64).astype(np.float32)
        return np.where(side == 0, np.float32(NEITHER), side)

    @property
    def follows_things(self) -> bool:
        """Whether hints choose or ban things, rather than only correct places of a mask."""
        return any(each.followed is not None for each in self.frames.values())


@dataclass(frozen=True, slots=True)
class Hinted:
    """What hints have changed on an anchor.

    ``side`` is 1 on things that they choose and -1 on those that they ban; ``plane`` has the log
    odds of their corrections.
    """

    side: Alpha
    plane: Alpha


def hinted_window(
    frames: Sequence[FrameHints | None],
    first: Hinted | None,
    brought: Sequence[Alpha | None],
    shown: Sequence[Shown],
    links: Sequence[Mapping[int, Link]],
) -> list[Hinted]:
    """What hints change on the anchors of a window.

    ``first`` is how the window before decided this one's first anchor, and ``brought`` has for each
    anchor what a hint in a later window says of it: so hints act on the whole shot.
    """
    followed = [None if each is None else each.followed for each in frames]
    if not any(each is not None for each in followed):
        followed = list(brought)
    nothing = np.zeros(shown[0].mask.shape, np.float32)
    evidence = [nothing if each is None else each.marked for each in frames]
    if first is not None:
        followed[0] = first.side if followed[0] is None else followed[0]
        passed_on = first.plane / np.float32(CLAIM)
        evidence[0] = np.where(evidence[0] == 0, passed_on, evidence[0])
    found = [nothing] * len(frames)
    if any(each is not None for each in followed):
        found = sides([_picked(each) for each in shown], followed, links)
    for index, (hints, frame) in enumerate(zip(frames, shown, strict=True)):
        if hints is not None:
            corrected = corrected_sides(hints.corrections, frame)
            evidence[index] = np.where(corrected == 0, evidence[index], corrected)
    claims = [np.float32(CLAIM) * each for each in evidence]
    planes = along_flow(claims, links, [each.logit for each in shown], LEAVING)
    return [Hinted(*each) for each in zip(found, planes, strict=True)]


def with_hints(shown: Shown, hinted: Hinted) -> tuple[Alpha, NDArray[np.bool_]]:
    """The log odds of a mask after hints, and where they differ from it."""
    inside = np.clip(shown.log_odds, LEAST_DECIDED, MOST_LOG_ODDS)
    outside = np.clip(shown.log_odds, -MOST_LOG_ODDS, -LEAST_DECIDED)
    decided = np.where(shown.mask > FOREGROUND, inside, outside)
    banned = (hinted.side < 0).astype(np.uint8)
    reach = np.ones((2 * OUTLINE_PX + 1, 2 * OUTLINE_PX + 1), np.uint8)
    out = (cv2.dilate(banned, reach) > 0) & (hinted.side <= 0)
    taken = (hinted.side > 0) & (shown.mask <= FOREGROUND)
    named = np.where(out, np.float32(-CLAIM), np.float32(CLAIM) * taken)
    log_odds = np.where(named == 0, decided + hinted.plane, named).astype(np.float32)
    return log_odds, (named != 0) | (np.abs(hinted.plane) > SPOKEN)


def _picked(shown: Shown) -> NDArray[np.bool_]:
    """What is in the mask, and things that the network has and no decision took for the subject."""
    inside = shown.mask > FOREGROUND
    found = np.mean(shown.opinions, axis=0) > FOREGROUND
    count, labels = cv2.connectedComponents(found.astype(np.uint8))
    touches = np.bincount(np.ravel(labels[inside]), minlength=count) > 0
    return np.asarray(inside | ((labels > 0) & ~touches[labels]))
