import io
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike

from foremask import errors
from foremask.media.colour import BT601, BT709, BT2020_NCL, FULL_RANGE, LIMITED_RANGE, PQ, plane_of
from foremask.media.frames import Frame, Orientation
from foremask.media.pictures import check_background, pack_pictures, read_picture
from foremask.media.reader import VideoReader
from foremask.options import Limits
from foremask.types import Rgb
from foremask.vision.drawing import as_png
from tests.support import synth


def save(path: Path, picture: Rgb) -> Path:
    assert cv2.imwrite(str(path), picture[:, :, ::-1])
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"])
def test_a_picture_is_read_as_it_is_shown(tmp_path: Path, suffix: str) -> None:
    drawn, _ = synth.disc(160, 96, 0.5)
    shown = read_picture(save(tmp_path / f"a{suffix}", drawn)).rgb(160, 96)
    assert np.abs(shown.astype(int) - drawn).mean() < 6
    assert tuple(shown[48, 80]) == pytest.approx((220, 30, 30), abs=12)


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    drawn = np.zeros((48, 64, 3), np.uint8)
    drawn[:24] = 255  # the upper half, which a turn to the right makes the right one
    path = save(tmp_path / "a.jpg", drawn)
    data = path.read_bytes()
    turned = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"  # the entry Orientation
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + turned + bytes(4)
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + data[2:])
    frame = read_picture(path)
    assert (frame.width, frame.height) == (48, 64)
    shown = frame.rgb(48, 64)
    assert shown[:, 30:].min() > 250
    assert shown[:, :18].max() < 5


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_pictures_become_the_frames_of_a_clip(tmp_path: Path, suffix: str) -> None:
    pictures = [save(tmp_path / f"{index}{suffix}", synth.numbered(index)) for index in range(5)]
    rate, heard = Fraction(30_000, 1001), list[int]()
    pack_pictures(pictures, rate, tmp_path / "clip.mov", heard.append)
    with VideoReader(tmp_path / "clip.mov") as reader:
        frames = [(frame.pts * reader.time_base, frame.luma()) for frame in reader]
        assert reader.end == 5 / rate
    assert [time for time, _ in frames] == [index / rate for index in range(5)]
    assert [synth.number_of(luma) for _, luma in frames] == [0, 1, 2, 3, 4]
    assert heard == [1, 2, 3, 4, 5]


def test_pictures_of_two_sizes_are_no_clip(tmp_path: Path) -> None:
    one = save(tmp_path / "1.png", synth.disc(64, 48, 0)[0])
    two = save(tmp_path / "2.png", synth.disc(32, 48, 0)[0])
    with pytest.raises(errors.CorruptVideo, match=r"2\.png is 32x48, .* 64x48"):
        pack_pictures([one, two], Fraction(25), tmp_path / "clip.mov", lambda _: None)


def test_what_is_no_picture_says_so(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", synth.disc(64, 48, 0)[0])
    for content, details in ((path.read_bytes()[:40], r"a\.png"), (b"text " * 100, "no picture")):
        path.write_bytes(content)
        with pytest.raises(errors.CorruptVideo, match=details):
            read_picture(path)


def declared(path: Path, width: int, height: int) -> Path:
    save(path, np.zeros((16, 16, 3), np.uint8))
    data = bytearray(path.read_bytes())
    match path.suffix:
        case ".png":
            data[16:24] = width.to_bytes(4) + height.to_bytes(4)
            data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
        case ".jpg":
            at = data.index(b"\xff\xc0") + 5
            data[at : at + 4] = height.to_bytes(2) + width.to_bytes(2)
        case _:
            at = data.index(b"VP8L") + 9  # 14 bits each, and a bit for alpha
            data[at : at + 4] = (width - 1 | height - 1 << 14).to_bytes(4, "little")
    path.write_bytes(data)
    return path


@pytest.mark.linux
@pytest.mark.parametrize(
    ("name", "size"),
    [
        *[(name, (10_200, 10_200)) for name in ("a.png", "a.jpg", "a.webp")],
        *[(name, (60_000, 64)) for name in ("a.png", "a.jpg")],
    ],
)
def test_a_callers_picture_that_is_too_large_is_refused_before_it_is_decoded(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    path = declared(tmp_path / name, *size)
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("rb") as file, pytest.raises(errors.BackgroundInvalid, match=r"16000|100000000"):
        check_background(file, Limits())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


@pytest.mark.linux
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_of_more_pixels_than_are_wanted_is_not_decoded(tmp_path: Path, name: str) -> None:
    """A body of 1 MiB can hold a PNG of 9000 by 9000 pixels, which took seconds to refuse."""
    path = declared(tmp_path / name, 9000, 9000)
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = errors.ResolutionTooLarge if name == "a.png" else errors.CorruptVideo
    with path.open("rb") as file, pytest.raises(refused, match="3072 pixels"):
        read_picture(file, Limits(), 64 * 48)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


# Frames


COLOURS = (200, 30, 30), (40, 180, 60), (30, 60, 210), (128, 128, 128)


def frame_of(
    rgb: ArrayLike, pixel_format: str, matrix: int = BT709, color_range: int = LIMITED_RANGE
) -> Frame:
    """A frame of one colour, or of a picture of 64 by 48 pixels, that FFmpeg has converted."""
    pixels = np.broadcast_to(np.asarray(rgb, np.uint8), (48, 64, 3))
    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(
        format=pixel_format, dst_colorspace=matrix, dst_color_range=color_range
    )
    made.colorspace, made.color_range = matrix, color_range
    return frame_from(made)


def frame_from(decoded: av.VideoFrame) -> Frame:
    return Frame(decoded, 0, 0, None, Fraction(1, 30), Orientation())


@pytest.mark.parametrize("color_range", [LIMITED_RANGE, FULL_RANGE])
@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12"])
def test_colours_and_luma_survive_every_format_matrix_and_range(
    color_range: int, matrix: int, pixel_format: str
) -> None:
    for colour in COLOURS:
        shown = frame_of(colour, pixel_format, matrix, color_range).rgb(20, 10)
        assert shown.shape == (10, 20, 3)
        np.testing.assert_allclose(shown[5, 10], colour, atol=3)
    for level in (0, 128, 255):
        luma = frame_of(level, pixel_format, matrix, color_range).luma()
        assert luma.dtype == np.uint8
        np.testing.assert_allclose(luma, level, atol=1)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgra", "gbrp", "gray", "rgb8", "yuva420p"])
def test_grey_survives_formats_without_chroma(pixel_format: str) -> None:
    frame = frame_of(128, pixel_format)
    tolerance = 20 if pixel_format == "rgb8" else 3
    np.testing.assert_allclose(frame.rgb(16, 16)[8, 8], 128, atol=tolerance)
    assert frame.luma().shape == (48, 64)


def test_a_shrunk_picture_does_not_alias() -> None:
    board = 255 * (np.indices((48, 64, 1)).sum(0) % 2)
    np.testing.assert_allclose(frame_of(board, "yuv444p").rgb(8, 6), 128, atol=3)


def test_a_picture_of_just_the_wanted_pixels_is_decoded_at_any_width() -> None:
    """The mask of a preview may have as many pixels as its picture, of for instance 854 by 480."""
    for width in (1, 63, 64, 854, 961):
        levels = np.full((480, width), 77, np.uint8)
        read = read_picture(io.BytesIO(as_png(levels)), Limits(), levels.size)
        assert (read.width, read.height) == (width, 480)


@pytest.mark.parametrize("size", [(1, 16_000), (16_000, 1)])
def test_the_longest_line_is_shrunk_too(size: tuple[int, int]) -> None:
    """FFmpeg refuses a filter of so many pixels, unless it averages."""
    line = av.VideoFrame.from_ndarray(np.full(size[::-1], 77, np.uint8), "gray")
    np.testing.assert_array_equal(frame_from(line).rgb(64, 64), 77)


def test_hdr_white_is_bright_and_black_is_black() -> None:
    """PQ at the reference white of 203 cd/m² lands near white, PQ black at black."""
    for code, low, high in ((64, 0, 2), (573, 200, 255)):  # 573: 58 % of PQ in 10-bit limited range
        made = av.VideoFrame(64, 48, "yuv420p10le")
        for index, value in enumerate((code, 512, 512)):
            plane_of(made, index).fill(value)
        made.colorspace, made.color_range, made.color_trc = BT2020_NCL, LIMITED_RANGE, PQ
        shown = frame_from(made).rgb(8, 8)
        assert low <= shown.min() <= shown.max() <= high
