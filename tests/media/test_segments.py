import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import pytest

from foremask.facts import SegmentGrid
from foremask.media.reader import VideoReader
from foremask.media.segments import cut, join, plan
from foremask.media.verify import verify
from foremask.options import Excerpt, Form, JobSpec
from foremask.types import Alpha, Image
from tests.support import synth
from tests.support.synth import Spec, Tone

FRAMES = 60
GRID = SegmentGrid(window_frames=14, context_frames=9, least_frames=14)
PTS = synth.even(FRAMES, Fraction(30_000, 1001), start=1001)
CLIPS: dict[str, tuple[str, Spec]] = {
    "closed": ("a.mp4", Spec(96, 32, pts=PTS, b_frames=3, sound=(Tone(seconds=2.1),))),
    "open GOP": ("a.mp4", Spec(96, 32, pts=PTS, b_frames=3, open_gop=True)),
    "open GOP, HEVC": ("a.mov", Spec(96, 32, pts=PTS, b_frames=3, open_gop=True, codec="hevc")),
    "VFR": ("a.mp4", Spec(96, 32, pts=synth.spread(FRAMES, (1001, 2002, 501)), b_frames=2)),
    "VP9": ("a.webm", Spec(96, 32, pts=PTS, codec="vp9", sound=(Tone("opus", 2.0),))),
    "Photo-JPEG": ("a.mov", Spec(96, 32, pts=PTS, codec="mjpeg", pixel_format="yuvj420p")),
    "turned": ("a.mp4", Spec(96, 32, pts=PTS, turn=(90, False))),
}


@pytest.mark.parametrize(
    ("kind", "preset"),
    [
        *product(CLIPS, [Form.MP4_H264, Form.WEBM_VP9, Form.MOV_PRORESKS]),
        ("closed", Form.MP4_H265),
        ("closed", Form.MKV_H264),
    ],
)
def test_parts_join_to_the_mask_of_the_whole(tmp_path: Path, kind: str, preset: Form) -> None:
    name, spec = CLIPS[kind]
    source = synth.write(tmp_path / name, spec, (synth.numbered(i) for i in range(FRAMES)))
    parts = []
    for number, span in enumerate(plan(source, 4, GRID)):
        piece, part = tmp_path / f"piece{number}", tmp_path / f"part{number}"
        cut(source, span, piece)
        synth.mask(piece, part, preset, synth.bright_is_foreground, span=span, clip_start_s=0.0)
        parts.append(part)
    assert len(parts) > 2
    target = tmp_path / f"mask{preset.suffix}"
    join(parts, source, target, preset)
    verify(source, target)
    found = [synth.number_of(grey) for grey in synth.decode_grey(target)]
    assert found == list(range(FRAMES))


def test_a_clip_is_cut_once_for_so_many_of_its_frames(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(96, 32, pts=PTS))
    numbers = [len(plan(source, 9, replace(GRID, frames_per_cut=n))) for n in (1, 20, 30, 31, 61)]
    assert numbers == [4, 4, 3, 2, 1]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("a.avi", Spec(time_base=Fraction(1, 25), pts=tuple(range(60)), last_duration=1)),
        ("a.gif", Spec(codec="gif", pixel_format="rgb8", pts=synth.even(60, Fraction(10)))),
        ("short.mp4", Spec(pts=PTS[:6])),
        ("few keyframes.mp4", Spec(pts=PTS, keyframe_every=20)),
        ("prores.mov", Spec(codec="prores", pixel_format="yuv422p10le", pts=PTS)),
    ],
)
def test_what_cannot_be_cut_is_one_span(tmp_path: Path, name: str, spec: Spec) -> None:
    """AVI has no pts, gif no keyframes, MP4 holds no ProRes; the cut is a plain copy."""
    source = synth.write(tmp_path / name, spec)
    spans = plan(source, 4, GRID)
    assert len(spans) == 1
    assert spans[0].end_pts is None
    cut(source, spans[0], tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_span_costs_a_masker_little_more_than_its_own_frames(tmp_path: Path) -> None:
    spec = Spec(96, 32, pts=synth.even(90, Fraction(30)), b_frames=2, keyframe_every=30)
    source = synth.write(tmp_path / "a.mp4", spec, (synth.numbered(i) for i in range(90)))
    spans = plan(source, 3, SegmentGrid(10, 12, 30))
    cut(source, spans[1], tmp_path / "piece")
    observed: list[Image] = []

    def counting(pictures: Iterable[Image], /) -> Iterator[Alpha]:
        for picture in pictures:
            observed.append(picture)
            yield from synth.bright_is_foreground([picture])

    report = synth.mask(
        tmp_path / "piece", tmp_path / "part", masker=counting, span=spans[1], clip_start_s=0.0
    )
    assert (len(spans), report.frames_out, len(observed)) == (3, 30, 54)


# Excerpts, and files that are cut off


NUMBERED = 90
EVEN = Spec(96, 32, tuple(range(NUMBERED)), Fraction(1, 30), last_duration=1, keyframe_every=40)


def numbered_clip(path: Path, spec: Spec) -> Path:
    return synth.write(path, spec, (synth.numbered(index) for index in range(NUMBERED)))


@pytest.mark.parametrize("preset", [Form.MP4_H264, Form.MKV_H264, Form.MOV_PRORESKS, Form.GIF])
@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "end"),
    [(1.5, 2.0, 45, 60), (0.0, 0.1, 0, 3), (2.9, None, 87, 90)],
)
def test_an_excerpt_has_its_frames_and_begins_at_zero(
    tmp_path: Path, preset: Form, start_s: float, end_s: float | None, first: int, end: int
) -> None:
    source = numbered_clip(tmp_path / "a.mp4", replace(EVEN, b_frames=2))
    target = tmp_path / f"mask{preset.suffix}"
    spec = JobSpec(form=Form(preset), excerpt=Excerpt(start_s, end_s))
    report = synth.mask(source, target, spec, synth.bright_is_foreground)
    found = [synth.number_of(levels) for levels in synth.decode_grey(target)]
    assert found == list(range(first, end))
    assert report.frames_out == end - first
    tolerance_s = 0.0101 if preset is Form.GIF else 0.0011
    assert report.duration_s == pytest.approx((end - first) / 30, abs=tolerance_s)
    for index, time in enumerate(synth.shown_at(target)):
        assert float(time) == pytest.approx(index / 30, abs=tolerance_s)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "three decimals"])
def test_excerpts_that_meet_at_a_frames_time_share_no_frame_and_lose_none(
    tmp_path: Path, suffix: str, codec: str, *, exact: bool
) -> None:
    """WebM rounds times to milliseconds, and so do people: the frame at 2/3 s is shown at 0.667."""
    source = numbered_clip(tmp_path / f"a{suffix}", replace(EVEN, codec=codec))
    for number in range(1, NUMBERED - 1):
        moments_s = [number / 30, (number + 1) / 30]
        if not exact:
            moments_s = [round(moment, 3) for moment in moments_s]
        with VideoReader(source, Excerpt(*moments_s)) as reader:
            frames = [(synth.number_of(frame.luma()), float(frame.time_s)) for frame in reader]
        assert [shown for shown, _ in frames] == [number]
        assert frames[0][1] == pytest.approx(0, abs=0.00051)
        assert reader.end is not None
        tick_s = 0.001 if suffix == ".webm" else 0.00001
        assert float(reader.end) == pytest.approx(1 / 30, abs=tick_s)  # its rate stays what it was


@pytest.mark.parametrize("preset", [Form.MP4_H264, Form.MKV_H264, Form.WEBM_VP9])
def test_the_sound_of_an_excerpt_is_what_is_heard_in_it(tmp_path: Path, preset: Form) -> None:
    source = numbered_clip(tmp_path / "a.mp4", replace(EVEN, sound=(Tone(seconds=3),)))
    target = tmp_path / f"mask{preset.suffix}"
    spec = JobSpec(form=Form(preset), excerpt=Excerpt(1.0, 2.0))
    synth.mask(source, target, spec, synth.bright_is_foreground)
    with av.open(str(target)) as opened:
        heard_s = [frame.time or 0.0 for frame in opened.decode(audio=0)]
    assert -0.03 <= heard_s[0] <= 0.03
    assert 0.93 <= heard_s[-1] <= 1.03


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".avi", ".ts"])
def test_every_container_is_read_from_where_an_excerpt_begins(tmp_path: Path, suffix: str) -> None:
    codec = "vp9" if suffix == ".webm" else "h264"
    source = numbered_clip(tmp_path / f"a{suffix}", replace(EVEN, codec=codec))
    with VideoReader(source, Excerpt(2.0, 2.2)) as reader:
        found = [synth.number_of(frame.luma()) for frame in reader]
    assert found == [60, 61, 62, 63, 64, 65]


CUT_OFF = {
    "mp4": Spec(muxer_options={"movflags": "+faststart"}),
    "mov": Spec(muxer_options={"movflags": "frag_keyframe+empty_moov"}, keyframe_every=2),
    "webm": Spec(codec="vp9"),
    "gif": Spec(codec="gif", pixel_format="rgb8"),
}


@pytest.mark.linux
@pytest.mark.parametrize("kind", CUT_OFF)
def test_what_is_left_of_a_file_that_is_cut_off_is_read_with_a_warning(
    tmp_path: Path, kind: str
) -> None:
    path = synth.write(tmp_path / f"clip.{kind}", CUT_OFF[kind])
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 10
        assert reader.warnings == []
    data, allowed = path.read_bytes(), os.sched_getaffinity(0)
    for left in (len(data) - 1, len(data) * 3 // 4):
        path.write_bytes(data[:left])
        counts = set[int]()
        for processors in (allowed, {min(allowed)}):  # decoders of one have no threads
            os.sched_setaffinity(0, processors)
            try:
                with VideoReader(path) as reader:
                    counts.add(sum(1 for _ in reader))
            finally:
                os.sched_setaffinity(0, allowed)
            assert len(reader.warnings) == 1
        assert len(counts) == 1
        assert 0 < counts.pop() <= 10


def test_a_frame_lasts_no_longer_than_its_file(tmp_path: Path) -> None:
    source, target = synth.write(tmp_path / "a.mp4"), tmp_path / "mask.mp4"
    data = source.read_bytes()
    times = struct.pack(">II", 10, 1_000)  # ten frames of a thousand ticks
    assert data.count(times) == 1
    source.write_bytes(data.replace(times, struct.pack(">II", 10, 0x7FFF_0000)))
    report = synth.mask(source, target)
    verify(source, target)
    assert report.frames_out == 1
    assert report.duration_s == pytest.approx(1 / 3)
    assert report.warnings == ("the file declares 10 frames and holds 1",)
