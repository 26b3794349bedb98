from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from foremask.media.reader import VideoReader
from foremask.options import Excerpt, MaskOptions, Preset
from tests.support import synth
from tests.support.synth import Spec, Tone

FRAMES = 90


def numbered_clip(path: Path, **more: Any) -> Path:  # noqa: ANN401
    """Three seconds at 30 a second; each frame shows its number, and a tone plays."""
    spec = Spec(96, 32, pts=synth.even(FRAMES, Fraction(30)), sound=(Tone(seconds=3),), **more)
    return synth.write(path, spec, (synth.numbered(index) for index in range(FRAMES)))


@pytest.mark.parametrize(
    "preset", [Preset.MP4_H264, Preset.MKV_H264, Preset.MOV_PRORESKS, Preset.GIF]
)
@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "end"),
    [(1.5, 2.0, 45, 60), (0.0, 0.1, 0, 3), (2.9, None, 87, 90)],
)
def test_an_excerpt_has_its_frames_and_begins_at_zero(
    tmp_path: Path, preset: Preset, start_s: float, end_s: float | None, first: int, end: int
) -> None:
    source = numbered_clip(tmp_path / "a.mp4", b_frames=2, keyframe_every=40)
    target = tmp_path / f"mask{preset.suffix}"
    options = MaskOptions(preset=preset, excerpt=Excerpt(start_s, end_s))
    report = synth.mask(source, target, options, synth.bright_is_foreground)
    found = [synth.number_of(levels) for levels in synth.decode_grey(target)]
    assert found == list(range(first, end))
    assert report.frames_out == end - first
    tolerance_s = 0.0101 if preset is Preset.GIF else 0.0011
    assert report.duration_s == pytest.approx((end - first) / 30, abs=tolerance_s)
    for index, time in enumerate(synth.shown_at(target)):
        assert float(time) == pytest.approx(index / 30, abs=tolerance_s)


@pytest.mark.parametrize("preset", [Preset.MP4_H264, Preset.MKV_H264, Preset.WEBM_VP9])
def test_the_sound_of_an_excerpt_is_what_is_heard_in_it(tmp_path: Path, preset: Preset) -> None:
    source = numbered_clip(tmp_path / "a.mp4")
    target = tmp_path / f"mask{preset.suffix}"
    options = MaskOptions(preset=preset, excerpt=Excerpt(1.0, 2.0))
    synth.mask(source, target, options, synth.bright_is_foreground)
    with av.open(str(target)) as opened:
        heard_s = [frame.time or 0.0 for frame in opened.decode(audio=0)]
    assert -0.03 <= heard_s[0] <= 0.03
    assert 0.93 <= heard_s[-1] <= 1.03


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".avi", ".ts"])
def test_every_container_is_read_from_where_an_excerpt_begins(tmp_path: Path, suffix: str) -> None:
    spec = Spec(96, 32, tuple(range(FRAMES)), Fraction(1, 30), last_duration=1)
    spec = replace(spec, codec="vp9" if suffix == ".webm" else "h264")
    pictures = (synth.numbered(index) for index in range(FRAMES))
    source = synth.write(tmp_path / f"a{suffix}", spec, pictures)
    with VideoReader(source, Excerpt(2.0, 2.2)) as reader:
        found = [synth.number_of(frame.luma()) for frame in reader]
    assert found == [60, 61, 62, 63, 64, 65]
