"""A mask in another preset, made from the mask that there is."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from foremask.media.reader import VideoReader
from foremask.media.recode import recode
from foremask.media.verify import verify
from foremask.options import Preset
from tests.support import synth
from tests.support.synth import Spec, Tone

SPEC = Spec(pts=synth.even(10, Fraction(25)), last_duration=1200, turn=(90, False), sound=(Tone(),))


def levels(path: Path) -> list["np.ndarray[tuple[int, int], np.dtype[np.uint8]]"]:
    with VideoReader(path) as reader:
        return [frame.rgb(frame.width, frame.height)[:, :, 0] for frame in reader]


@pytest.mark.parametrize("wanted", Preset)
@pytest.mark.parametrize("kept", [Preset.MP4_H264, Preset.MOV_PRORESKS, Preset.MKV_VP9])
def test_every_preset_comes_from_every_other(kept: Preset, wanted: Preset, tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", SPEC)
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
