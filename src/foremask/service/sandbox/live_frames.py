"""Masks the frames of a live stream in a confined child, which asks its parent for each."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from foremask.masking.live import POLL_S, LiveMasker, TimedFrame
from foremask.media.jpegs import JpegDecoder, grey_jpeg
from foremask.pipeline.networks import network_for
from foremask.pipeline.stages.edges import sharpened
from foremask.service.sandbox.messages import (
    MaskStream,
    NextFrame,
    NoFrame,
    Parent,
    StreamedPicture,
)

QUIET_S: Final = 0.5  # between two questions while nothing is to do


def mask_stream(request: MaskStream, parent: Parent) -> None:
    """Send a mask of each frame that the masker does not drop.

    Raises message_invalid, frame_too_large or ModelUnavailable.
    """
    network = network_for(request.resources)
    with closing(LiveMasker(network)) as masker:
        frames = _frames(parent, JpegDecoder(request.max_pixels), masker)
        for (frame, _), alpha in masker.masks(frames):
            coded = sharpened(frame, alpha)
            mask = grey_jpeg(frame.orientation.to_upright(coded))
            parent.send(StreamedPicture(frame.index, mask))


def _frames(
    parent: Parent, decoder: JpegDecoder, masker: LiveMasker
) -> Iterator[TimedFrame | None]:
    while True:
        wait_s = QUIET_S
        if masker.is_busy:
            wait_s = POLL_S
        parent.send(NextFrame(wait_s))
        match parent.receive():
            case StreamedPicture(number, jpeg, age_s):
                came_s = time.monotonic() - age_s
                yield decoder.decode(jpeg, number), came_s
            case NoFrame(last=False):
                yield None
            case NoFrame():
                return
            case _:
                sys.exit(1)  # the parent is gone
