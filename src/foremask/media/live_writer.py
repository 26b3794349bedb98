"""Writes raw frames to a pipe, each as soon as it comes."""

from contextlib import suppress
from typing import Any, BinaryIO

import av
from numpy.typing import NDArray

from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE
from foremask.media.frames import Frame

_NOMINAL_FPS = 30  # for the header; each frame has its own time


class LiveWriter:
    """Writes pictures as 4:2:0 in NUT, timed from zero.

    Raises BrokenPipeError once the reader has closed the pipe.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        unindexed = {"write_index": "0"}  # an index grows with each frame
        self._output = av.open(pipe, "w", format="nut", container_options=unindexed)
        self._stream: Any = self._output.add_stream("rawvideo", rate=_NOMINAL_FPS)
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
        with suppress(av.FFmpegError, OSError):  # the reader may be gone
            self._output.close()
