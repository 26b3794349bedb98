"""The operations of a confined child in a measurement: all are real but the network.

``OPERATIONS`` masks what is red, at a fixed pace; `bright_is_foreground` masks at no cost.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
from msgspec import structs
from tests.support import synth

from foremask.facts import Report
from foremask.masking.runner import run
from foremask.pipeline.values import ImageMasker
from foremask.service.sandbox import execution
from foremask.service.sandbox.messages import Executor, Make, Parent, Request
from foremask.types import Alpha, Image

FRAME_S = 0.005


def red_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    """1 where red is over green; takes 5 ms a frame."""
    for alpha in synth.red_is_foreground(images):
        time.sleep(FRAME_S)
        yield alpha


def bright_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    for image in images:
        rgb = image.rgb(min(256, image.width), min(256, image.height))
        yield np.divide(rgb[:, :, 1], 255, dtype=np.float32)


def make(request: Make, parent: Parent, masker: ImageMasker) -> Report:
    files = structs.replace(request.files, cache=None)  # these masks ask no network
    return run(
        request.spec,
        files,
        execution.reporting(parent),
        request.resources,
        request.span,
        request.clip_start_s,
        masker=masker,
        change=synth.stretched_edges,
    )


OPERATIONS: Final[Mapping[type[Request[Any]], Executor]] = {
    **execution.OPERATIONS,
    Make: partial(make, masker=red_is_foreground),
}
