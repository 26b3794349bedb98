"""Encodes colour pictures, with or without straight alpha, into a video."""

from fractions import Fraction
from functools import cached_property
from typing import Any, Final

import av
import cv2
import numpy as np
from av.filter import Graph
from av.packet import PacketSideData

from foremask.media.colour import BT709, FULL_RANGE, LIMITED_RANGE, tagged
from foremask.media.frames import Frame
from foremask.media.planes import plane_of
from foremask.media.presets import ALPHA_OF_VP9, BLOCK_ADDITIONAL
from foremask.media.transcoding import AnyPacket
from foremask.media.video_writer import VideoWriter
from foremask.options import Preset, ResultKind
from foremask.types import DeepRgb, Levels, Rgb

_TO_10_BITS: Final = np.rint(np.arange(256) * (1023 / 255)).astype(np.uint16)
_HALF: Final = 128  # a gif has one bit of alpha: pixels of at least this level are opaque


class ColourWriter(VideoWriter):
    """Writes a colour video from pictures in the coded orientation of their frames."""

    _kind = ResultKind.CUTOUT

    @cached_property
    def _alpha(self) -> "_AlphaEncoder | None":
        return _AlphaEncoder(*self.coded) if self._recipe.metadata else None

    @cached_property
    def _palette(self) -> Graph:
        return _palette_graph(*self.coded)

    def write(self, colours: Rgb | DeepRgb, levels: Levels | None, frame: Frame) -> None:
        """Encode a picture at the time of ``frame``; for a `Preset`, ``levels`` are ignored."""
        alpha = None if levels is None or isinstance(self._form, Preset) else self.framed(levels)
        if self._alpha is not None and alpha is not None:
            self._alpha.encode(alpha)
        self.put(self._picture(self.framed(colours), alpha), frame)

    def complete(self, packet: AnyPacket) -> None:
        if self._alpha is not None:
            packet.set_sidedata(self._alpha.blocks.pop(0), True)

    def _picture(self, colours: Any, levels: Levels | None) -> av.VideoFrame:  # noqa: ANN401
        form = self.format
        if self._recipe.is_gif:
            alpha = np.full(colours.shape[:2], 255, np.uint8) if levels is None else levels
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
    """Encodes alpha without loss as the VP9 stream that WebM stores beside the colours.

    FFmpeg would encode alpha with the lossy options of the colours. So this class encodes alpha
    with a grey picture, and uses only the alpha of each packet.
    """

    def __init__(self, width: int, height: int) -> None:
        codec: Any = av.CodecContext.create(ALPHA_OF_VP9.name, "w")
        codec.width, codec.height, codec.pix_fmt = width, height, "yuva420p"
        codec.time_base, codec.options = Fraction(1, 25), ALPHA_OF_VP9.options
        self._codec = codec
        self._canvas = av.VideoFrame(width, height, "yuva420p")
        for index in range(3):
            plane_of(self._canvas, index).fill(128)
        self.blocks: list[PacketSideData] = []  # alpha of pictures not yet written, oldest first

    def encode(self, levels: Levels) -> None:
        picture = self._canvas
        picture.make_writable()
        plane_of(picture, 3)[:] = levels
        picture.pts = (picture.pts or 0) + 1
        for packet in self._codec.encode(picture):
            self.blocks.append(PacketSideData.from_packet(packet, BLOCK_ADDITIONAL))


def _palette_graph(width: int, height: int) -> Graph:
    """A filter that maps each picture to a palette of its own, with 255 colours."""
    graph = Graph()
    form, time_base = av.VideoFormat("rgba"), Fraction(1, 100)
    source = graph.add_buffer(width=width, height=height, format=form, time_base=time_base)
    split = graph.add("split", "2")
    palette = graph.add("palettegen", "stats_mode=single:reserve_transparent=1")
    mapped = graph.add("paletteuse", f"new=1:dither=bayer:bayer_scale=4:alpha_threshold={_HALF}")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(mapped, 1, 0)
    palette.link_to(mapped, 0, 1)
    mapped.link_to(sink)
    graph.configure()
    return graph
