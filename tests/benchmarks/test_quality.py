"""The part of the quality benchmark that needs no network.

Steadiness, of clips with and without a truth.
"""

from pathlib import Path

from benchmarks.clips import clips_in, frames_per_second
from benchmarks.quality import tiers

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


def test_each_tier_is_measured_beside_the_truth() -> None:
    """The truth has no fault, the faded masks have, and the table says so line by line."""
    scene = scenes.walk(frames=48)
    pictures = [tiers.Numbered(frame, number) for number, frame in enumerate(scene.frames)]
    levels = {tiers.TRUTH: scene.masks, "fast": scenes.faded(scene, 8, 32)}
    truth, fast = tiers.steady_rows("walk", pictures, levels, 24)
    assert truth.steady.lost[32] == 0
    assert fast.steady.lost[32] > 25
    head, _, *lines = tiers.steady_table([truth, fast])
    assert [line.split(" | ")[1] for line in lines] == ["truth", "fast"]
    assert all(line.count("|") == head.count("|") for line in lines)
