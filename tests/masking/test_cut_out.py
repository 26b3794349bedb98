import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from foremask import errors
from foremask.facts import Report, SegmentGrid, Span
from foremask.masking.runner import run
from foremask.media import segments
from foremask.media.colour import plane_of
from foremask.media.pictures import BackgroundVideo
from foremask.media.reader import VideoReader
from foremask.media.verify import verify
from foremask.options import NO_MATTE, Files, Form, JobSpec, Matte, file_behind, form_for
from foremask.pipeline.values import ImageMasker
from foremask.types import Alpha, Image
from tests.support import synth
from tests.support.synth import Spec, Tone

RED = np.array([220, 30, 30])


def cut(
    source: Path,
    target: Path,
    background: str = "transparent",
    *,
    form: Form | None = None,
    mask: Path | None = None,
    matte: Matte = NO_MATTE,
    masker: ImageMasker = synth.red_is_foreground,
    span: Span | None = None,
) -> Report:
    spec = JobSpec.of_cut_out(background, matte)
    spec = replace(spec, form=form or form_for(target, spec.kind, None))
    files = Files(source=source, target=target, background=file_behind(background), mask=mask)
    return run(
        spec,
        files,
        span=span,
        clip_start_s=None if span is None else 0.0,
        masker=masker,
        change=synth.stretched_edges,
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mp4", Spec(sound=(Tone(language="eng"),)))


def first_png(folder: Path) -> NDArray[Any]:
    picture = cv2.imread(str(folder / "001.png"), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return np.asarray(picture)


def test_the_subject_stands_alone_and_its_edge_has_its_own_colour(
    clip: Path, tmp_path: Path
) -> None:
    report = cut(clip, tmp_path / "pngs/%03d.png")
    assert (report.kind, report.frames_out) == ("cutout", 10)
    bgra = first_png(tmp_path / "pngs")
    assert bgra.dtype == np.uint8
    rgb, alpha = bgra[:, :, 2::-1].astype(int), bgra[:, :, 3]
    truth = synth.disc(64, 48, 0)[1]
    assert np.mean(np.abs(alpha.astype(int) - truth)) < 8
    assert np.abs(rgb - RED)[alpha > 128].mean() < 16
    assert (rgb[:, :, 0] >= rgb[:, :, 1])[alpha == 0].all()
    with pytest.raises(errors.OutputExists):
        cut(clip, tmp_path / "pngs/%03d.png")
    assert len(list((tmp_path / "pngs").iterdir())) == 11


def shown(path: Path) -> list[NDArray[np.uint8]]:
    with VideoReader(path) as reader:
        return [frame.rgb(frame.width, frame.height) for frame in reader]


def test_a_picture_covers_the_frame_about_its_centre(clip: Path, tmp_path: Path) -> None:
    picture = np.zeros((48, 128, 3), np.uint8)
    picture[:, 32:96] = (200, 100, 0)  # blue first
    cv2.imwrite(str(tmp_path / "behind.png"), picture)
    cut(clip, tmp_path / "made.mp4", str(tmp_path / "behind.png"))
    corners = shown(tmp_path / "made.mp4")[0][[2, 2, 45], [2, 61, 61]]
    assert np.abs(corners.astype(int) - (0, 100, 200)).max() <= 4


def numbers_behind(folder: Path, width: int, height: int) -> Path:
    numbers = (synth.numbered(number, width, height) for number in (1, 2, 4))
    spec = Spec(width, height, pts=synth.even(3, Fraction(15)), last_duration=2_000)
    return synth.write(folder / "behind.mp4", spec, numbers)


def test_a_video_loops_behind_the_subject(tmp_path: Path) -> None:
    clip = synth.write(tmp_path / "clip.mp4", Spec(96, 32, pts=synth.even(10, Fraction(30))))
    behind = numbers_behind(tmp_path, 96, 32)
    with closing(BackgroundVideo(behind)) as video:
        seen = [synth.number_of(video.at(Fraction(number, 30)).rgb(96, 32)) for number in range(14)]
    assert seen == [1, 1, 2, 2, 4, 4, 1, 1, 2, 2, 4, 4, 1, 1]
    cut(clip, tmp_path / "made.mp4", str(behind))
    above = [picture[:6] for picture in shown(tmp_path / "made.mp4")]  # the disc is lower
    assert [synth.number_of(each) for each in above] == seen[:10]


@pytest.mark.parametrize("background", ["blur", "blur:8", "original:0.5"])
def test_the_clip_itself_may_be_behind(clip: Path, tmp_path: Path, background: str) -> None:
    cut(clip, tmp_path / "made.mp4", background)
    corner = shown(tmp_path / "made.mp4")[0][:6, 56:].astype(int)
    if background == "original:0.5":
        assert corner.mean() == pytest.approx(synth.disc(64, 48, 0)[0][:6, 56:].mean() / 2, abs=4)
    else:
        assert np.ptp(corner.mean(axis=2)) < 96
        assert (corner[:, :, 0] - corner[:, :, 1]).max() < 12


@pytest.mark.parametrize(
    ("name", "background", "preset", "form"),
    [
        ("a.mov", "transparent", None, Form.MOV_PRORESKS),
        ("a.mov", "white", None, Form.MOV_H265),
        ("a.mov", "white", "mov_proresks", Form.MOV_PRORESKS),
        ("a_%04d.png", "blur", None, Form.PNG_FILES),
    ],
)
def test_the_ending_picks_the_preset(
    name: str, background: str, preset: str | None, form: Form
) -> None:
    chosen = None if preset is None else Form(preset)
    found = form_for(Path(name), JobSpec.of_cut_out(background).kind, chosen)
    assert found is form


def test_names_that_no_file_system_takes_are_refused() -> None:
    with pytest.raises(errors.FieldInvalid, match="would have 1003 bytes; 255 are the most"):
        cut(Path("clip.mp4"), Path("frames/%0999d.png"))


TURNED = Spec(
    162,
    98,
    pts=synth.spread(60, (1001, 2002, 501)),
    b_frames=3,
    turn=(90, False),
    aspect=Fraction(4, 3),
    sound=(Tone(seconds=2.1, language="eng"),),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "background"),
    [
        (Form.WEBM_VP9, "transparent"),
        (Form.MOV_PRORESKS, "transparent"),
        (Form.MP4_H265, "white"),
        (Form.MKV_H264, "blur"),
        (Form.MP4_H264, "behind.mp4"),
    ],
)
def test_parts_of_a_clip_join_to_what_the_whole_would_be(
    tmp_path: Path, form: Form, background: str
) -> None:
    clip = synth.write(tmp_path / "clip.mp4", TURNED)
    if background == "behind.mp4":
        background = str(numbers_behind(tmp_path, 160, 96))
    kind = JobSpec.of_cut_out(background).kind
    parts, whole = [], tmp_path / f"whole{form.suffix}"
    for number, span in enumerate(segments.plan(clip, 4, SegmentGrid(14, 9, 14))):
        piece, part = tmp_path / f"piece{number}", tmp_path / f"part{number}"
        segments.cut(clip, span, piece)
        cut(piece, part, background, form=form, span=span)
        parts.append(part)
    assert len(parts) > 2
    target = tmp_path / f"joined{form.suffix}"
    segments.join(parts, clip, target, form, kind)
    verify(clip, target, kind)
    cut(clip, whole, background, form=form)
    for ours, theirs in zip(shown(target), shown(whole), strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() < 2


def test_a_turned_clip_is_cut_out_by_its_stored_mask(tmp_path: Path) -> None:
    clip = synth.write(tmp_path / "clip.mp4", Spec(turn=(90, False)))
    mask = tmp_path / "mask.mp4"
    synth.mask(clip, mask)
    cut(clip, tmp_path / "pngs/%03d.png", mask=mask)
    alpha = first_png(tmp_path / "pngs")[:, :, 3].astype(int)
    assert np.abs(alpha - shown(mask)[0][:, :, 0]).max() < 3


def test_stored_masks_wait_in_one_byte_a_pixel(tmp_path: Path) -> None:
    """As float32, those in the queues took 36 bytes a pixel more."""
    spec = Spec(640, 480, pts=synth.even(40, Fraction(30)))
    clip = synth.write(tmp_path / "clip.mp4", spec)
    mask = tmp_path / "mask.mp4"
    synth.mask(clip, mask)
    tracemalloc.start()
    cut(clip, tmp_path / "cut.mov", mask=mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45 * 640 * 480  # it was 66


def test_matte_tools_reach_the_file(clip: Path, tmp_path: Path) -> None:
    heights_px = []
    for grow_px in (0.0, 3.0):
        cut(clip, tmp_path / f"grown{grow_px}/%03d.png", matte=Matte(grow_px=grow_px))
        heights_px.append(first_png(tmp_path / f"grown{grow_px}")[:, 12, 3].sum() / 255)
    assert heights_px[1] - heights_px[0] == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("background", ["transparent", "black"])
def test_pngs_of_a_clip_with_10_bits_have_16(tmp_path: Path, background: str) -> None:
    ramp = np.tile(np.arange(64, 941), (16, 1)).astype(np.uint16)
    clip = grey(tmp_path / "deep.mkv", ramp)

    def masker(images: Iterable[Image], /) -> Iterator[Alpha]:
        for _ in images:
            yield np.repeat(np.array([[1, 0.5, 0, 0]], np.float32), 4, axis=0)

    cut(clip, tmp_path / "deep/%03d.png", background, masker=masker)
    found = first_png(tmp_path / "deep")
    assert found.dtype == np.uint16
    wanted = np.rint((ramp - 64.0) * 65535 / 876)
    opaque = np.s_[:, :100]
    assert np.abs(found[opaque][:, :, :3] - wanted[opaque][..., None]).max() <= 1
    assert found.shape[2] == (4 if background == "transparent" else 3)
    if background == "transparent":
        assert set(np.unique(found[:, :, 3] % 257)) == {0}
        assert (found[opaque][:, :, 3] == 65535).all()
        assert not found[:, 700:, :3].any()


def grey(path: Path, luma: NDArray[np.uint16]) -> Path:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *luma.shape, "yuv444p10le"
        frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt)
        for index, value in enumerate((luma, 512, 512)):
            plane_of(frame, index)[:] = value
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path
