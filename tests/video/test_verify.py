import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from foremask.errors import PromiseBroken
from foremask.video.verify import verify
from tests import synth
from tests.synth import Spec, Tone

WHOLE = Spec(sound=(Tone(language="eng"),), turn=(90, False), aspect=Fraction(4, 3))
BROKEN = {
    "size": replace(WHOLE, width=66),
    "rotation": replace(WHOLE, turn=(0, False)),
    "aspect": replace(WHOLE, aspect=Fraction(1)),
    "frames": replace(WHOLE, pts=WHOLE.pts[:-1]),
    "pts": replace(WHOLE, pts=(*WHOLE.pts[:4], WHOLE.pts[4] + 1, *WHOLE.pts[5:])),
    "last duration": replace(WHOLE, last_duration=1500),
    "audio tracks": replace(WHOLE, sound=()),
    "audio language": replace(WHOLE, sound=(Tone(language="deu"),)),
    "audio start": replace(WHOLE, sound=(Tone(language="eng", start_s=0.2),)),
    "audio end": replace(WHOLE, sound=(Tone(language="eng", seconds=0.7),)),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_the_broken_promise_is_named(tmp_path: Path, promise: str) -> None:
    """One difference, and `verify` says which."""
    source = synth.write(tmp_path / "source.mp4", WHOLE)
    mask = synth.write(tmp_path / "mask.mp4", BROKEN[promise])
    with pytest.raises(PromiseBroken) as broken:
        verify(source, mask)
    assert broken.value.param == promise


def test_a_copy_keeps_every_promise(tmp_path: Path) -> None:
    """Nothing is broken where nothing differs."""
    source = synth.write(tmp_path / "source.mp4", WHOLE)
    mask = tmp_path / "mask.mp4"
    shutil.copyfile(source, mask)
    promises = [check.promise for check in verify(source, mask)]
    assert promises == [
        "container", "size", "rotation", "aspect", "frames", "pts", "last duration",
        "audio tracks", "audio language", "audio start", "audio end",
    ]  # fmt: skip


def test_an_avi_is_no_mask(tmp_path: Path) -> None:
    """No preset writes AVI."""
    spec = Spec(time_base=Fraction(1, 30), pts=tuple(range(9)), last_duration=1)
    source = synth.write(tmp_path / "source.avi", spec)
    with pytest.raises(PromiseBroken, match="avi"):
        verify(source, source)
