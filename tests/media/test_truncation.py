import struct
from pathlib import Path

import pytest

from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from tests.support import synth

CLIPS = {
    "mp4": synth.Spec(muxer_options={"movflags": "+faststart"}),
    "mov": synth.Spec(muxer_options={"movflags": "frag_keyframe+empty_moov"}, keyframe_every=2),
    "webm": synth.Spec(codec="vp9"),
    "gif": synth.Spec(codec="gif", pixel_format="rgb8"),
}


@pytest.mark.parametrize("kind", CLIPS)
def test_the_reader_warns_of_a_cut(tmp_path: Path, kind: str) -> None:
    path = synth.write(tmp_path / f"clip.{kind}", CLIPS[kind])
    with VideoReader(path) as reader:
        assert sum(1 for _ in reader) == 10
        assert reader.warnings == []
    data = path.read_bytes()
    for left in (len(data) - 1, len(data) * 3 // 4):
        path.write_bytes(data[:left])
        with VideoReader(path) as reader:
            assert sum(1 for _ in reader) <= 10
            assert len(reader.warnings) == 1


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
