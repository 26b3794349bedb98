"""Containers and codecs beyond the contract's list: read on one's own machine only."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from foremask import errors
from foremask.media.probe import probe
from foremask.media.verify import verify
from foremask.options import Limits, Preset
from tests.support import synth

FRAMES = 6
HD = {"width": 1280, "height": 720}
FORMATS: dict[str, dict[str, Any]] = {
    "h264.ts": {},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "mpeg2.mxf": {"codec": "mpeg2video", "pixel_format": "yuv422p"},
    "flv1.flv": {"codec": "flv"},
    "raw.y4m": {"codec": "rawvideo"},
    "wmv2.wmv": {"codec": "wmv2"},
    "huffyuv.nut": {"codec": "huffyuv", "pixel_format": "yuv422p"},
    "h264.mkv": {},
    "ffv1.mkv": {"codec": "ffv1", "pixel_format": "yuv444p10le"},
    "prores.mov": {"codec": "prores", "pixel_format": "yuv422p10le"},
    "dnxhd.mov": {"codec": "dnxhd", "pixel_format": "yuv422p", "options": {"b": "75M"}} | HD,
    "vp8.webm": {"codec": "libvpx"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "drawn.apng": {"codec": "apng", "pixel_format": "rgba"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_masked_here_and_refused_by_the_service(tmp_path: Path, name: str) -> None:
    even = synth.Spec(128, 96, tuple(range(FRAMES)), Fraction(1, 25), last_duration=1)
    source = synth.write(tmp_path / name, replace(even, **FORMATS[name]))
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
