"""Encodes masks or colour frames as video, with the times and audio of the source."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.codec.context import Flags
from av.container import OutputContainer
from av.filter import Graph
from av.packet import PacketSideData
from av.video.stream import VideoStream
from numpy.typing import NDArray

from foremask.errors import Internal
from foremask.facts import Clip, Written
from foremask.media import presets
from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE, plane_of, tagged
from foremask.media.frames import Frame
from foremask.media.mask_file import MaskFile
from foremask.media.packets import AnyPacket, writing
from foremask.media.presets import ALPHA_OF_VP9, BLOCK_ADDITIONAL
from foremask.options import Excerpt, Form, ResultKind
from foremask.types import DeepRgb, Levels, Rgb


class VideoWriter:
    """Writes one video; leaving the ``with`` block before `finish` deletes the file.

    The audio comes from ``source``, limited to ``excerpt``. With ``part``, the file has no audio,
    and is an input of `segments.join`.
    """

    def __init__(
        self,
        target: Path,
        form: Form,
        clip: Clip,
        source: Path | None,
        *,
        kind: ResultKind = ResultKind.MASK,
        part: bool = False,
        excerpt: Excerpt | None = None,
    ) -> None:
        self._kind = kind
        self._recipe = presets.recipe_of(form, kind)
        self._file = MaskFile(target, self._recipe, clip, source, part=part, excerpt=excerpt)
        width, height = self._file.size
        self.coded = presets.encoded_size(self._recipe.encoder, width, height)
        self.format = presets.pixel_format(self._recipe.encoder, width, height)
        self._crop: BitStreamFilterContext | None = None
        self._origin: Fraction | None = None
        self._last_pts: int | None = None
        with ExitStack() as unfinished:
            unfinished.enter_context(self._file)
            self._codec, self._stream = self._open(clip)
            self._file.start(self._stream)
            unfinished.pop_all()

    def _open(self, clip: Clip) -> tuple[Any, Any]:
        file = self._file
        encoder = self._recipe.encoder
        width, height = self.coded
        is_padded = self.coded != file.size
        home = file.output
        if is_padded:  # it needs its own container: the stream of ``file`` has the cropped size
            home = av.open(os.devnull, "w", format="null")
        rate = Fraction(clip.fps).limit_denominator(1001) or Fraction(25)
        stream: Any = home.add_stream(encoder.name, rate=rate)
        codec = stream.codec_context
        codec.width = width
        codec.height = height
        codec.pix_fmt = self.format
        codec.time_base = file.time_base
        codec.options = presets.encoder_options(encoder, width, height)
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
        if is_padded:
            stream = self._cropped(home, stream)
        return codec, stream

    def _cropped(self, home: OutputContainer, padded: VideoStream) -> VideoStream:
        """Add an output stream that tells decoders to crop the padding."""
        padded.codec_context.flags |= Flags.global_header
        home.start_encoding()
        cropped = self._file.output.add_stream_from_template(padded, opaque=True)
        width, height = self._file.size
        right = self.coded[0] - width
        bottom = self.coded[1] - height
        self._crop = BitStreamFilterContext(
            f"hevc_metadata=crop_right={right}:crop_bottom={bottom}", padded, cropped
        )
        cropped.codec_context.width = width
        cropped.codec_context.height = height
        return cropped

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def framed[P: NDArray[Any]](self, picture: P) -> P:
        """Turn ``picture`` upright for a gif, and pad it to the size ``coded``."""
        turned: Any = np.ascontiguousarray(self._file.turn.to_upright(picture))
        height, width = turned.shape[:2]
        if (width, height) != self._file.size:
            raise Internal(f"a picture of {width}x{height} came for a video of {self._file.size}")
        right = self.coded[0] - width
        bottom = self.coded[1] - height
        if right or bottom:
            turned = cv2.copyMakeBorder(turned, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        return turned  # type: ignore[no-any-return]

    def complete(self, packet: AnyPacket) -> None:
        """A hook for subclasses, to change each packet before it is written."""

    def put(self, picture: av.VideoFrame, frame: Frame) -> None:
        time_base = self._file.time_base
        moment = frame.pts * frame.time_base
        if self._origin is None:
            self._origin = Fraction(0)
            if self._recipe.is_gif:  # it begins at time zero, even if its source does not
                self._origin = moment
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
        """Finish the file; ``end`` is the last frame's end in seconds."""
        for packet in self._encode(None):
            self._file.put(packet)
        if end is not None and self._origin:
            end -= self._origin
        return self._file.finish(end)

    def _encode(self, picture: av.VideoFrame | None) -> Iterator[AnyPacket]:
        encoded = self._codec.encode(picture)
        if self._crop is not None:
            if picture is None:
                encoded = [*encoded, None]
            encoded = [cropped for packet in encoded for cropped in self._crop.filter(packet)]
        for packet in encoded:
            packet.stream = self._stream
            packet.time_base = self._file.time_base
            self.complete(packet)
            yield packet


_TO_LIMITED: Final = np.rint(16 + np.arange(256) * (219 / 255)).astype(np.uint8)
_TO_LIMITED_10: Final = np.rint(64 + np.arange(256) * (876 / 255)).astype(np.uint16)


class MaskWriter(VideoWriter):
    """Writes masks, which must have the coded orientation of their frames."""

    @cached_property
    def _canvas(self) -> av.VideoFrame:
        width, height = self.coded
        picture = av.VideoFrame(width, height, self.format)
        if self.format == "gray":
            picture.color_range = FULL_RANGE
            return picture
        neutral = 1 << (picture.format.components[0].bits - 1)
        for index in (1, 2):
            plane_of(picture, index).fill(neutral)
        return tagged(picture)

    def write(self, mask: Levels, frame: Frame) -> None:
        framed = self.framed(mask)
        picture = self._canvas
        picture.make_writable()  # copies the buffer if the encoder still uses it
        luma = plane_of(picture, 0)
        if self.format == "gray":
            luma[:] = framed
        else:
            levels: NDArray[Any] = _TO_LIMITED
            if picture.format.components[0].bits > 8:
                levels = _TO_LIMITED_10
            cv2.LUT(framed, levels, dst=luma)
        self.put(picture, frame)


class LiveWriter:
    """Writes 4:2:0 video in NUT from time 0.

    Raises BrokenPipeError if nothing reads the pipe, and OutputFailed if it takes no more bytes.
    """

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        unindexed = {"write_index": "0"}  # an index would grow with each frame
        self._output = av.open(pipe, "w", format="nut", container_options=unindexed)
        self._stream: Any = self._output.add_stream("rawvideo", rate=30)  # nominal rate
        self._first_pts: int | None = None

    def write(self, pixels: NDArray[Any], frame: Frame) -> None:
        """Write an upright mask or RGB picture with the time of ``frame``."""
        if self._first_pts is None:
            self._first_pts = frame.pts
            self._stream.height, self._stream.width = pixels.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = frame.time_base
        drawn = av.VideoFrame.from_ndarray(pixels, "gray" if pixels.ndim == 2 else "rgb24")
        picture = drawn.reformat(
            format="yuv420p",
            dst_colorspace=BT709,
            src_color_range=FULL_RANGE,
            dst_color_range=LIMITED_RANGE,
        )
        picture.pts = frame.pts - self._first_pts
        picture.time_base = frame.time_base
        with writing("standard output"):
            self._output.mux(self._stream.encode(picture))
            self._pipe.flush()

    def close(self) -> None:
        with suppress(av.FFmpegError, OSError):  # the pipe's reader may have ended
            self._output.close()


_TO_10_BITS: Final = np.rint(np.arange(256) * (1023 / 255)).astype(np.uint16)
_HALF: Final = 128  # least level of an opaque pixel in a gif, whose alpha has one bit


class ColourWriter(VideoWriter):
    """Writes colour pictures, which must have the coded orientation of their frames."""

    @cached_property
    def _alpha(self) -> "_AlphaEncoder | None":
        if not self._recipe.metadata:
            return None
        width, height = self.coded
        return _AlphaEncoder(width, height)

    @cached_property
    def _palette(self) -> Graph:
        graph = Graph()
        form = av.VideoFormat("rgba")
        time_base = Fraction(1, 100)  # a gif's
        width, height = self.coded
        source = graph.add_buffer(width=width, height=height, format=form, time_base=time_base)
        split = graph.add("split", "2")
        palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=1")
        mapped = graph.add(
            "paletteuse", f"new=1:dither=bayer:bayer_scale=4:alpha_threshold={_HALF}"
        )
        sink = graph.add("buffersink")
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(mapped, 1, 0)
        palette.link_to(mapped, 0, 1)
        mapped.link_to(sink)
        graph.configure()
        return graph

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        """Write a picture with the time of ``frame``; a composite ignores ``levels``."""
        alpha: Levels | None = None
        if levels is not None and self._kind is ResultKind.CUTOUT:
            alpha = self.framed(levels)
        if self._alpha is not None and alpha is not None:
            self._alpha.encode(alpha)
        self.put(self._picture(self.framed(colours), alpha), frame)

    def complete(self, packet: AnyPacket) -> None:
        if self._alpha is not None:
            packet.set_sidedata(self._alpha.blocks.pop(0), True)

    def _picture(self, colours: Any, levels: Levels | None) -> av.VideoFrame:  # noqa: ANN401
        form = self.format
        if self._recipe.is_gif:
            alpha = levels
            if alpha is None:
                alpha = np.full(colours.shape[:2], 255, np.uint8)
            merged = np.asarray(cv2.merge([*cv2.split(colours), alpha]), np.uint8)
            self._palette.vpush(av.VideoFrame.from_ndarray(merged, "rgba"))
            return self._palette.vpull()
        picture = tagged(
            av.VideoFrame.from_ndarray(colours, "rgb24").reformat(
                format=form,
                dst_colorspace=BT709,
                src_color_range=FULL_RANGE,
                dst_color_range=LIMITED_RANGE,
                interpolation="BICUBIC",
            )
        )
        if form == "yuva444p10le" and levels is not None:
            cv2.LUT(levels, _TO_10_BITS, dst=plane_of(picture, 3))
        return picture


class _AlphaEncoder:
    """Encodes alpha losslessly as the VP9 stream that WebM stores beside the colours.

    FFmpeg would encode alpha with the lossy options of the colours. So this class encodes grey
    pictures with alpha, and discards their colours.
    """

    def __init__(self, width: int, height: int) -> None:
        codec: Any = av.CodecContext.create(ALPHA_OF_VP9.name, "w")
        codec.width = width
        codec.height = height
        codec.pix_fmt = "yuva420p"
        codec.time_base = Fraction(1, 25)  # its packets are read, not their times
        codec.options = ALPHA_OF_VP9.options
        self._codec = codec
        self._canvas = av.VideoFrame(width, height, "yuva420p")
        for index in range(3):
            plane_of(self._canvas, index).fill(128)
        self.blocks: list[PacketSideData] = []  # alpha of the next packets, in order

    def encode(self, levels: Levels) -> None:
        picture = self._canvas
        picture.make_writable()
        plane_of(picture, 3)[:] = levels
        picture.pts = (picture.pts or 0) + 1
        for packet in self._codec.encode(picture):
            self.blocks.append(PacketSideData.from_packet(packet, BLOCK_ADDITIONAL))
