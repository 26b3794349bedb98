"""Converts decoded frames of any matrix, range and bit depth to RGB or luma; tone-maps HDR."""

from functools import cache
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import DeepRgb, Luma, Rgb

type Plane = NDArray[Any]
"""(H, W) or (H, W, channels), uint8 or uint16."""


def plane_of(frame: av.VideoFrame, index: int) -> Plane:
    """A view of one plane without row padding; writing to the view changes the frame."""
    plane = frame.planes[index]
    samples = np.frombuffer(plane, np.uint8).reshape(plane.height, abs(plane.line_size))
    if plane.line_size < 0:
        samples = samples[::-1]
    component = frame.format.components[0]
    if component.bits > 8:
        return samples.view(np.uint16)[:, : plane.width]
    return samples[:, : plane.width]


def resize(plane: Plane, width: int, height: int) -> Plane:
    """Shrink ``plane`` without aliasing, or enlarge it by linear interpolation."""
    rows, columns = plane.shape[:2]
    if (columns, rows) == (width, height):
        return plane
    # To shrink, interpolate to a power of two times the target size, then average blocks. This is
    # ten times as fast as OpenCV's INTER_AREA at a fractional ratio.
    ratio = min(columns / width, rows / height)
    block = 1
    while ratio >= 2 * block:
        block *= 2
    resized: NDArray[Any] = plane
    if (columns, rows) != (width * block, height * block):
        resized = cv2.resize(plane, (width * block, height * block), interpolation=cv2.INTER_LINEAR)
    if block > 1:
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_AREA)
    return resized


# FFmpeg's constants. Matrices and transfer functions have the numbers of ITU-T H.273.
LIMITED_RANGE: Final = 1
FULL_RANGE: Final = 2
BT709: Final = 1
UNKNOWN: Final = 2
BT470BG: Final = 5
BT601: Final = 6
BT2020_NCL: Final = 9
BT2020_CL: Final = 10
PQ: Final = 16
HLG: Final = 18

_KR_KB = {BT709: (0.2126, 0.0722), BT2020_NCL: (0.2627, 0.0593), BT2020_CL: (0.2627, 0.0593)}
_MOST_SHRUNK = 64  # times, by swscale's bilinear filter, which fails above some 150
_KR_KB_601 = (0.299, 0.114)
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # ITU-R BT.2087


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> Rgb:
    """Return the resized picture in coded orientation; tone-map HDR to BT.709."""
    name = frame.format.name
    bits = bits_of(frame)
    if _is_hdr(frame):
        light = _light(frame, width, height)
        return np.asarray(_gamma(4096, 255)[(light * 4095).astype(np.uint16)], np.uint8)
    if _has_planes(name):
        rgb = _from_planes(frame, width, height)
        if bits > 8:
            top = (1 << bits) - 1
            rgb = cv2.convertScaleAbs(np.minimum(rgb, top), alpha=255 / top)
        return np.asarray(rgb, np.uint8)
    if name in ("bgra", "bgr0", "rgba", "rgb0", "rgb24", "bgr24"):
        return resize(frame.to_ndarray(format="rgb24"), width, height)
    return np.asarray(_by_swscale(frame, "rgb24", width, height), np.uint8)


def tagged[T: Any](coded: T) -> T:
    coded.color_range = LIMITED_RANGE
    coded.colorspace = coded.color_trc = coded.color_primaries = BT709
    return coded


def bits_of(frame: av.VideoFrame) -> int:
    return frame.format.components[0].bits


def to_deep_rgb(frame: av.VideoFrame) -> DeepRgb:
    width = frame.width
    height = frame.height
    if _is_hdr(frame):
        light = _light(frame, width, height)
        return _gamma(65536, 65535)[(light * 65535).astype(np.uint16)]
    if _has_planes(frame.format.name):
        return np.asarray(_from_planes(frame, width, height, deep=True), np.uint16)
    return np.asarray(_by_swscale(frame, "rgb48le", width, height), np.uint16)


def to_luma(frame: av.VideoFrame) -> Luma:
    name = frame.format.name
    bits = bits_of(frame)
    if not _is_yuv(name):
        rgb = to_rgb(frame, frame.width, frame.height)
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    plane = plane_of(frame, 0)
    if bits == 8:
        if is_full(frame) or name == "gray":
            return np.asarray(plane, np.uint8)
        return np.asarray(cv2.LUT(plane, _stretch()), np.uint8)
    low = 16 << (bits - 8)
    high = 235 << (bits - 8)
    if is_full(frame):
        low = 0
        high = (1 << bits) - 1
    scale = 255 / (high - low)
    plane = np.maximum(plane, low)  # convertScaleAbs makes negative values positive
    return np.asarray(cv2.convertScaleAbs(plane, alpha=scale, beta=-low * scale), np.uint8)


def is_full(frame: av.VideoFrame) -> bool:
    """Whether the frame has full range, by its tag or a yuvj format; the default is limited."""
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def _is_yuv(name: str) -> bool:
    return name.startswith(("yuv", "gray", "nv"))


def _has_planes(name: str) -> bool:
    return name.startswith(("yuv4", "yuva4", "yuvj4")) and not name.endswith("be")


def _is_hdr(frame: av.VideoFrame) -> bool:
    is_deep = _has_planes(frame.format.name) and bits_of(frame) >= 10
    return is_deep and frame.color_trc in (PQ, HLG)


@cache
def _stretch() -> NDArray[np.uint8]:
    levels = (np.arange(256, dtype=np.float32) - 16) * (255 / 219)
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


@cache
def _yuv_to_rgb(matrix: int, full: bool, bits: int) -> NDArray[np.float32]:
    """Return the 3 by 4 matrix that converts Y, Cb, Cr of ``bits`` bits to RGB."""
    kr, kb = _KR_KB.get(matrix, _KR_KB_601)
    kg = 1 - kr - kb
    top = (1 << bits) - 1
    step = 1 << (bits - 8)
    luma = top / (219 * step)
    chroma = top / (224 * step)
    black = 16 * step
    if full:
        luma = 1.0
        chroma = 1.0
        black = 0
    turn = np.array(
        [
            [luma, 0, chroma * 2 * (1 - kr)],
            [luma, -chroma * 2 * (1 - kb) * kb / kg, -chroma * 2 * (1 - kr) * kr / kg],
            [luma, chroma * 2 * (1 - kb), 0],
        ]
    )
    origin = np.array([black, 128 * step, 128 * step])
    return np.hstack([turn, -(turn @ origin)[:, None]]).astype(np.float32)


def _matrix_of(frame: av.VideoFrame) -> int:
    if frame.colorspace != UNKNOWN:
        return frame.colorspace
    # Guess the matrix from the size, as players do.
    if frame.height >= 720 or frame.width >= 1280:
        return BT709
    return BT601


def _from_planes(frame: av.VideoFrame, width: int, height: int, *, deep: bool = False) -> Plane:
    """Return RGB with the frame's bit depth or, if ``deep``, with 16 bits."""
    bits = bits_of(frame)
    planes = cv2.merge([resize(plane_of(frame, index), width, height) for index in range(3)])
    to_rgb = _yuv_to_rgb(_matrix_of(frame), is_full(frame), bits)
    if deep:
        to_rgb = np.float32(65535 / ((1 << bits) - 1)) * to_rgb
        planes = planes.astype(np.uint16, copy=False)
    return cv2.transform(planes, to_rgb)


def _by_swscale(frame: av.VideoFrame, form: str, width: int, height: int) -> NDArray[Any]:
    matrix = None
    if _is_yuv(frame.format.name):
        matrix = _matrix_of(frame)
    is_far = height * _MOST_SHRUNK < frame.height
    return frame.reformat(
        width,
        height,
        form,
        src_colorspace=matrix,
        interpolation="AREA" if width < frame.width or is_far else "BILINEAR",
        dst_color_range=FULL_RANGE,
    ).to_ndarray()


@cache
def _tone_curve(transfer: int) -> NDArray[np.float32]:
    """Return a table that maps 10-bit PQ or HLG to tone-mapped linear light in [0, 1]."""
    signal = np.arange(1024, dtype=np.float64) / 1023
    # Reference white, 203 cd/m² (ITU-R BT.2408), has a ``light`` of 1.
    if transfer == PQ:  # SMPTE ST 2084
        power = signal ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
            1 / 0.1593017578125
        )
        light *= 10_000 / 203
    else:  # ARIB STD-B67; a signal of 0.75 is reference white
        light = np.where(
            signal <= 0.5,
            signal**2 / 3,
            (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12,
        )
        light = (light / 0.26496) ** 1.2
    # Extended Reinhard tone mapping, multiplied by 1.55. Reference white becomes 0.81, and light
    # above about 315 cd/m² clips.
    mapped = light * (1 + light / 4.926**2) / (1 + light) * 1.55
    return np.clip(mapped, 0, 1).astype(np.float32)


@cache
def _gamma(steps: int, white: int) -> NDArray[np.uint16]:
    """Return a table that maps linear light from 0 to 1 to BT.709 values from 0 to ``white``."""
    light = np.linspace(0, 1, steps)
    signal = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    return np.rint(white * signal).astype(np.uint16)


def _light(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.float32]:
    """Return an HDR frame as tone-mapped linear light in [0, 1], with BT.709 primaries."""
    bits = bits_of(frame)
    signal = np.minimum(_from_planes(frame, width, height), (1 << bits) - 1)
    light = _tone_curve(frame.color_trc)[signal >> (bits - 10)]
    return np.asarray(np.clip(cv2.transform(light, _BT2020_TO_BT709), 0, 1), np.float32)
