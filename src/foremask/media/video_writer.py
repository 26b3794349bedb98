"""Encodes pictures into a video with the size, the times and the sound of its source."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Self

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from foremask.errors import Internal
from foremask.facts import Clip, Written
from foremask.media import presets
from foremask.media.colour import FULL_RANGE, tagged
from foremask.media.frames import Frame
from foremask.media.mask_file import MaskFile
from foremask.media.transcoding import AnyPacket
from foremask.options import Excerpt, Form, ResultKind


class VideoWriter:
    """Writes one video; leaving its ``with`` block deletes the file if it is not finished.

    The sound is that of ``source``, or of an ``excerpt`` of ``source``. A ``part`` has no sound;
    `segments.join` joins parts.
    """

    _kind: ClassVar[ResultKind]

    def __init__(
        self,
        target: Path,
        form: Form,
        clip: Clip,
        source: Path | None,
        *,
        part: bool = False,
        excerpt: Excerpt | None = None,
    ) -> None:
        self._form, self._recipe = form, presets.recipe_of(form, self._kind)
        self._file = MaskFile(target, self._recipe, clip, source, part=part, excerpt=excerpt)
        self.coded = presets.encoded_size(self._recipe.encoder, *self._file.size)
        self.format = presets.pixel_format(self._recipe.encoder, *self._file.size)
        self._crop: BitStreamFilterContext | None = None
        self._origin: Fraction | None = None
        self._last_pts: int | None = None
        with ExitStack() as unfinished:
            unfinished.enter_context(self._file)
            self._codec, self._stream = self._open(clip)
            self._file.start(self._stream)
            unfinished.pop_all()

    def _open(self, clip: Clip) -> tuple[Any, Any]:
        file, encoder = self._file, self._recipe.encoder
        is_padded = self.coded != file.size
        # The encoder of padded pictures has its own container, since ``file`` has the cropped size.
        home = av.open(os.devnull, "w", format="null") if is_padded else file.output
        rate = Fraction(clip.fps).limit_denominator(1001) or Fraction(25)
        stream: Any = home.add_stream(encoder.name, rate=rate)
        codec = stream.codec_context
        codec.width, codec.height = self.coded
        codec.pix_fmt = self.format
        codec.time_base = file.time_base
        codec.options = presets.encoder_options(encoder, *self.coded)
        codec.sample_aspect_ratio = file.aspect
        codec.flags |= Flags.frame_duration
        if self.format == "gray":
            codec.color_range = FULL_RANGE
        elif self.format.startswith("yuv"):
            tagged(codec)
        if encoder.global_quality is not None:
            codec.qscale = True
            codec.global_quality = encoder.global_quality
        if clip.pixels > presets.HUGE_PIXELS:
            codec.thread_count = 1
        return codec, self._cropped(home, stream) if is_padded else stream

    def _cropped(self, home: OutputContainer, padded: VideoStream) -> VideoStream:
        """An output stream whose header and packets tell decoders to crop the padding."""
        padded.codec_context.flags |= Flags.global_header
        home.start_encoding()
        cropped = self._file.output.add_stream_from_template(padded, opaque=True)
        width, height = self._file.size
        right, bottom = self.coded[0] - width, self.coded[1] - height
        self._crop = BitStreamFilterContext(
            f"hevc_metadata=crop_right={right}:crop_bottom={bottom}", padded, cropped
        )
        cropped.codec_context.width, cropped.codec_context.height = width, height
        return cropped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def framed[P: NDArray[Any]](self, picture: P) -> P:
        """The picture to encode: turned upright for a gif, and padded to ``coded``."""
        turned: Any = np.ascontiguousarray(self._file.turn.to_upright(picture))
        height, width = turned.shape[:2]
        if (width, height) != self._file.size:
            raise Internal(f"a picture of {width}x{height} came for a video of {self._file.size}")
        right, bottom = self.coded[0] - width, self.coded[1] - height
        if right or bottom:
            turned = cv2.copyMakeBorder(turned, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return turned  # type: ignore[no-any-return]

    def complete(self, packet: AnyPacket) -> None:
        """Subclasses may change each packet here before it is written."""

    def put(self, picture: av.VideoFrame, frame: Frame) -> None:
        """Encode a picture of size ``coded`` and pixel format ``format`` at ``frame``'s time."""
        time_base = self._file.time_base
        moment = frame.pts * frame.time_base
        if self._origin is None:  # a gif begins at time zero, even if its source does not
            self._origin = moment if self._recipe.is_gif else Fraction(0)
        pts = round((moment - self._origin) / time_base)
        if self._last_pts is not None and pts <= self._last_pts:
            pts = self._last_pts + 1  # the output's time base may be coarser than the source's
        self._last_pts = pts
        if self._recipe.is_gif:
            late_s = float(pts * time_base - (moment - self._origin))
            presets.check_late(self._file.clip, frame.index, late_s)
        picture.pts = pts
        picture.time_base = time_base
        picture.duration = max(1, round((frame.duration or 1) * frame.time_base / time_base))
        for packet in self._encode(picture):
            self._file.put(packet)

    def finish(self, end: Fraction | None) -> Written:
        """Finish the file; ``end`` is the time, in seconds, at which the last frame ends."""
        for packet in self._encode(None):
            self._file.put(packet)
        if end is not None and self._origin:
            end -= self._origin
        return self._file.finish(end)

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
            self.complete(packet)
            yield packet
