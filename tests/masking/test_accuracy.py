"""The real network on a drawn scene, from file to file; real clips: tests/vision/test_floor.py."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from foremask.masking.pipeline import mask_video
from foremask.masking.report import Progress
from foremask.options import MaskOptions, Preset, Quality
from tests.support import synth
from tests.vision.temporal.test_windows import HEIGHT, WIDTH, moving_disc


@pytest.mark.weights
def test_the_network_finds_the_disc_and_its_newest_mask_comes_first(tmp_path: Path) -> None:
    """In the tier that runs it least: J 0.98, where 0.989 was measured."""
    scene = list(moving_disc(30))
    spec = synth.Spec(WIDTH, HEIGHT, pts=synth.even(30, Fraction(25)))
    source = synth.write(tmp_path / "clip.mp4", spec, (image.pixels for image, _ in scene))
    reported: list[Progress] = []
    options = MaskOptions(preset=Preset.MP4_H264, quality=Quality.FAST)
    mask_video(source, tmp_path / "mask.mp4", options, on_frame=reported.append)
    newest = [each for each in reported if each.frames_done < 24][-1].newest  # none is written yet
    assert newest is not None
    assert 0.02 < newest.mean() < 0.5
    found = [grey > 127 for grey in synth.decode_grey(tmp_path / "mask.mp4")]
    overlaps = [
        float((mask & truth).sum() / (mask | truth).sum())
        for mask, (_, truth) in zip(found, scene, strict=True)
    ]
    assert np.mean(overlaps) >= 0.98
