"""Executes requests with a network that costs nothing: red is foreground, at a fixed pace."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from tests.support.synth import stretched

from foremask.facts import Report
from foremask.masking.pipeline import mask_video
from foremask.masking.report import Progress
from foremask.service.sandbox import execution
from foremask.service.sandbox.operations import Mask, Request
from foremask.service.sandbox.parent import Operation, Parent
from foremask.types import Alpha, Image

FRAME_S = 0.005


def red_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    """One where there is more red than green."""
    for image in images:
        time.sleep(FRAME_S)
        rgb = image.rgb(image.width, image.height)
        yield (rgb[:, :, 0] > 1.5 * rgb[:, :, 1]).astype(np.float32)


def _mask(request: Mask, parent: Parent) -> Report:
    def on_progress(progress: Progress) -> None:
        parent.progress(progress.frames_done, progress.frames_total, progress.stage)

    return mask_video(
        request.source,
        request.target,
        replace(request.options, model=None),
        on_progress,
        request.span,
        masker=red_is_foreground,
        refiner=stretched,
    )


OPERATIONS: Final[Mapping[type[Request[Any]], Operation]] = {**execution.OPERATIONS, Mask: _mask}
