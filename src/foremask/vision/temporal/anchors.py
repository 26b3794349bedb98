"""What the steps of masking hand on: anchors, the windows that they are in, and their links."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from foremask.machine.stopwatch import stage
from foremask.types import Image
from foremask.vision.network.opinions import View
from foremask.vision.stopping import stoppable
from foremask.vision.temporal.appearance import Appearance
from foremask.vision.temporal.flow import chroma, continuity, luma, trust
from foremask.vision.temporal.frame_hints import FrameHints
from foremask.vision.temporal.grids import FlowRgb, Grids, MaskLevels
from foremask.vision.temporal.propagation import Steps, flow_between
from foremask.vision.temporal.regions import Link


@dataclass(frozen=True, slots=True)
class Anchor:
    """A frame whose mask is propagated to the frames around it.

    ``opinions`` are the network's masks; an anchor that was added for hints has none. ``image`` is
    there, reduced, if a hint of the clip corrects a mask.
    """

    opinions: Mapping[View, MaskLevels]
    small: FlowRgb
    image: Image | None = None
    hints: FrameHints | None = None

    def mean(self) -> MaskLevels:
        if len(self.opinions) == 1:
            return next(iter(self.opinions.values()))
        mean = np.mean(list(self.opinions.values()), axis=0, dtype=np.float32)
        return np.asarray(np.rint(mean), np.uint8)


@dataclass(frozen=True, slots=True)
class Window:
    """The frames of one shot that are decided together.

    Masks are made of the frames of ``own``; the others, before and after them, are context.
    ``shot`` is the number of the shot's first frame.
    ``anchors`` are in the order of their frames. Results are kept under ``name``.
    """

    name: str
    shot: int
    own: range
    grids: Grids
    steps: Steps
    anchors: Mapping[int, Anchor]
    appearance: Appearance

    def asked(self) -> list[int]:
        """The anchors that the network was asked about; the others were added for hints."""
        return [frame for frame, anchor in self.anchors.items() if anchor.opinions]


def links_between(
    window: Window, frames: Sequence[int], threads: ThreadPoolExecutor
) -> list[dict[int, Link]]:
    """For each of these anchors, its links to the one before it (-1) and the one after it (1)."""
    steps = window.steps
    grid = window.grids.region
    colours = {frame: chroma(steps[frame].small) for frame in frames}

    @stage("flow")
    def link(here: int, there: int) -> Link:
        flow = flow_between(steps, here, there)
        trusted = trust(luma(steps[here].small), luma(steps[there].small), flow)
        held = continuity(colours[here], colours[there], flow, trusted)
        return Link(grid.flow(flow), grid.resized(trusted), grid.resized(held), abs(there - here))

    def links(index: int) -> dict[int, Link]:
        found = {}
        for offset in (-1, 1):
            if 0 <= index + offset < len(frames):
                found[offset] = link(frames[index], frames[index + offset])
        return found

    return list(stoppable(threads.map(links, range(len(frames)))))
