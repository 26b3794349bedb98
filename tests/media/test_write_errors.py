import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from foremask.errors import OutputFailed
from foremask.facts import SegmentGrid
from foremask.media.segments import cut, plan
from foremask.options import Preset
from tests.support import synth
from tests.support.synth import Spec, Tone


@contextmanager
def disk_of(size_bytes: int) -> Iterator[None]:
    """The kernel lets no file grow beyond ``size_bytes``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("aspect", [1, 2])
@pytest.mark.parametrize("preset", Preset)
def test_a_disk_that_fills_up_leaves_no_mask(tmp_path: Path, preset: Preset, aspect: int) -> None:
    spec = Spec(aspect=Fraction(aspect), sound=(Tone(seconds=0.4),))
    source = synth.write(tmp_path / "a.mp4", spec)
    target = tmp_path / f"mask{preset.suffix}"
    size_bytes = synth.mask(source, target, preset).bytes
    target.unlink()
    for left in (0, size_bytes // 3, size_bytes - 300, size_bytes - 1):
        with disk_of(left), pytest.raises(OutputFailed, match="cannot be written"):
            synth.mask(source, target, preset)
        assert not target.exists()


@pytest.mark.parametrize("most", [3, 1])
def test_a_disk_that_fills_up_is_no_fault_of_the_clip(tmp_path: Path, most: int) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(keyframe_every=3))
    segment = plan(source, most, SegmentGrid(6, 2, 6))[-1]
    for left in (0, 1000):
        with disk_of(left), pytest.raises(OutputFailed):
            cut(source, segment, tmp_path / "cut.mp4")
