"""Hints on some frames, and what they decide in all frames of a clip.

Claims are propagated along the flow between anchors as log odds of the subject, region by region,
and their pixels train the classifier of every window. Source: docs/adr/0050.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Alpha, Image, Levels
from foremask.vision.resample import resized
from foremask.vision.temporal.appearance import HintedPixels
from foremask.vision.temporal.correction import Shown, corrected_sides
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.regions import (
    FOREGROUND,
    Link,
    Regions,
    Scene,
    forward_backward,
    transition,
)
from foremask.vision.temporal.things import NEITHER, rest_of_parts, sides

CLAIM = 14.0  # log odds on a hinted frame
SWITCH = 0.002  # chance that a pixel becomes another thing between two anchors, with full trust
MOST_PROPAGATED = 6.0  # log odds of a region that keeps its pixels
CLEAR = 2.0  # log odds from which a mask is changed before the classifier learns from it
HELD = 4.0  # mean log odds in a region from which it is decided as a whole
DECISIVE = 2.0  # weight of a hint's log odds against the network's
TAUGHT = 0.25  # log odds of a region for each logit of the classifier, an anchor
MOST_TAUGHT = 3.0  # logits
SPOKEN = 0.05  # least log odds at which a correction counts
SURE = 2.0, 6.0  # log odds of what was decided, at least and at most
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
    def only_hinted(self) -> bool:
        """Whether a hint chooses a thing, so that what no hint reaches is not the subject."""
        return any(each.chooses for each in self.frames.values())

    @property
    def names_things(self) -> bool:
        """Whether hints choose or ban things, rather than only correct places of a mask."""
        return any(each.claims.any() for each in self.frames.values())

    @property
    def teaches_bans(self) -> bool:
        """Whether things are out as a whole, and none of them looks like another one."""
        banned = [each for each in self.frames.values() if each.followed is not None]
        return not self.only_hinted and all((each.training < 0).any() for each in banned)

    @property
    def pixels(self) -> list[HintedPixels]:
        """The pixels that train the classifier of every window."""
        return [each.pixels for each in self.frames.values()]


@dataclass(frozen=True, slots=True)
class Hinted:
    """How hints decided an anchor: log odds, and 1 or -1 on things that they choose or ban."""

    log_odds: Alpha
    side: Alpha


@dataclass(frozen=True, slots=True)
class _Parts:
    """The regions of one anchor, and which of them any opinion takes for foreground."""

    regions: Regions
    found: NDArray[np.bool_]

    @classmethod
    def of(cls, opinions: Sequence[Alpha]) -> "_Parts":
        regions = Regions.of(opinions)
        return cls(regions, regions.mean(np.max(opinions, axis=0)) > FOREGROUND)


def propagated(
    claims: Sequence[Alpha], links: Sequence[Mapping[int, Link]], parts: Sequence[_Parts]
) -> list[Alpha]:
    """For each anchor the log odds of the subject, from evidence on any of them.

    A region that its pixels agree on is propagated as a whole, so it loses nothing at its outline,
    where flow is seldom trusted.
    """
    return forward_backward(
        claims, links, lambda moved, link, here, _: _agreed(moved, link.trust, parts[here])
    )


def _agreed(log_odds: Alpha, trust: Alpha, parts: _Parts) -> Alpha:
    """What is propagated here: one value where most of a region agrees, else each pixel's own."""
    pixels = transition(log_odds, trust, SWITCH)
    regions = parts.regions
    weights = regions.mean(trust)
    values = regions.mean(np.clip(log_odds, -MOST_PROPAGATED, MOST_PROPAGATED) * trust)
    values /= np.maximum(weights, 1e-3)
    supported = (weights > 0.05) & (np.abs(values) > HELD) & parts.found
    whole = regions.spread(np.where(supported, values, 0).astype(np.float32))
    return np.where(regions.spread(supported.astype(np.float32)) > 0, whole, pixels)


class WindowHints:
    """The changes that hints make in one window; none without a guidance.

    ``first`` is how the window before decided this one's first anchor, and ``brought`` has for each
    anchor what a hint in a later window says of it: so hints act on the whole shot.
    """

    def __init__(
        self,
        guidance: Guidance | None,
        frames: Sequence[FrameHints | None],
        first: Hinted | None,
        brought: Sequence[Alpha | None],
        links: Sequence[Mapping[int, Link]],
        grid: tuple[int, int],
    ) -> None:
        self._guidance, self._frames = guidance, frames
        self._links, self._grid = links, grid
        self._claims = [None if each is None else each.claims for each in frames]
        self._followed = [None if each is None else each.followed for each in frames]
        if not any(each is not None for each in self._followed):
            self._followed = list(brought)
        if first is not None and self._claims[0] is None:
            sure = np.abs(first.log_odds) > HELD
            self._claims[0] = np.where(sure, np.sign(first.log_odds), 0).astype(np.float32)
        if first is not None and self._followed[0] is None:
            self._followed[0] = first.side
        self._sides: list[Alpha] = []
        self._log_odds: list[Alpha] = []

    @property
    def hinted(self) -> list[Hinted]:
        """How each anchor was decided; none where no hint acts."""
        return [Hinted(*each) for each in zip(self._log_odds, self._sides, strict=True)]

    @property
    def pixels(self) -> list[HintedPixels]:
        """The pixels that train the classifier."""
        return [] if self._guidance is None else self._guidance.pixels

    def cleaned(
        self, masks: Sequence[Levels], opinions: Sequence[Sequence[Levels]]
    ) -> list[Levels]:
        """Masks without what hints deny and with what they claim.

        The classifier is trained on them.
        """
        masks = self._without_banned(masks)
        if not any(each is not None for each in self._frames):
            return masks
        parts = [
            _Parts.of([resized(each, *self._grid) * np.float32(1 / 255) for each in some])
            for some in opinions
        ]
        nothing = np.zeros(self._grid[::-1], np.float32)
        evidence = [
            nothing if each is None else np.float32(CLAIM) * each.training for each in self._frames
        ]
        result = []
        for mask, hint in zip(masks, propagated(evidence, self._links, parts), strict=True):
            stated = resized(hint, *mask.shape[::-1])
            kept = np.where(stated < -CLEAR, 0, mask)
            result.append(np.where(stated > CLEAR, 255, kept).astype(np.uint8))
        return result

    def _without_banned(self, masks: Sequence[Levels]) -> list[Levels]:
        """Masks without things that are out as a whole, where others look unlike these."""
        if self._guidance is None or not self._guidance.teaches_bans or not self._is_followed:
            return list(masks)
        picked = [resized(each, *self._grid) > 127 for each in masks]
        reach = np.ones((2 * OUTLINE_PX + 1, 2 * OUTLINE_PX + 1), np.uint8)
        result = []
        for mask, side in zip(masks, sides(picked, self._followed, self._links), strict=True):
            out = cv2.dilate((side < 0).astype(np.uint8), reach)
            kept = cv2.resize(out, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) == 0
            result.append(np.where(kept, mask, 0).astype(np.uint8))
        return result

    @property
    def _is_followed(self) -> bool:
        return any(each is not None for each in self._followed)

    def applied(self, log_odds: Sequence[Alpha], scenes: Sequence[Scene]) -> list[Alpha]:
        """The verdicts after hints."""
        if self._guidance is None:
            return list(log_odds)
        parts = [_Parts.of(list(scene.opinions.values())) for scene in scenes]
        evidence = [
            _evidence(scene, part, claims)
            for scene, part, claims in zip(scenes, parts, self._claims, strict=True)
        ]
        self._sides = [np.zeros(verdict.shape, np.float32) for verdict in log_odds]
        if self._is_followed:
            picked = [verdict > 0 for verdict in log_odds]
            self._sides = sides(picked, self._followed, self._links)
            for index, side in enumerate(self._sides):
                evidence[index][rest_of_parts(picked[index], side)] = CLAIM
                followed = np.where(side != 0, np.float32(CLAIM) * side, evidence[index])
                evidence[index] = followed.astype(np.float32)
        self._log_odds = propagated(evidence, self._links, parts)
        results = []
        for verdict, hint in zip(log_odds, self._log_odds, strict=True):
            if self._guidance.only_hinted:
                unreached = np.minimum(verdict, np.float32(-1))
                verdict = np.where(hint < -CLEAR, unreached, verdict).astype(np.float32)
            stated = np.where((hint > 0) & _outline(verdict, hint), 0, hint)
            results.append((verdict + np.float32(DECISIVE) * stated).astype(np.float32))
        return results


def _evidence(scene: Scene, part: _Parts, claims: Alpha | None) -> Alpha:
    """Log odds by the classifier, region by region, and by the hints on this very anchor."""
    logit = part.regions.mean(np.clip(scene.logit, -MOST_TAUGHT, MOST_TAUGHT))
    stated = np.float32(TAUGHT) * logit
    plane = part.regions.spread(np.where(part.found, stated, 0).astype(np.float32))
    if claims is None:
        return plane
    return np.where(claims != 0, np.float32(CLAIM) * claims, plane).astype(np.float32)


def _outline(verdict: Alpha, hint: Alpha) -> NDArray[np.bool_]:
    """A band just outside the subject: there the network is better than the flow."""
    inside = (verdict > 0) & (hint > 0)
    reach = np.ones((2 * OUTLINE_PX + 1, 2 * OUTLINE_PX + 1), np.uint8)
    return np.asarray((cv2.dilate(inside.astype(np.uint8), reach) > 0) & (verdict <= 0))


class WindowCorrections:
    """What correcting points change: near them, and where the flow leads from there.

    What no correction reaches stays as it was, to the byte. ``first`` has the log odds by which the
    window before has corrected this one's first anchor.
    """

    def __init__(
        self,
        frames: Sequence[FrameHints | None],
        first: Alpha | None,
        links: Sequence[Mapping[int, Link]],
    ) -> None:
        self._made = [[] if each is None else each.corrections for each in frames]
        self._first, self._links = first, links
        self.planes: list[Alpha] = []

    @property
    def any(self) -> bool:
        """Whether there are some."""
        return self._first is not None or any(self._made)

    def applied(self, shown: Sequence[Shown]) -> list[Alpha]:
        """The log odds of the masks that are shown, after corrections."""
        evidence = [
            np.float32(CLAIM) * corrected_sides(made, frame)
            for frame, made in zip(shown, self._made, strict=True)
        ]
        if self._first is not None:
            sure = (np.abs(self._first) > HELD) & (evidence[0] == 0)
            evidence[0][sure] = CLAIM * np.sign(self._first[sure])
        self.planes = forward_backward(
            evidence, self._links, lambda moved, link, *_: transition(moved, link.trust, SWITCH)
        )
        return [
            _decided(frame) + np.float32(DECISIVE) * plane
            for frame, plane in zip(shown, self.planes, strict=True)
        ]

    def reached(self, index: int) -> NDArray[np.bool_]:
        """Where an anchor may change."""
        return np.asarray(np.abs(self.planes[index]) > SPOKEN)


def _decided(shown: Shown) -> Alpha:
    """The log odds of a mask, on the side that it is on."""
    least, most = SURE
    inside = np.clip(shown.log_odds, least, most)
    outside = np.clip(shown.log_odds, -most, -least)
    return np.where(shown.mask > FOREGROUND, inside, outside).astype(np.float32)
