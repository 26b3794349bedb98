from fractions import Fraction

import av
import numpy as np
import pytest
from numpy.typing import ArrayLike

from foremask.media.colour import BT601, BT709, BT2020_NCL, FULL_RANGE, LIMITED_RANGE, PQ, plane_of
from foremask.media.frames import Frame, Orientation

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


def test_hdr_white_is_bright_and_black_is_black() -> None:
    """PQ at the reference white of 203 cd/m² lands near white, PQ black at black."""
    for code, low, high in ((64, 0, 2), (573, 200, 255)):  # 573: 58 % of PQ in 10-bit limited range
        made = av.VideoFrame(64, 48, "yuv420p10le")
        for index, value in enumerate((code, 512, 512)):
            plane_of(made, index).fill(value)
        made.colorspace, made.color_range, made.color_trc = BT2020_NCL, LIMITED_RANGE, PQ
        shown = frame_from(made).rgb(8, 8)
        assert low <= shown.min() <= shown.max() <= high
