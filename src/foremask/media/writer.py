"""Encodes masks into a video that keeps every promise made about its source."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Self

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags

from foremask.errors import Internal
from foremask.facts import Clip, Written
from foremask.media import presets
from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE
from foremask.media.frames import Frame
from foremask.media.mask_file import MaskFile
from foremask.media.planes import plane_of
from foremask.media.transcoding import AnyPacket
from foremask.options import Preset
from foremask.types import Levels

_TO_LIMITED: Final = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_TO_LIMITED_10: Final = np.rint(64 + np.arange(256) * (876 / 255)).astype(np.uint16)
_FINE: Final = Fraction(1, 1_000_000)


class MaskWriter:
    """Writes one mask video; as a context manager it leaves no half-written file behind.

    ``source`` is where the sound comes from. A ``part`` is silent, to be joined with others.
    Masks are handed over in the coded orientation, with the frames that they belong to.
    """

    def __init__(
        self, target: Path, preset: Preset, clip: Clip, source: Path | None, *, part: bool = False
    ) -> None:
        self._file = MaskFile(target, preset, clip, source, part=part)
        self._encoder = self._file.recipe.encoder
        self._coded = presets.encoded_size(self._encoder, *self._file.size)
        self._whole: MaskFile | None = None
        self._is_gif = self._file.recipe.muxer == "gif" and not part
        self._part = target.with_name(f".{target.name}.part")
        if self._coded != self._file.size and not part:
            # PyAV gives a rotation only to a stream that has a codec, and cropping needs one that
            # has none: encode a part first, then make the whole of it.
            self._whole = self._file
            self._file = MaskFile(self._part, preset, clip, None, part=True)
        self._format = presets.pixel_format(self._encoder, *self._file.size)
        self._canvas = _blank(*self._coded, self._format)
        self._crop: BitStreamFilterContext | None = None
        self._origin: Fraction | None = None
        self._last_pts: int | None = None
        try:
            self._codec, self._stream = self._open(clip)
            self._file.start(self._stream)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self._file.abandon()
        if self._whole is not None:
            self._whole.abandon()

    def _open(self, clip: Clip) -> tuple[Any, Any]:
        file, encoder = self._file, self._encoder
        rate = Fraction(clip.fps).limit_denominator(1001) or Fraction(25)
        padded = self._coded != file.size
        if padded:
            codec: Any = av.CodecContext.create(encoder.name, "w")
            codec.framerate = rate
            width, height = file.size
            stream: Any = file.output.add_mux_stream("hevc", rate=rate, width=width, height=height)
            right, bottom = self._coded[0] - width, self._coded[1] - height
            self._crop = BitStreamFilterContext(
                f"hevc_metadata=crop_right={right}:crop_bottom={bottom}", in_stream=stream
            )
        else:
            stream = file.output.add_stream(encoder.name, rate=rate)
            codec = stream.codec_context
            if file.recipe.tag and not file.is_part:
                codec.codec_tag = file.recipe.tag
        codec.width, codec.height = self._coded
        codec.pix_fmt = self._format
        codec.time_base = file.time_base
        codec.options = presets.encoder_options(encoder, *self._coded)
        codec.sample_aspect_ratio = file.aspect
        codec.flags |= Flags.frame_duration
        if self._format == "gray":
            codec.color_range = FULL_RANGE
        else:
            codec.color_range = LIMITED_RANGE
            codec.colorspace = codec.color_trc = codec.color_primaries = BT709
        if encoder.global_quality is not None:
            codec.qscale = True
            codec.global_quality = encoder.global_quality
        if clip.pixels > presets.HUGE_PIXELS:
            codec.thread_count = 1
        return codec, stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not (self._whole or self._file).is_finished:
            self._abandon()
        self._part.unlink(missing_ok=True)

    def write(self, mask: Levels, frame: Frame) -> None:
        """Encode the mask of ``frame``, at the frame's time."""
        time_base = self._file.time_base
        moment = frame.pts * frame.time_base
        if self._origin is None:  # a gif begins at zero, whenever its source did
            self._origin = moment if self._is_gif else Fraction(0)
        pts = round((moment - self._origin) / time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1  # where the container counts more coarsely
        self._last_pts = pts
        if self._is_gif:
            late_s = float(pts * time_base - (moment - self._origin))
            presets.check_late(self._file.clip, frame.index, late_s)
        picture = self._drawn(mask)
        picture.pts = pts
        picture.time_base = time_base
        picture.duration = max(1, round((frame.duration or 1) * frame.time_base / time_base))
        for packet in self._encode(picture):
            self._file.put(packet)

    def finish(self, end_pts: int | None, time_base: Fraction) -> Written:
        """Write the rest.

        ``end_pts``, in ``time_base``, is the end of the last frame (None: as usual).
        """
        for packet in self._encode(None):
            self._file.put(packet)
        if end_pts is not None and self._origin:
            end_pts, time_base = round(end_pts * time_base / _FINE - self._origin / _FINE), _FINE
        written = self._file.finish(end_pts, time_base)
        if self._whole is None:
            return written
        self._whole.take([self._part])
        return self._whole.finish(end_pts, time_base)

    def _drawn(self, mask: Levels) -> av.VideoFrame:
        turned = np.ascontiguousarray(self._file.turn.to_upright(mask))
        height, width = turned.shape
        if (width, height) != self._file.size:
            raise Internal(f"a mask of {width}x{height} came for a video of {self._file.size}")
        right, bottom = self._coded[0] - width, self._coded[1] - height
        if right or bottom:
            border = cv2.BORDER_REPLICATE
            turned = np.asarray(cv2.copyMakeBorder(turned, 0, bottom, 0, right, border), np.uint8)
        picture = self._canvas
        picture.make_writable()  # a copy, where the encoder still looks at the last one
        luma = plane_of(picture, 0)
        if self._format == "gray":
            luma[:] = turned
        else:
            cv2.LUT(
                turned,
                _TO_LIMITED_10 if picture.format.components[0].bits > 8 else _TO_LIMITED,
                dst=luma,
            )
        return picture

    def _encode(self, picture: av.VideoFrame | None) -> Iterator[AnyPacket]:
        encoded = self._codec.encode(picture)
        if self._crop is not None:
            encoded = [
                cropped
                for packet in ([*encoded, None] if picture is None else encoded)
                for cropped in self._crop.filter(packet)
            ]
        for packet in encoded:
            packet.stream = self._stream
            packet.time_base = self._file.time_base
            yield packet


def _blank(width: int, height: int, pixel_format: str) -> av.VideoFrame:
    """A picture without colour, whose brightness is yet to be drawn."""
    picture = av.VideoFrame(width, height, pixel_format)
    if pixel_format == "gray":
        picture.color_range = FULL_RANGE
        return picture
    for index in (1, 2):
        plane_of(picture, index).fill(512 if picture.format.components[0].bits > 8 else 128)
    picture.color_range = LIMITED_RANGE
    picture.colorspace = picture.color_trc = picture.color_primaries = BT709
    return picture
