"""`foremask mask` with hints: the words of a shell become hints of one clip."""

from pathlib import Path

import pytest

from foremask.cli.exits import Usage
from foremask.cli.hint_options import HintOptions
from foremask.cli.mask_command import mask
from foremask.hints.kinds import Box, Point


def test_all_options_are_hints_the_file_first(tmp_path: Path) -> None:
    (tmp_path / "hints.json").write_text('[{"type": "point", "x": 1, "y": 2}]')
    options = HintOptions(
        point=["640,360@12"], against=["9,8@0.5s"], box=["1,2,30,40"], hints=tmp_path / "hints.json"
    )
    assert options.parsed() == (
        Point(1, 2),
        Box(1, 2, 30, 40),
        Point(640, 360, frame=12),
        Point(9, 8, time_s=0.5, negative=True),
    )


def test_hints_are_of_one_clip(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(Usage, match="one INPUT"):
        mask(tmp_path / "a.mp4", tmp_path / "b.mp4", hinted=HintOptions(point=["1,2"]))
