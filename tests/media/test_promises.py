"""Clips of every kind keep their promises in every preset: odd ones, and ones drawn at random."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foremask import errors
from foremask.media.probe import probe
from foremask.media.verify import verify
from foremask.options import MASK_FORMS, Form, Limits
from tests.support import synth
from tests.support.refusals import refused
from tests.support.synth import Spec, Tone

AVI: dict[str, Any] = {"time_base": Fraction(1, 25), "pts": tuple(range(12)), "last_duration": 1}
GIF: dict[str, Any] = {"codec": "gif", "pixel_format": "rgb8"}
NTSC, TWO_S = synth.even(12, Fraction(30_000, 1001)), synth.even(60, Fraction(30))

ODD: dict[str, tuple[str, Spec]] = {
    "1x1": ("a.mp4", Spec(1, 1, pixel_format="yuv444p")),
    "16x16 HEVC": ("a.mp4", Spec(16, 16, codec="hevc")),
    "853x479": ("a.mp4", Spec(853, 479, pts=NTSC[:4], pixel_format="yuv444p")),
    "1920x200": ("a.mp4", Spec(1920, 200, pts=NTSC[:3])),
    "1 fps": ("a.mp4", Spec(pts=synth.even(3, Fraction(1)), last_duration=30_000)),
    "fragmented": ("a.mp4", Spec(muxer_options={"movflags": "frag_keyframe+empty_moov"})),
    "no duration": ("a.webm", Spec(codec="vp9", muxer_options={"live": "1"})),
    "AVI, B-frames": ("a.avi", Spec(b_frames=2, sound=(Tone("pcm_s16le", 0.48),), **AVI)),
    "AVI, PCM of 24 bits": ("a.avi", Spec(sound=(Tone("pcm_s24le", 0.48),), **AVI)),
    "moving gif": ("a.gif", Spec(pts=synth.even(9, Fraction(10)), **GIF)),
    "gif of 100 fps": ("a.gif", Spec(pts=synth.even(30, Fraction(100)), last_duration=300, **GIF)),
    "5.1": ("a.mp4", Spec(sound=(Tone(layout="5.1", seconds=0.4),))),
    "sound is longer": ("a.mp4", Spec(sound=(Tone(seconds=2.5),))),
    "sound is shorter": ("a.mp4", Spec(pts=TWO_S, sound=(Tone(seconds=0.5),))),
    "sound after 1.5 s": ("a.mp4", Spec(pts=TWO_S, sound=(Tone(seconds=0.4, start_s=1.5),))),
    "6 samples in the last packet": ("a.mp4", Spec(sound=(Tone("aac", 16390 / 48000),))),
    "FLAC": ("a.mp4", Spec(sound=(Tone("flac", 0.4),))),
    "10 bits": ("a.mp4", Spec(codec="hevc", pixel_format="yuv420p10le")),
    "full range": ("a.mov", Spec(codec="mjpeg", pixel_format="yuvj420p", full_range=True)),
}
"""What `clips` does not draw, or hardly: the edges."""


def hevc_of_15_pixels(folder: Path) -> Path:
    whole = synth.write(folder / "whole.ts", Spec(16, 16, codec="hevc", pixel_format="yuv444p"))
    cropped = synth.cropped(folder / "a.mp4", whole, 1, 1)
    assert probe(cropped).width == 15
    return cropped


def webm_of_a_browser(folder: Path) -> Path:
    uneven = synth.spread(10, (990, 1020, 3000))
    spec = Spec(codec="vp9", pts=uneven, muxer_options={"live": "1"}, sound=(Tone("opus", 1.0),))
    return synth.without_rate(folder / "a.webm", synth.write(folder / "whole.webm", spec))


ODDER = {"15x15 HEVC": hevc_of_15_pixels, "no duration, no rate": webm_of_a_browser}
"""What no encoder writes as it is, of ten frames each."""


ONE_OF_EACH = {Form.MP4_H264, Form.MOV_PRORESKS, Form.WEBM_VP9, Form.GIF}
"""Presets that differ in container and codec; the other five are not in `make quick`."""


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(each, marks=() if each in ONE_OF_EACH else pytest.mark.slow)
        for each in MASK_FORMS
    ],
)
@pytest.mark.parametrize("what", [*ODD, *ODDER])
def test_odd_clips_keep_every_promise(tmp_path: Path, what: str, preset: Form) -> None:
    target = tmp_path / f"mask{preset.suffix}"
    if what in ODD:
        name, spec = ODD[what]
        source, frames = synth.write(tmp_path / name, spec), len(spec.pts)
    else:
        source, frames = ODDER[what](tmp_path), 10
    report = synth.mask(source, target, preset)
    verify(source, target)
    assert report.frames_in == report.frames_out == frames
    assert len(report.audio) == len(probe(source).audio)


HD = {"width": 1280, "height": 720}
REFUSED: dict[str, dict[str, Any]] = {
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


@pytest.mark.parametrize("name", REFUSED)
def test_other_formats_are_masked_but_not_by_the_service(tmp_path: Path, name: str) -> None:
    even = Spec(128, 96, tuple(range(6)), Fraction(1, 25), last_duration=1)
    source = synth.write(tmp_path / name, replace(even, **REFUSED[name]))
    target = tmp_path / "mask.mkv"
    report = synth.mask(source, target, Form.MKV_H264)
    assert report.frames_out == 6
    assert report.coverage > 0.05
    verify(source, target)
    with refused("container_unsupported", "codec_unsupported"):
        probe(source, Limits())
    with source.open("rb") as file:
        opened, whole = probe(file, Limits(any_format=True)), probe(source)
    assert (opened.codec, opened.width, opened.fps) == (whole.codec, whole.width, whole.fps)


@pytest.mark.parametrize("preset", MASK_FORMS)
@pytest.mark.parametrize("turn", synth.TURNS.values(), ids=synth.TURNS)
def test_the_mask_lies_where_the_subject_is(
    tmp_path: Path, preset: Form, turn: tuple[int, bool]
) -> None:
    spec = Spec(96, 64, turn=turn, options={"crf": "4"}, pts=NTSC[:6])
    source = synth.write(tmp_path / "clip.mov", spec)
    target = tmp_path / f"mask{preset.suffix}"
    synth.mask(source, target, preset)
    orientation = synth.orientation_of(spec)
    for found, (_, truth) in zip(synth.decode_grey(target), synth.draw(spec), strict=True):
        expected = orientation.to_upright(truth) if preset is Form.GIF else truth
        disagree = np.abs(found.astype(int) - expected) > 128
        assert disagree.mean() < 0.02


@pytest.mark.parametrize("preset", MASK_FORMS)
def test_an_empty_sound_track_is_kept_or_counted_as_left_out(tmp_path: Path, preset: Form) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    tones = (Tone("mp3", 0.0, language="deu"), Tone("mp3", 0.3))
    source = synth.write(tmp_path / "a.mp4", Spec(sound=tones, muxer_options=options))
    target = tmp_path / f"mask{preset.suffix}"
    report = synth.mask(source, target, preset)
    held = len(probe(target).audio)
    assert held == sum(track.action != "dropped" for track in report.audio)
    empty, _ = report.audio
    if preset.suffix in (".mp4", ".mov"):
        assert (held, empty.action, empty.written_as) == (1, "dropped", None)
        assert "it is empty" in empty.why
        assert "sound track 1 of 2 (mp3) was left out" in "".join(report.warnings)
    elif preset is not Form.GIF:
        action = "transcoded" if preset is Form.WEBM_VP9 else "kept"
        assert (held, empty.action) == (2, action)
        assert not report.warnings
    verify(source, target)


def test_sound_that_is_cut_off_plays_to_its_end(tmp_path: Path) -> None:
    spec = Spec(sound=(Tone(seconds=0.5),), muxer_options={"movflags": "faststart"})
    source, target = synth.write(tmp_path / "source.mp4", spec), tmp_path / "mask.mp4"
    source.write_bytes(source.read_bytes()[:-20])
    report = synth.mask(source, target)
    assert "a piece of sound was left out: it is cut off" in report.warnings
    verify(source, target)
    with av.open(str(target)) as opened:
        assert len(list(opened.decode(audio=0))) > 20


@st.composite
def clips(draw: Any) -> tuple[str, Spec]:  # noqa: ANN401  (hypothesis has no public type for it)
    files = [*product(["mp4", "mov"], ["h264", "hevc"]), ("webm", "vp9")]
    suffix, codec = draw(st.sampled_from(files))
    size = st.integers(16 if codec == "hevc" else 1, 70)
    width, height = draw(size), draw(size)
    is_odd = codec != "vp9" and (width % 2 or height % 2)
    steps = draw(st.lists(st.integers(30, 4000), min_size=1, max_size=4))
    if codec == "vp9":
        steps = [max(30, step // 30 * 30) for step in steps]
    start = draw(st.sampled_from([0, 0, 1001, 30_000]))
    tones = st.builds(
        Tone,
        codec=st.just("opus") if codec == "vp9" else st.sampled_from(["aac", "mp3", "opus"]),
        seconds=st.floats(0.1, 0.6),
        start_s=st.sampled_from([0.0, 0.25]),
        language=st.sampled_from([None, "eng", "deu", "jpn"]),
        layout=st.sampled_from(["mono", "stereo"]),
    )
    spec = Spec(
        width,
        height,
        pts=tuple(start + pts for pts in synth.spread(draw(st.integers(1, 10)), steps)),
        last_duration=steps[0],
        codec=codec,
        pixel_format="yuv444p" if is_odd else "yuv420p",
        turn=draw(st.sampled_from(list(synth.TURNS.values()))) if codec != "vp9" else (0, False),
        aspect=draw(st.sampled_from([Fraction(1), Fraction(4, 3), Fraction(8, 9)])),
        b_frames=draw(st.sampled_from([0, 0, 2])) if codec == "h264" else 0,
        sound=tuple(draw(st.lists(tones, max_size=2))) if suffix != "mov" else (),
    )
    return f"a.{suffix}", spec


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(clip=clips(), preset=st.sampled_from(MASK_FORMS))
def test_random_clips_keep_every_promise(
    tmp_path_factory: pytest.TempPathFactory, clip: tuple[str, Spec], preset: Form
) -> None:
    folder = tmp_path_factory.mktemp("random")
    source = synth.write(folder / clip[0], clip[1])
    target = folder / f"mask{preset.suffix}"
    try:
        synth.mask(source, target, preset)
    except errors.PresetUnsuitable:
        assert not target.exists()
        assert preset is Form.GIF
    else:
        verify(source, target)
