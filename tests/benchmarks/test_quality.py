"""The part of the quality benchmark that needs no network.

Steadiness, of clips with and without a truth.
"""

from pathlib import Path

from benchmarks.clips import Clip
from benchmarks.quality import tiers
from benchmarks.quality.footage import footage_in

from tests.benchmarks import scenes
from tests.support import synth


def test_a_folder_of_videos_is_footage_with_its_own_frame_rate(tmp_path: Path) -> None:
    """Ten frames a thirtieth of a second apart; what is no video is left alone."""
    synth.write(tmp_path / "disc.mp4", synth.Spec())
    (tmp_path / "notes.jpg").write_bytes(b"no video")
    (clip,) = footage_in(tmp_path)
    assert clip.name == "disc"
    assert round(clip.fps) == 30
    assert len(list(clip.frames())) == 10


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


def test_a_clip_in_davis_layout_is_no_footage(tmp_path: Path) -> None:
    """So it is scored against its truth."""
    (tmp_path / "swan" / "frames").mkdir(parents=True)
    assert footage_in(tmp_path) == []
    assert Clip(tmp_path / "swan").name == "swan"
