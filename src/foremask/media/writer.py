"""Encodes masks into a video file, or pictures into a live stream."""

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.facts import Written
from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE, tagged
from foremask.media.frames import Frame
from foremask.media.planes import plane_of
from foremask.media.presets import check_preset
from foremask.media.reader import VideoReader
from foremask.media.video_writer import VideoWriter
from foremask.options import Preset, ResultKind
from foremask.types import Levels

_TO_LIMITED: Final = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_TO_LIMITED_10: Final = np.rint(64 + np.arange(256) * (876 / 255)).astype(np.uint16)


class MaskWriter(VideoWriter):
    """Writes one mask video; masks must have the coded orientation of their frames."""

    _kind = ResultKind.MASK

    @cached_property
    def _canvas(self) -> av.VideoFrame:
        return _blank(*self.coded, self.format)

    def write(self, mask: Levels, frame: Frame) -> None:
        framed, picture = self.framed(mask), self._canvas
        picture.make_writable()  # copies the buffer if the encoder still uses it
        luma = plane_of(picture, 0)
        if self.format == "gray":
            luma[:] = framed
        else:
            deep = picture.format.components[0].bits > 8
            cv2.LUT(framed, _TO_LIMITED_10 if deep else _TO_LIMITED, dst=luma)
        self.put(picture, frame)


class LiveWriter:
    """Writes 4:2:0 video in NUT from time 0; raises BrokenPipeError if nothing reads the pipe."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        unindexed = {"write_index": "0"}  # an index would take memory for each frame
        self._output = av.open(pipe, "w", format="nut", container_options=unindexed)
        self._stream: Any = self._output.add_stream("rawvideo", rate=30)  # nominal rate
        self._first_pts: int | None = None

    def write(self, pixels: NDArray[Any], frame: Frame) -> None:
        """Write an upright mask or RGB picture at the time of ``frame``."""
        if self._first_pts is None:
            self._first_pts = frame.pts
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = frame.time_base
        full, limited = FULL_RANGE, LIMITED_RANGE
        drawn = av.VideoFrame.from_ndarray(pixels, "gray" if pixels.ndim == 2 else "rgb24")
        picture = drawn.reformat(
            format="yuv420p", dst_colorspace=BT709, src_color_range=full, dst_color_range=limited
        )
        picture.pts, picture.time_base = frame.pts - self._first_pts, frame.time_base
        self._output.mux(self._stream.encode(picture))
        self._pipe.flush()

    def close(self) -> None:
        with suppress(av.FFmpegError, OSError):  # the process that reads the pipe may have ended
            self._output.close()


def recode(
    mask: Path,
    target: Path,
    preset: Preset,
    on_frame: Callable[[int, int | None], None],
    memory_bytes: int | None = None,
    change: Callable[[Levels], Levels] | None = None,
) -> Written:
    """Re-encode ``mask`` to ``target`` in ``preset``, applying ``change`` to each frame.

    ``on_frame`` gets the number of frames done and the total, if known. The sound is that of
    ``mask``; a gif has none. Raises CorruptVideo or PresetUnsuitable.
    """
    with VideoReader(mask) as reader:
        check_preset(reader.clip, preset, memory_bytes)
        with MaskWriter(target, preset, reader.clip, mask) as writer:
            for frame in reader:
                levels = frame.luma()
                writer.write(levels if change is None else change(levels), frame)
                on_frame(frame.index + 1, reader.clip.expected_frames)
            return writer.finish(reader.end)


def _blank(width: int, height: int, pixel_format: str) -> av.VideoFrame:
    """A picture of neutral chroma whose luma is not set."""
    picture = av.VideoFrame(width, height, pixel_format)
    if pixel_format == "gray":
        picture.color_range = FULL_RANGE
        return picture
    for index in (1, 2):
        plane_of(picture, index).fill(512 if picture.format.components[0].bits > 8 else 128)
    return tagged(picture)
