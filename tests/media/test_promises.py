"""Clips of every kind keep their promises in every preset: odd ones, and ones drawn at random."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foremask.errors import PresetUnsuitable
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.media.writer import recode
from foremask.options import Preset
from tests.support import synth
from tests.support.synth import Spec, Tone

AVI: dict[str, Any] = {"time_base": Fraction(1, 25), "pts": tuple(range(12)), "last_duration": 1}
NTSC = synth.even(12, Fraction(30_000, 1001))

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
    "moving gif": (
        "a.gif",
        Spec(codec="gif", pixel_format="rgb8", pts=synth.even(9, Fraction(10))),
    ),
    "5.1": ("a.mp4", Spec(sound=(Tone(layout="5.1", seconds=0.4),))),
    "sound is longer": ("a.mp4", Spec(sound=(Tone(seconds=2.5),))),
    "sound is shorter": (
        "a.mp4",
        Spec(pts=synth.even(60, Fraction(30)), sound=(Tone(seconds=0.5),)),
    ),
    "sound after 2 s": (
        "a.mp4",
        Spec(pts=synth.even(90, Fraction(30)), sound=(Tone(seconds=0.5, start_s=2.0),)),
    ),
    "6 samples of sound in the last packet": (
        "a.mp4", Spec(sound=(Tone("aac", 16390 / 48000, layout="mono"),))
    ),
    "FLAC": ("a.mp4", Spec(sound=(Tone("flac", 0.4),))),
    "10 bits": ("a.mp4", Spec(codec="hevc", pixel_format="yuv420p10le")),
    "full range": ("a.mov", Spec(codec="mjpeg", pixel_format="yuvj420p", full_range=True)),
}  # fmt: skip
"""What `clips` does not draw, or hardly: the edges."""


def hevc_of_15_pixels(folder: Path) -> Path:
    whole = synth.write(folder / "whole.ts", Spec(16, 16, codec="hevc", pixel_format="yuv444p"))
    return synth.cropped(folder / "a.mp4", whole, 1, 1)


def gif_of_100_fps(folder: Path) -> Path:
    pts = tuple(range(30))
    spec = Spec(
        codec="gif", pixel_format="rgb8", time_base=Fraction(1, 100), pts=pts, last_duration=1
    )
    return synth.write(folder / "a.gif", spec)  # fmt: skip


def webm_of_a_browser(folder: Path) -> Path:
    uneven = synth.spread(30, (990, 1020, 3000))
    spec = Spec(codec="vp9", pts=uneven, muxer_options={"live": "1"}, sound=(Tone("opus", 1.0),))
    return synth.without_rate(folder / "a.webm", synth.write(folder / "whole.webm", spec))


ODDER: dict[str, tuple[Callable[[Path], Path], tuple[int, int], int]] = {
    "15x15 HEVC": (hevc_of_15_pixels, (15, 15), 10),
    "gif of 100 fps": (gif_of_100_fps, (64, 48), 30),
    "no duration, no rate": (webm_of_a_browser, (64, 48), 30),
}
"""What no encoder writes as it is: how it is made, its size, its frames."""


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("what", [*ODD, *ODDER])
def test_odd_clips_keep_every_promise(tmp_path: Path, what: str, preset: Preset) -> None:
    target = tmp_path / f"mask{preset.suffix}"
    if what in ODD:
        name, spec = ODD[what]
        source, size, frames = synth.write(tmp_path / name, spec), None, len(spec.pts)
    else:
        made, size, frames = ODDER[what]
        source = made(tmp_path)
    clip = probe(source)
    assert size in (None, (clip.width, clip.height))
    report = synth.mask(source, target, preset)
    verify(source, target)
    assert report.frames_in == report.frames_out == frames
    assert len(report.audio) == len(clip.audio)


@pytest.mark.parametrize("preset", Preset)
@pytest.mark.parametrize("turn", synth.TURNS.values(), ids=synth.TURNS)
def test_the_mask_lies_where_the_subject_is(
    tmp_path: Path, preset: Preset, turn: tuple[int, bool]
) -> None:
    spec = Spec(96, 64, turn=turn, options={"crf": "4"}, pts=NTSC[:6])
    source = synth.write(tmp_path / "clip.mov", spec)
    target = tmp_path / f"mask{preset.suffix}"
    synth.mask(source, target, preset)
    orientation = synth.orientation_of(spec)
    for found, (_, truth) in zip(synth.decode_grey(target), synth.draw(spec), strict=True):
        expected = orientation.to_upright(truth) if preset is Preset.GIF else truth
        disagree = np.abs(found.astype(int) - expected) > 128
        assert disagree.mean() < 0.02


@pytest.mark.parametrize("preset", Preset)
def test_an_empty_sound_track_is_kept_or_counted_as_left_out(
    tmp_path: Path, preset: Preset
) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"}
    tones = (Tone("mp3", 0.0, language="deu"), Tone("mp3", 0.3))
    source = synth.write(tmp_path / "a.mp4", Spec(sound=tones, muxer_options=options))
    target = tmp_path / f"mask{preset.suffix}"
    report = synth.mask(source, target, preset)
    with av.open(str(target)) as opened:
        held = len(opened.streams.audio)
    assert len(report.audio) == 2
    assert held == sum(track.action != "dropped" for track in report.audio)
    empty = report.audio[0]
    if preset.suffix in (".mp4", ".mov"):
        assert (held, empty.action, empty.written_as) == (1, "dropped", None)
        assert "it is empty" in empty.why
        assert any(
            "sound track 1 of 2 (mp3) was left out" in message for message in report.warnings
        )
    elif preset is not Preset.GIF:
        action = "transcoded" if preset is Preset.WEBM_VP9 else "kept"
        assert (held, empty.action) == (2, action)
        assert not report.warnings
    verify(source, target)


def test_sound_that_is_cut_off_plays_to_its_end(tmp_path: Path) -> None:
    spec = Spec(sound=(Tone(seconds=0.5),), muxer_options={"movflags": "faststart"})
    whole = synth.write(tmp_path / "whole.mp4", spec).read_bytes()
    source = tmp_path / "source.mp4"
    source.write_bytes(whole[:-20])
    target = tmp_path / "mask.mp4"
    report = synth.mask(source, target, Preset.MP4_H264)
    assert "a piece of sound was left out: it is cut off" in report.warnings
    verify(source, target)
    with av.open(str(target)) as opened:
        assert len(list(opened.decode(audio=0))) > 20


@st.composite
def clips(draw: Any) -> tuple[str, Spec]:  # noqa: ANN401  (hypothesis has no public type for it)
    name = draw(st.sampled_from(["a.mp4", "a.mov", "a.webm"]))
    codec = "vp9" if name == "a.webm" else draw(st.sampled_from(["h264", "hevc"]))
    smallest = 16 if codec == "hevc" else 1
    size = st.integers(smallest, 70)
    width, height = draw(size), draw(size)
    pixel_format = "yuv420p"
    if codec != "vp9" and (width % 2 or height % 2):
        pixel_format = "yuv444p"
    steps = draw(st.lists(st.integers(30, 4000), min_size=1, max_size=4))
    if name == "a.webm":
        steps = [max(30, step // 30 * 30) for step in steps]
    start = draw(st.sampled_from([0, 0, 1001, 30_000]))
    frames = draw(st.integers(1, 10))
    tones = st.builds(
        Tone,
        codec=st.just("opus") if name == "a.webm" else st.sampled_from(["aac", "mp3", "opus"]),
        seconds=st.floats(0.1, 0.6),
        start_s=st.sampled_from([0.0, 0.25]),
        language=st.sampled_from([None, "eng", "deu", "jpn"]),
        layout=st.sampled_from(["mono", "stereo"]),
    )
    sound = draw(st.lists(tones, max_size=2)) if name != "a.mov" else ()
    spec = Spec(
        width,
        height,
        pts=tuple(start + pts for pts in synth.spread(frames, steps)),
        last_duration=steps[0],
        codec=codec,
        pixel_format=pixel_format,
        turn=draw(st.sampled_from(list(synth.TURNS.values()))) if name != "a.webm" else (0, False),
        aspect=draw(st.sampled_from([Fraction(1), Fraction(4, 3), Fraction(8, 9)])),
        b_frames=draw(st.sampled_from([0, 0, 2])) if codec == "h264" else 0,
        sound=tuple(sound),
    )
    return name, spec


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(clip=clips(), preset=st.sampled_from(list(Preset)))
def test_random_clips_keep_every_promise(
    tmp_path_factory: pytest.TempPathFactory, clip: tuple[str, Spec], preset: Preset
) -> None:
    folder = tmp_path_factory.mktemp("random")
    name, spec = clip
    source = synth.write(folder / name, spec)
    target = folder / f"mask{preset.suffix}"
    try:
        synth.mask(source, target, preset)
    except PresetUnsuitable:
        assert not target.exists()
        assert preset is Preset.GIF
    else:
        verify(source, target)


# A mask in another preset, made from the mask that there is.

MASKED = Spec(
    pts=synth.even(10, Fraction(25)), last_duration=1200, turn=(90, False), sound=(Tone(),)
)


def levels(path: Path) -> list["np.ndarray[tuple[int, int], np.dtype[np.uint8]]"]:
    with VideoReader(path) as reader:
        return [frame.rgb(frame.width, frame.height)[:, :, 0] for frame in reader]


@pytest.mark.parametrize("wanted", Preset)
@pytest.mark.parametrize("kept", [Preset.MP4_H264, Preset.MOV_PRORESKS, Preset.MKV_VP9])
def test_every_preset_comes_from_every_other(kept: Preset, wanted: Preset, tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", MASKED)
    first = tmp_path / f"first{kept.suffix}"
    synth.mask(source, first, kept)
    other = tmp_path / f"other{wanted.suffix}"
    reported: list[int] = []
    written = recode(first, other, wanted, lambda done, _: reported.append(done))
    assert written.frames_out == 10
    assert reported == list(range(1, 11))
    assert verify(source, other)
    for before, after in zip(levels(first), levels(other), strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).mean() < 1.5
