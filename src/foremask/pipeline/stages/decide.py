"""Decides the masks of each window's anchors, and applies hints to them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from foremask.pipeline.threads import Workers
from foremask.pipeline.values import DecidedWindow
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.stopping import stoppable
from foremask.vision.temporal.anchors import Window, links_between
from foremask.vision.temporal.decision import decide
from foremask.vision.temporal.frame_hints import Guidance
from foremask.vision.temporal.grids import MaskLevels, RegionPlane
from foremask.vision.temporal.guidance import Evidence, apply_hints
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.things import PickedAnchor
from foremask.vision.temporal.tier import CONTEXT_FRAMES, Tier
from foremask.vision.temporal.verdict import Judge

type EvidenceByFrame = Mapping[int, Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """Yields each window with the masks of its anchors.

    Without ``learns_appearance``, no classifier is trained, and the logits that ``judge`` gets
    are 0.
    """

    tier: Tier
    judge: Judge
    guidance: Guidance | None
    cache: NetworkCache
    workers: Workers
    observer: Observer
    learns_appearance: bool = True
    name: str = "decide"

    def __call__(self, windows: Iterator[Window], /) -> Iterator[DecidedWindow]:
        shot: int | None = None
        evidence: EvidenceByFrame = {}  # of the window before, if it is of the same shot
        for window in windows:
            if window.shot != shot:
                evidence = {}
            shot = window.shot
            masks, evidence = self._decided(window, evidence)
            yield DecidedWindow(window, masks)
            del window, masks  # they must not be held while the next window is asked about

    def _decided(
        self, window: Window, earlier: EvidenceByFrame
    ) -> tuple[Mapping[int, MaskLevels], EvidenceByFrame]:
        """The masks of the anchors, by frame, and the evidence on those of the next window too."""
        decisions = decide(
            window,
            self.judge,
            self.cache,
            self.workers,
            self.tier.anchors_per_side,
            learns_appearance=self.learns_appearance,
        )
        plain = {frame: decision.mask for frame, decision in decisions.items()}
        unchanged = {frame: plain[frame] for frame in window.asked()}  # no anchors added for hints
        if self.guidance is None:
            self.observer.decide_to(
                window.own.stop, partial(_foreground, window, plain, plain, {}, self.workers)
            )
            return unchanged, {}
        before = earlier.get(min(window.anchors))
        hinted = apply_hints(window, decisions, self.guidance, before, self.cache, self.workers)
        shared_from = window.own.stop - CONTEXT_FRAMES
        evidence = {frame: each for frame, each in hinted.evidence.items() if frame >= shared_from}
        foreground = partial(_foreground, window, plain)
        if not hinted.changed:
            self.observer.decide_to(
                window.own.stop, partial(foreground, plain, hinted.choices, self.workers)
            )
            return unchanged, evidence
        self.observer.decide_to(
            window.own.stop, partial(foreground, hinted.masks, hinted.choices, self.workers)
        )
        return hinted.masks, evidence


def _foreground(
    window: Window,
    plain: Mapping[int, MaskLevels],
    masks: Mapping[int, MaskLevels],
    choices: Mapping[int, RegionPlane],
    workers: Workers,
) -> list[PickedAnchor]:
    """The foreground of each anchor: of its mask, without hints too, and of the network."""
    grid = window.grids.region
    result = []
    links_of_anchors = links_between(window, list(masks), workers)
    for frame, links in stoppable(zip(masks, links_of_anchors, strict=True)):
        anchor = window.anchors[frame]
        inside = grid.resized(masks[frame]) > 127
        picked = inside | (grid.resized(plain[frame]) > 127)
        if anchor.opinions:
            picked |= grid.resized(anchor.mean()) > 127
        result.append(PickedAnchor(frame, picked, inside, links, choices.get(frame)))
    return result
