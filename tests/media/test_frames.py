from fractions import Fraction

import av
import numpy as np
import pytest

from foremask.media.colour import FULL_RANGE
from foremask.media.frames import Frame
from foremask.media.orientation import Orientation

COLOURS = {"red": (200, 30, 30), "green": (40, 180, 60), "blue": (30, 60, 210), "grey": (128,) * 3}
NUMBERS = {"bt601": 5, "bt709": 1, "bt2020": 9}


def frame_of(rgb: tuple[int, int, int], pixel_format: str, matrix: str, full: bool) -> Frame:
    """A frame of one colour, in a pixel format, a colour matrix and a range, made by FFmpeg."""
    flat = np.full((48, 64, 3), rgb, np.uint8)
    made = av.VideoFrame.from_ndarray(flat, "rgb24").reformat(
        format=pixel_format,
        dst_colorspace=NUMBERS[matrix],
        dst_color_range=FULL_RANGE if full else 1,
    )
    made.colorspace, made.color_range = NUMBERS[matrix], FULL_RANGE if full else 1
    return Frame(made, 0, 0, None, Fraction(1, 30), Orientation())


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "nv12"])
def test_colours_survive_every_format_matrix_and_range(
    colour: str, full: bool, matrix: str, pixel_format: str
) -> None:
    observed = frame_of(COLOURS[colour], pixel_format, matrix, full).rgb(20, 10)
    assert observed.shape == (10, 20, 3)
    np.testing.assert_allclose(observed[5, 10], COLOURS[colour], atol=3)


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgra", "gbrp", "gray", "pal8", "yuva420p"])
def test_grey_survives_formats_without_chroma(pixel_format: str) -> None:
    flat = np.full((48, 64, 3), 128, np.uint8)
    made = av.VideoFrame.from_ndarray(flat, "rgb24").reformat(
        format="rgb8" if pixel_format == "pal8" else pixel_format
    )
    observed = Frame(made, 0, 0, None, Fraction(1, 30), Orientation())
    np.testing.assert_allclose(
        observed.rgb(16, 16)[8, 8], 128, atol=20 if pixel_format == "pal8" else 3
    )
    assert observed.luma().shape == (48, 64)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("full", [False, True])
def test_luma_is_full_range_in_eight_bits(pixel_format: str, full: bool) -> None:
    for level in (0, 128, 255):
        luma = frame_of((level,) * 3, pixel_format, "bt709", full).luma()
        assert luma.dtype == np.uint8
        np.testing.assert_allclose(luma, level, atol=1)


def test_a_shrunk_picture_does_not_alias() -> None:
    rows, columns = np.mgrid[:1080, :1920]
    board = (255 * ((rows + columns) % 2)).astype(np.uint8)
    made = av.VideoFrame.from_ndarray(np.repeat(board[:, :, None], 3, 2), "rgb24").reformat(
        format="yuv444p", dst_colorspace=1
    )
    made.colorspace = 1
    observed = Frame(made, 0, 0, None, Fraction(1, 30), Orientation()).rgb(240, 135)
    np.testing.assert_allclose(observed, 128, atol=3)


def test_hdr_white_is_bright_and_black_is_black() -> None:
    """PQ at the reference white of 203 cd/m² lands near white, PQ black at black."""
    for code, low, high in ((64, 0, 2), (573, 200, 255)):  # 573: 58 % of PQ in 10-bit limited range
        made = av.VideoFrame(64, 48, "yuv420p10le")
        for index, value in enumerate((code, 512, 512)):
            plane = np.frombuffer(made.planes[index], np.uint16)
            plane[:] = value
        made.colorspace, made.color_range, made.color_trc = 9, 1, 16
        observed = Frame(made, 0, 0, None, Fraction(1, 30), Orientation()).rgb(8, 8)
        assert low <= observed.min() <= observed.max() <= high
