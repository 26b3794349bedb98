import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from foremask.errors import OutputFailed, PresetUnsuitable, PromiseBroken
from foremask.facts import Report, SegmentGrid, Written
from foremask.masking.stored_mask import write_again
from foremask.media.colour import plane_of
from foremask.media.png_sequence import PngSequenceWriter
from foremask.media.presets import BLOCK_ADDITIONAL, KEPT_MASK, check_preset
from foremask.media.reader import VideoReader
from foremask.media.segments import cut, join, plan
from foremask.media.verify import verify
from foremask.media.writer import ColourWriter, MaskWriter
from foremask.options import (
    ALPHA_FORMS,
    MASK_FORMS,
    PNG_FORMS,
    UNLIMITED,
    Files,
    Form,
    JobSpec,
    ResultKind,
)
from foremask.types import Levels, Rgb
from tests.support import synth
from tests.support.disks import disk_of
from tests.support.synth import Spec, Tone


def write(folder: Path, preset: Form, masks: list[NDArray[np.uint8]]) -> Path:
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


WORST = dict.fromkeys(Form, 1) | dict.fromkeys((Form.MP4_H264, Form.MKV_H264), 4)
WORST[Form.MOV_PRORESKS], WORST[Form.GIF] = 2, 0


@pytest.mark.parametrize("preset", MASK_FORMS)
def test_nothing_rings_around_a_subject_that_moves(tmp_path: Path, preset: Form) -> None:
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
        target = write(tmp_path, Form.MP4_H265, masks)
        for found, mask in zip(synth.decode_grey(target), masks, strict=True):
            assert np.abs(found.astype(int) - mask).max() <= 2


TAGS = {Form.MP4_H264: "avc1", Form.MP4_H265: "hvc1", Form.MOV_H265: "hvc1"}


@pytest.mark.parametrize("preset", [preset for preset in MASK_FORMS if preset is not Form.GIF])
def test_players_find_range_matrix_tag_and_header(tmp_path: Path, preset: Form) -> None:
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
    check_preset(synth.describe(source), Form.GIF)
    with pytest.raises(PresetUnsuitable, match=r"ms late; use one of mp4_h264"):
        synth.mask(source, target, Form.GIF)
    assert not target.exists()


@pytest.mark.linux
@pytest.mark.parametrize("aspect", [1, 2])
@pytest.mark.parametrize("preset", MASK_FORMS)
def test_a_disk_that_fills_up_leaves_no_mask(tmp_path: Path, preset: Form, aspect: int) -> None:
    spec = Spec(aspect=Fraction(aspect), sound=(Tone(seconds=0.4),))
    source = synth.write(tmp_path / "a.mp4", spec)
    target = tmp_path / f"mask{preset.suffix}"
    size_bytes = synth.mask(source, target, preset).bytes
    target.unlink()
    for left in (0, size_bytes // 3, size_bytes - 300, size_bytes - 1):
        with disk_of(left), pytest.raises(OutputFailed):
            synth.mask(source, target, preset)
        assert not target.exists()


@pytest.mark.linux
@pytest.mark.parametrize("most", [3, 1])
def test_a_disk_that_fills_up_is_no_fault_of_the_clip(tmp_path: Path, most: int) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(keyframe_every=3))
    segment = plan(source, most, SegmentGrid(6, 2, 6))[-1]
    for left in (0, 1000):
        with disk_of(left), pytest.raises(OutputFailed):
            cut(source, segment, tmp_path / "cut.mp4")


# Cut-outs and composites

SPEC = Spec(pts=synth.spread(9, (1_200, 3_000)), sound=(Tone(language="eng"),))
VIDEOS = [form for form in ALPHA_FORMS if form not in PNG_FORMS]
RAMP = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
RAMPS: list[Levels] = [np.roll(RAMP, 7 * number, 1) for number in range(len(SPEC.pts))]


def cut_out(
    folder: Path,
    form: Form,
    spec: Spec = SPEC,
    masks: Iterable[Levels] = RAMPS,
    kind: ResultKind = ResultKind.CUTOUT,
) -> Path:
    source = synth.write(folder / "source.mp4", spec)
    target = folder / f"made{form.suffix}"
    with (
        VideoReader(source) as reader,
        ColourWriter(target, form, reader.clip, source, kind=kind) as writer,
    ):
        for frame, levels in zip(reader, masks, strict=True):
            upright = frame.rgb(frame.width, frame.height)
            writer.write(frame.orientation.to_coded(upright), levels, frame)
        writer.finish(reader.end)
    return target


def alphas(path: Path) -> Iterator[NDArray[np.float64]]:
    """Alpha as FFmpeg's decoders have it, 0 to 255; of VP9, as libvpx has it."""
    with av.open(str(path)) as opened:
        track = opened.streams.video[0]
        decoder: Any = track.codec_context
        if decoder.codec.canonical_name == "vp9":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        for packet in opened.demux(track):
            for frame in decoder.decode(packet if packet.size else None):
                if frame.format.name in ("rgba", "bgra"):
                    yield frame.to_ndarray()[:, :, 3].astype(np.float64)
                else:
                    most = (1 << frame.format.components[3].bits) - 1
                    yield plane_of(frame, 3) * (255 / most)


@pytest.mark.parametrize("form", VIDEOS)
def test_alpha_comes_back_as_it_was_written_or_as_one_bit_in_a_gif(
    tmp_path: Path, form: Form
) -> None:
    most = 0.2 if form is Form.MOV_PRORESKS else 1e-6
    for alpha, levels in zip(alphas(cut_out(tmp_path, form)), RAMPS, strict=True):
        wanted = np.where(levels >= 128, 255, 0) if form is Form.GIF else levels
        assert np.abs(alpha - wanted).max() < most


def test_colours_and_alpha_of_a_webm_have_their_keyframes_together(tmp_path: Path) -> None:
    """Else a browser that seeks shows the one without the other."""
    spec = Spec(pts=synth.even(130, Fraction(30)))
    flashes = [np.full((48, 64), 255 * (index % 50 > 25), np.uint8) for index in range(130)]
    target = cut_out(tmp_path, Form.WEBM_VP9, spec, flashes)
    with av.open(str(target)) as opened:
        packets = [packet for packet in opened.demux(video=0) if packet.size]
    assert len(packets) == 130
    for number, packet in enumerate(packets):
        block = bytes(packet.get_sidedata(BLOCK_ADDITIONAL))[8:]
        alpha_is_key = not block[0] & 0b100  # VP9's frame type, in a frame of profile 0
        assert packet.is_keyframe == alpha_is_key == (number % 120 == 0)


@pytest.mark.parametrize("preset", [Form.MP4_H264, Form.MP4_H265, Form.WEBM_VP9])
def test_an_opaque_video_has_the_colours_of_its_pictures(tmp_path: Path, preset: Form) -> None:
    """Up to the loss of colour at half resolution; also in HEVC as narrow as one block."""
    made = cut_out(tmp_path, preset, kind=ResultKind.COMPOSITE)
    with VideoReader(tmp_path / "source.mp4") as wanted, VideoReader(made) as found:
        for theirs, ours in zip(wanted, found, strict=True):
            difference = np.abs(ours.rgb(64, 48).astype(int) - theirs.rgb(64, 48))
            assert difference.mean() < 4
        assert not found.clip.alpha


def test_numbered_pngs_have_straight_alpha_and_a_table_of_times(tmp_path: Path) -> None:
    source, target = synth.write(tmp_path / "source.mp4", SPEC), tmp_path / "made.zip"
    pictures: list[Rgb] = []
    with (
        VideoReader(source) as reader,
        PngSequenceWriter(target, reader.clip, "%03d.png", into_zip=True) as writer,
    ):
        for frame, levels in zip(reader, RAMPS, strict=True):
            pictures.append(frame.rgb(64, 48))
            writer.write(pictures[-1], levels, frame)
        written = writer.finish(reader.end)
    assert (written.frames_out, written.audio[0].action) == (9, "dropped")
    with zipfile.ZipFile(target) as archive:
        names = [f"{number:03d}.png" for number in range(1, 10)]
        assert archive.namelist() == [*names, "frames.csv"]
        table = archive.read("frames.csv").decode().splitlines()
        assert table[0] == "file,time_s,duration_s"
        assert table[1:3] == ["001.png,0.000000,0.040000", "002.png,0.040000,0.100000"]
        for name, picture, levels in zip(names, pictures, RAMPS, strict=True):
            data = np.frombuffer(archive.read(name), np.uint8)
            decoded: Any = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            blue, green, red, alpha = cv2.split(decoded)
            assert np.array_equal(cv2.merge([red, green, blue]), picture)
            assert np.array_equal(alpha, levels)


@pytest.mark.linux
@pytest.mark.parametrize("into_zip", [True, False])
def test_a_disk_that_fills_up_under_pngs_is_said_as_such(tmp_path: Path, into_zip: bool) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(pts=(0, 1000)))
    target = tmp_path
    if into_zip:
        target = tmp_path / "made.zip"

    def write_all() -> int:
        with (
            VideoReader(source) as reader,
            PngSequenceWriter(target, reader.clip, "%d.png", into_zip=into_zip) as writer,
        ):
            for frame in reader:
                writer.write(frame.rgb(64, 48), None, frame)
            return writer.finish(reader.end).bytes

    most = write_all()
    if not into_zip:
        most = (tmp_path / "2.png").stat().st_size
    for left in (0, most // 3, most - 1):
        with disk_of(left), pytest.raises(OutputFailed, match="cannot be written"):
            write_all()


@pytest.mark.linux
def test_a_disk_that_fills_up_where_a_mask_is_joined_or_written_anew(tmp_path: Path) -> None:
    source = synth.write(tmp_path / "a.mp4", Spec(sound=(Tone(seconds=0.4),)))
    mask = tmp_path / "mask.mkv"
    synth.mask(source, mask, KEPT_MASK)
    target = tmp_path / "made.mp4"
    parts = [tmp_path / "part.mp4"]
    span = plan(source, 1, SegmentGrid(6, 2, 6))[0]
    synth.mask(source, parts[0], Form.MP4_H264, span=span, clip_start_s=0.0)
    files = Files(source=source, target=target, mask=mask)
    by_recoding = partial(write_again, JobSpec(), files, mask, lambda _progress: None, UNLIMITED)
    by_joining = partial(join, parts, source, target, Form.MP4_H264)
    makers: list[Callable[[], Written | Report]] = [by_recoding, by_joining]
    for make in makers:
        most = make().bytes
        for left in (0, most // 3, most - 1):
            target.unlink(missing_ok=True)
            with disk_of(left), pytest.raises(OutputFailed, match="cannot be written"):
                make()
            assert not target.exists()


@pytest.mark.parametrize("form", VIDEOS)
def test_a_cut_out_keeps_its_promises(tmp_path: Path, form: Form) -> None:
    made = cut_out(tmp_path, form, replace(SPEC, turn=(90, False)))
    promises = [kept.promise for kept in verify(tmp_path / "source.mp4", made, ResultKind.CUTOUT)]
    assert ("alpha" in promises) == (synth.describe(made).codec == "vp9")
    with pytest.raises(PromiseBroken) as broken:
        verify(tmp_path / "source.mp4", made)
    assert broken.value.param == "levels"


def test_alpha_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    made = cut_out(tmp_path, Form.WEBM_VP9)
    spoiled = tmp_path / "spoiled.webm"
    with av.open(str(made)) as read, av.open(str(spoiled), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                side = packet.get_sidedata(BLOCK_ADDITIONAL)
                whole = bytes(side)
                side.update(whole[:8] + b"\x80" + b"\xff" * (len(whole) - 9))
                packet.set_sidedata(side)
                packet.stream = stream
                written.mux(packet)
    with pytest.raises(PromiseBroken) as broken:
        verify(tmp_path / "source.mp4", spoiled, ResultKind.CUTOUT)
    assert broken.value.param == "alpha"
