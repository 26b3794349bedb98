"""The operations of a confined child in a measurement: all are real but the network.

``OPERATIONS`` masks what is red, at a fixed pace; `bright_is_foreground` masks at no cost.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from tests.support import synth

from foremask.facts import Report
from foremask.masking.cut_out import cut_out
from foremask.masking.pipeline import mask_video
from foremask.masking.plan import ImageMasker
from foremask.masking.report import Progress
from foremask.options import Form
from foremask.service.sandbox import execution
from foremask.service.sandbox.messages import CutOut, Mask, Operation, Parent, Request
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


def mask(request: Mask, parent: Parent, masker: ImageMasker) -> Report:
    def on_progress(progress: Progress) -> None:
        parent.progress(progress.frames_done)

    options = replace(request.options, model=None)
    return mask_video(
        request.source,
        request.target,
        options,
        on_progress,
        request.span,
        masker=masker,
        refiner=synth.stretched,
    )


def cut_out_red(request: CutOut, parent: Parent) -> Report:
    return cut_out(
        request.source,
        request.target,
        execution.result_of(request),
        request.options,
        Form(request.preset),
        span=request.span,
        clip_start_s=request.clip_start_s,
        mask_target=request.mask_target,
        masker=red_is_foreground,
        refiner=synth.stretched,
    )


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {
    **execution.OPERATIONS,
    Mask: partial(mask, masker=red_is_foreground),
    CutOut: cut_out_red,
}
