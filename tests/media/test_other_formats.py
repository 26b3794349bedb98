"""Containers and codecs beyond the contract's list: read on one's own machine only."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from foremask import errors
from foremask.media.probe import probe
from foremask.media.verify import verify
from foremask.options import Limits, Preset
from tests.support import synth

FORMATS = {
    "h264.ts": ("mpegts", "libx264", "yuv420p"),
    "mpeg2.mpg": ("mpeg", "mpeg2video", "yuv420p"),
    "mpeg2.mxf": ("mxf", "mpeg2video", "yuv422p"),
    "flv1.flv": ("flv", "flv", "yuv420p"),
    "raw.y4m": ("yuv4mpegpipe", "rawvideo", "yuv420p"),
    "wmv2.wmv": ("asf", "wmv2", "yuv420p"),
    "theora-like.nut": ("nut", "huffyuv", "yuv422p"),
    "h264.mkv": ("matroska", "libx264", "yuv420p"),
    "ffv1.mkv": ("matroska", "ffv1", "yuv444p10le"),
    "prores.mov": ("mov", "prores_ks", "yuv422p10le"),
    "dnxhd.mov": ("mov", "dnxhd", "yuv422p"),
    "vp8.webm": ("webm", "libvpx", "yuv420p"),
    "mpeg4.avi": ("avi", "mpeg4", "yuv420p"),
    "drawn.apng": ("apng", "apng", "rgba"),
}
FRAMES = 6


def draw(path: Path, muxer: str, codec: str, pixel_format: str) -> Path:
    spec = synth.Spec(width=128, height=96, pts=tuple(range(FRAMES)))
    with av.open(str(path), "w", format=muxer) as out:
        stream: Any = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        if codec == "dnxhd":
            stream.width, stream.height = 1280, 720
            stream.bit_rate = 75_000_000
        for index, (picture, _) in enumerate(synth.draw(spec)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame = frame.reformat(stream.width, stream.height, pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_masked_here_and_refused_by_the_service(tmp_path: Path, name: str) -> None:
    source = draw(tmp_path / name, *FORMATS[name])
    target = tmp_path / "mask.mkv"
    report = synth.mask(source, target, Preset.MKV_H264)
    assert report.frames_out == FRAMES
    assert report.coverage > 0.05
    verify(source, target)
    with pytest.raises((errors.ContainerUnsupported, errors.CodecUnsupported)):
        probe(source, Limits())
    with source.open("rb") as file:
        opened, whole = probe(file, Limits(any_format=True)), probe(source)
    assert (opened.codec, opened.width, opened.fps) == (whole.codec, whole.width, whole.fps)
