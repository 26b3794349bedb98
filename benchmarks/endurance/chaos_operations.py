"""The media child's operations with a network that costs nothing: red is foreground, at a fixed pace."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from tests.support.synth import stretched

from foremask.facts import Report, Span
from foremask.masking.pipeline import mask_video
from foremask.masking.report import Progress
from foremask.options import MaskOptions
from foremask.service.sandbox import operations
from foremask.service.sandbox.child import Operation, Parent
from foremask.types import Alpha, Image

FRAME_S = 0.01


def red_is_foreground(images: Iterable[Image], /) -> Iterator[Alpha]:
    """One where there is more red than green."""
    for image in images:
        time.sleep(FRAME_S)
        rgb = image.rgb(image.width, image.height)
        yield (rgb[:, :, 0] > 1.5 * rgb[:, :, 1]).astype(np.float32)


def _mask(args: dict[str, Any], parent: Parent) -> Report:
    def on_progress(progress: Progress) -> None:
        parent.progress(progress.frames_done, progress.frames_total, progress.stage)

    return mask_video(
        Path(args["source"]),
        Path(args["target"]),
        msgspec.convert(args["options"] | {"model": None}, MaskOptions),
        on_progress,
        msgspec.convert(args["span"], Span | None),
        masker=red_is_foreground,
        refiner=stretched,
    )


OPERATIONS: Final[Mapping[str, Operation]] = {**operations.OPERATIONS, "mask": _mask}
