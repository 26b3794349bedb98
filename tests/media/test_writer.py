import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.errors import OutputFailed, PresetUnsuitable
from foremask.facts import SegmentGrid
from foremask.media.presets import check_preset
from foremask.media.reader import VideoReader
from foremask.media.segments import cut, plan
from foremask.media.writer import MaskWriter
from foremask.options import Preset
from tests.support import synth
from tests.support.synth import Spec, Tone


def write(folder: Path, preset: Preset, masks: list[NDArray[np.uint8]]) -> Path:
    height, width = masks[0].shape
    pts = synth.even(len(masks), Fraction(30))
    source = synth.write(folder / "a.mp4", Spec(width, height, pts, pixel_format="yuv444p"))
    target = folder / f"mask{preset.suffix}"
    with VideoReader(source) as reader, MaskWriter(target, preset, reader.clip, None) as writer:
        for mask, frame in zip(masks, reader, strict=True):
            writer.write(mask, frame)
        writer.finish(reader.end)
    return target


def subject(width: int, height: int, step: int) -> NDArray[np.uint8]:
    """A disc with an uneven outline, soft by one to four pixels, somewhere else at each step."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) * np.float32(360 / height)
    across, down = columns - 90 - 9.3 * step, rows - 180 - 4 * np.sin(step)
    angle = np.arctan2(down, across)
    outline = 60 + 8 * np.sin(3 * angle + step) + 3 * np.sin(11 * angle - step)
    inside = (outline - np.hypot(across, down)) * height / 360 / (2.5 + 1.5 * np.sin(2 * angle))
    return np.asarray(np.rint(255 * np.clip(0.5 + inside, 0, 1)), np.uint8)


WORST = dict.fromkeys(Preset, 1) | dict.fromkeys((Preset.MP4_H264, Preset.MKV_H264), 4)
WORST[Preset.MOV_PRORESKS], WORST[Preset.GIF] = 2, 0


@pytest.mark.parametrize("preset", Preset)
def test_nothing_rings_around_a_subject_that_moves(tmp_path: Path, preset: Preset) -> None:
    masks = [subject(640, 360, step) for step in range(12)]
    target = write(tmp_path, preset, masks)
    for grey, mask in zip(synth.decode_grey(target), masks, strict=True):
        assert np.abs(grey.astype(int) - mask).max() <= WORST[preset]


@pytest.mark.parametrize(
    ("width", "height"),
    [(16, 16), (32, 32), (16, 54), (64, 64), (64, 130), (40, 33), (58, 61), (48, 200), (66, 64)],
)
def test_hevc_masks_of_one_column_of_blocks_come_back(
    tmp_path: Path, width: int, height: int
) -> None:
    """x265 ruins every other picture that is no wider than a block of 64, however high."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        masks = [255 * rng.integers(0, 2, (height, width), dtype=np.uint8) for _ in range(8)]
        target = write(tmp_path, Preset.MP4_H265, masks)
        for found, mask in zip(synth.decode_grey(target), masks, strict=True):
            assert np.abs(found.astype(int) - mask).max() <= 2


TAGS = {Preset.MP4_H264: "avc1", Preset.MP4_H265: "hvc1", Preset.MOV_H265: "hvc1"}


@pytest.mark.parametrize("preset", [preset for preset in Preset if preset is not Preset.GIF])
def test_players_find_range_matrix_tag_and_header(tmp_path: Path, preset: Preset) -> None:
    """Browsers read limited BT.709 exactly, and Apple's players take HEVC as hvc1 only."""
    target = write(tmp_path, preset, [subject(64, 48, 0)] * 3)
    with av.open(str(target)) as opened:
        frame = next(opened.decode(video=0))
        tag = opened.streams.video[0].codec_context.codec_tag
    assert (frame.color_range, frame.colorspace) == (1, 1)
    assert tag == TAGS.get(preset, tag)
    data = target.read_bytes()
    if preset.suffix in (".mp4", ".mov"):
        assert data.index(b"moov") < data.index(b"mdat")


CROWDED = {
    "in the middle": (0, 3000, 3030, 3060, 3090, 9000, 12_000),
    "at the end": (0, 3000, 6000, 6055, 6110),
}


@pytest.mark.parametrize("where", CROWDED)
def test_a_gif_is_refused_where_it_would_come_late(tmp_path: Path, where: str) -> None:
    spec = Spec(pts=CROWDED[where], last_duration=55)
    source = synth.write(tmp_path / "a.mp4", spec)
    target = tmp_path / "mask.gif"
    check_preset(synth.describe(source), Preset.GIF)
    with pytest.raises(PresetUnsuitable, match=r"ms late; use one of mp4_h264"):
        synth.mask(source, target, Preset.GIF)
    assert not target.exists()


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
