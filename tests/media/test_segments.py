from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from foremask.facts import SegmentGrid
from foremask.media.segments import cut, join, plan
from foremask.media.verify import verify
from foremask.options import Preset
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
        *product(CLIPS, [Preset.MP4_H264, Preset.WEBM_VP9, Preset.MOV_PRORESKS]),
        ("closed", Preset.MP4_H265),
        ("closed", Preset.MKV_H264),
    ],
)
def test_parts_join_to_the_mask_of_the_whole(tmp_path: Path, kind: str, preset: Preset) -> None:
    name, spec = CLIPS[kind]
    source = synth.write(tmp_path / name, spec, (synth.numbered(i) for i in range(FRAMES)))
    parts = []
    for number, span in enumerate(plan(source, 4, GRID)):
        piece, part = tmp_path / f"piece{number}", tmp_path / f"part{number}"
        cut(source, span, piece)
        synth.mask(piece, part, preset, synth.bright_is_foreground, span=span)
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

    report = synth.mask(tmp_path / "piece", tmp_path / "part", masker=counting, span=spans[1])
    assert (len(spans), report.frames_out, len(observed)) == (3, 30, 54)
