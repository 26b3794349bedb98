"""Encodes pictures with colour into an H.264 file, with the sound of a clip."""

from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

import av

from foremask.media.audio import Sound
from foremask.media.mask_file import muxer_options
from foremask.media.presets import RECIPES
from foremask.media.write_errors import writing
from foremask.options import Preset
from foremask.types import Rgb

_OPTIONS: Final = {"preset": "veryfast", "crf": "18", "bf": "0"}
PRESET_OF_MUXER: Final = {
    ".mp4": Preset.MP4_H264,
    ".mov": Preset.MOV_H265,
    ".mkv": Preset.MKV_H264,
}
"""By the endings that can be written: the preset whose container is taken."""


class PictureWriter:
    """Writes pictures of one even size at their times; use it in a ``with``."""

    def __init__(
        self,
        target: Path,
        suffix: str,
        size: tuple[int, int],
        time_base: Fraction,
        fps: float,
        source: Path,
    ) -> None:
        recipe = RECIPES[PRESET_OF_MUXER[suffix]]
        self._time_base = time_base
        self._out = av.open(
            f"file:{target}",
            "w",
            format=recipe.muxer,
            container_options=muxer_options(recipe, time_base),
        )
        rate = Fraction(fps).limit_denominator(1001) or Fraction(25)
        self._stream: Any = self._out.add_stream("libx264", rate=rate, options=dict(_OPTIONS))
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = time_base
        self._sound = Sound(source, self._out, recipe.muxer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sound.close()
        self._out.close()

    def write(self, picture: Rgb, pts: int) -> None:
        """Encode a picture; each is shown until the next one."""
        frame = av.VideoFrame.from_ndarray(picture, "rgb24")
        frame.pts, frame.time_base = pts, self._time_base
        self._mux(frame)

    def finish(self) -> None:
        self._mux(None)
        with writing():
            self._sound.finish()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            with writing():
                self._sound.mux_until(packet.pts * self._time_base)
                self._out.mux(packet)
