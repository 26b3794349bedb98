"""The part of the quality benchmark that needs no network: clips with and without a truth."""

from pathlib import Path

from benchmarks.clips import clips_in, frames_per_second

from tests.support import synth


def test_a_folder_has_sequences_with_a_truth_and_videos_without(tmp_path: Path) -> None:
    synth.write(tmp_path / "disc.mp4", synth.Spec())
    (tmp_path / "notes.jpg").write_bytes(b"no video")
    (tmp_path / "swan" / "frames").mkdir(parents=True)
    disc, swan = clips_in(tmp_path)
    assert (disc.name, swan.name) == ("disc", "swan")
    assert round(frames_per_second(disc.path)) == 30
    assert len(list(disc.frames())) == 10
    assert disc.truths() == []
