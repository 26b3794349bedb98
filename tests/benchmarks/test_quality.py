"""The part of the quality benchmark that needs no network: clips with and without a truth."""

from pathlib import Path

from benchmarks.clips import clips_in, frames_per_second
from benchmarks.quality import tiers
from benchmarks.quality.steadiness import steadiness

from tests.benchmarks import scenes
from tests.support import synth


def test_a_folder_has_sequences_with_a_truth_and_videos_without(tmp_path: Path) -> None:
    """A video has ten frames a thirtieth of a second apart; what is neither is left alone."""
    synth.write(tmp_path / "disc.mp4", synth.Spec())
    (tmp_path / "notes.jpg").write_bytes(b"no video")
    (tmp_path / "swan" / "frames").mkdir(parents=True)
    disc, swan = clips_in(tmp_path)
    assert (disc.name, swan.name) == ("disc", "swan")
    assert round(frames_per_second(disc.path)) == 30
    assert len(list(disc.frames())) == 10
    assert disc.truths() == []


def test_each_tier_is_a_line_of_the_table() -> None:
    scene = scenes.walk(frames=24)
    found = steadiness(scene.frames, scene.masks, scenes.flickering(scene))
    rows = [tiers.SteadyRow("walk", name, each) for name, each in zip("ab", found, strict=True)]
    head, _, first, second = tiers.steady_table(rows)
    assert first.count("|") == second.count("|") == head.count("|")
    assert first.startswith("| walk | a | 0.0 | 0.00 | 0.00 | 0 |")
    assert " | 4 | " in second  # two empty frames, each gone and come back
