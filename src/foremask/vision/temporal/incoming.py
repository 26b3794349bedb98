"""Numbers the incoming images, estimates the flow between neighbours, and finds the shots."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from foremask.types import Flow, Image, Luma, Rgb
from foremask.vision.temporal.cuts import starts_of_shots
from foremask.vision.temporal.flow import FlowEstimator, luma
from foremask.vision.temporal.propagation import FrameFlow
from foremask.vision.temporal.tier import Tier, grid_of


@dataclass(frozen=True, slots=True)
class IncomingFrame:
    """An image with its flow; numbers count from 0 at the first wanted image."""

    image: Image
    number: int
    is_wanted: bool
    frame_flow: FrameFlow


def incoming_frames(
    images: Iterable[Image],
    is_wanted: Callable[[Image], bool],
    tier: Tier,
    threads: ThreadPoolExecutor,
) -> Iterator[IncomingFrame]:
    """Yield the images as frames; those before the first wanted image have negative numbers."""
    for incoming, starts in starts_of_shots(
        _with_flow(_numbered(images, is_wanted), tier, threads)
    ):
        alone = FrameFlow(incoming.frame_flow.small, None, None)
        yield replace(incoming, frame_flow=alone) if starts else incoming


def _numbered(
    images: Iterable[Image], is_wanted: Callable[[Image], bool]
) -> Iterator[tuple[Image, int, bool]]:
    before: list[Image] = []
    number = 0
    for image in images:
        wanted = is_wanted(image)
        if not wanted and not number:
            before.append(image)
            continue
        while before:
            yield before.pop(0), -len(before) - 1, False
        yield image, number, wanted
        number += 1
    while before:
        yield before.pop(0), -len(before) - 1, False


def _with_flow(
    numbered: Iterable[tuple[Image, int, bool]], tier: Tier, threads: ThreadPoolExecutor
) -> Iterator[tuple[IncomingFrame, Rgb, Flow | None]]:
    """Yield each frame with its small picture and its flow to the frame before, across cuts too."""
    estimate_back, estimate_forward = FlowEstimator(), FlowEstimator()
    before: Luma | None = None
    for image, number, is_wanted in numbered:
        small = image.rgb(*grid_of(image, tier.flow_area_px))
        grey = luma(small)
        back = ahead = None
        if before is not None:
            forward_later = threads.submit(estimate_forward, before, grey)
            back = estimate_back(grey, before).astype(np.float16)
            ahead = forward_later.result().astype(np.float16)
        before = grey
        incoming = IncomingFrame(image, number, is_wanted, FrameFlow(small, back, ahead))
        yield incoming, small, None if back is None else back.astype(np.float32)
