"""The incoming images: numbered, with the flow to the previous one and back, and cut into shots."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np

from foremask.types import Image, Rgb
from foremask.vision.temporal.cuts import starts_of_shots
from foremask.vision.temporal.flow import FlowEstimator
from foremask.vision.temporal.propagation import FrameFlow, PackedFlow
from foremask.vision.temporal.tier import Tier, grid_of


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """An image and its number, counted from the first wanted one."""

    image: Image
    number: int
    is_wanted: bool


def placed_images(
    images: Iterable[Image], is_wanted: Callable[[Image], bool]
) -> Iterator[PlacedImage]:
    """The images, numbered from the first wanted one: those before it have negative numbers."""
    before: list[Image] = []
    number = 0
    for image in images:
        wanted = is_wanted(image)
        if not wanted and not number:
            before.append(image)
            continue
        while before:
            yield PlacedImage(before.pop(0), -len(before) - 1, is_wanted=False)
        yield PlacedImage(image, number, wanted)
        number += 1
    for index, image in enumerate(before):
        yield PlacedImage(image, index - len(before), is_wanted=False)


@dataclass(frozen=True, slots=True)
class IncomingFrame:
    """An image with the flow to the previous one, and from the previous one to it."""

    image: Image
    number: int
    is_wanted: bool
    small: Rgb  # on the flow grid
    frame_flow: FrameFlow
    flow_from_previous: PackedFlow | None

    @property
    def starts_shot(self) -> bool:
        """Whether no flow leads to the frame before."""
        return self.frame_flow.to_previous is None


def with_shots(
    images: Iterable[PlacedImage], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[IncomingFrame]:
    """As `_with_flow`, without flow across cuts."""
    items = (
        (each, each.small, back.flow if (back := each.frame_flow.to_previous) else None)
        for each in _with_flow(images, tier, threads)
    )
    for incoming, starts in starts_of_shots(items):
        if starts:
            alone = FrameFlow(incoming.frame_flow.grey, None, None)
            yield replace(incoming, frame_flow=alone, flow_from_previous=None)
        else:
            yield incoming


def _with_flow(
    images: Iterable[PlacedImage], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[IncomingFrame]:
    """Flows between neighbours, across cuts too."""
    estimate_back, estimate_forward = FlowEstimator(), FlowEstimator()
    before: FrameFlow | None = None
    for placed in images:
        image = placed.image
        small = image.rgb(*grid_of(image, tier.flow_area_px))
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8)
        frame_flow, to_here = FrameFlow(grey, None, None), None
        if before is not None:
            forward_later = threads.submit(estimate_forward, before.grey, grey)
            back = estimate_back(grey, before.grey)
            frame_flow = FrameFlow(grey, PackedFlow.of(back), None)
            to_here = PackedFlow.of(forward_later.result())
        before = frame_flow
        yield IncomingFrame(image, placed.number, placed.is_wanted, small, frame_flow, to_here)
