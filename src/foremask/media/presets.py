"""The encoder and muxer settings of each preset, and its limits for size and memory."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from foremask.errors import PresetUnsuitable
from foremask.facts import Clip
from foremask.machine.hardware import available_memory
from foremask.options import MASK_FORMS, Form, ResultKind

KEPT_MASK: Final = Form.MOV_H265
"""The preset of the mask that is stored with a cut-out: lossless, for later re-encoding."""
HUGE_PIXELS: Final = 33_000_000
"""Larger frames are decoded and encoded one at a time, since each takes hundreds of MB."""
_PICTURE_BYTES_PER_PIXEL: Final = 32  # For picture, foreground colours, alpha and background.
_LARGEST_HEVC_PIXELS: Final = 35_651_584  # The limit of HEVC level 6.2.
_HEVC_BLOCK_PX: Final = 64  # With 64, x265 encodes masks 25 % faster than with 32.
_GIF_FPS: Final = 100  # A gif's delays are whole hundredths of a second.
_GIF_LATE_S: Final = 0.01
_GIF_END_LATE_S: Final = 0.015  # The last frame's start and duration are both rounded.


def options(text: str) -> dict[str, str]:
    return dict(each.split("=", 1) for each in text.split())


@dataclass(frozen=True, slots=True)
class Encoder:
    name: str
    options: dict[str, str]
    bytes_per_pixel: int  # Peak memory, measured on a clip of 16000x16000.
    max_side_px: int  # The limit of the encoder or of FFmpeg.
    even_420: bool = False  # 4:2:0 for even sizes, else 4:4:4.
    pixel_format: str = "yuv420p"
    global_quality: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    encoder: Encoder
    muxer: str
    tag: str | None = None  # four characters that name the codec in mp4 and mov
    muxer_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)  # Tags of the video track.
    time_base: Fraction | None = None  # None means the source's time base.

    @property
    def is_gif(self) -> bool:
        return self.muxer == "gif"


# Hardware does not decode lossless H.264, so this is lossy. At qp=6, errors are at most 4 levels.
# The options take half the time of crf=8 with CABAC, for files of the same size.
_X264 = Encoder(
    "libx264",
    options("preset=ultrafast qp=6 bf=0 x264-params=8x8dct=1"),
    bytes_per_pixel=32,
    max_side_px=16384,
    even_420=True,
)
# Lossless encoding takes half the time of good lossy encoding: docs/adr/0015.
_X265 = Encoder(
    "libx265",
    options(
        "preset=ultrafast x265-params=log-level=none:info=0:bframes=0:lossless=1:no-cutree=1:"
        f"ctu={_HEVC_BLOCK_PX}"
    ),
    bytes_per_pixel=56,
    max_side_px=65535,
    even_420=True,
)
_REALTIME = "deadline=realtime cpu-used=5 row-mt=1 b=0 lag-in-frames=0 auto-alt-ref=0 g=120"
_VP9 = Encoder(
    "libvpx-vp9", options(f"{_REALTIME} lossless=1"), bytes_per_pixel=80, max_side_px=65535
)
_PRORES = Encoder(
    "prores_ks",
    {"vendor": "apl0"},
    bytes_per_pixel=24,
    max_side_px=65535,
    pixel_format="yuv422p10le",
    global_quality=2,
)
# All 256 palette entries are greys, so none can mark unchanged pixels. The flag -transdiff skips
# the search for unchanged pixels, which takes an eighth of the encoding time.
_GIF = Encoder(
    "gif", {"gifflags": "-transdiff"}, bytes_per_pixel=18, max_side_px=65535, pixel_format="gray"
)
_FAST = {"movflags": "+faststart"}
_CUES = {"cues_to_front": "1"}

RECIPES: Final = {
    Form.MP4_H264: Recipe(_X264, "mp4", "avc1", _FAST),
    Form.MP4_H265: Recipe(_X265, "mp4", "hvc1", _FAST),
    Form.WEBM_VP9: Recipe(_VP9, "webm", None, _CUES),
    Form.MOV_H265: Recipe(_X265, "mov", "hvc1", _FAST),
    Form.MOV_PRORESKS: Recipe(_PRORES, "mov", None, _FAST),
    Form.MKV_H264: Recipe(_X264, "matroska", None, _CUES),
    Form.MKV_H265: Recipe(_X265, "matroska", None, _CUES),
    Form.MKV_VP9: Recipe(_VP9, "matroska", None, _CUES),
    Form.GIF: Recipe(_GIF, "gif", None, {"loop": "0"}, time_base=Fraction(1, 100)),
}


BLOCK_ADDITIONAL: Final = "matroska_block_additional"
"""FFmpeg's name for the packet side data that holds the alpha of WebM and Matroska."""
# keyint_min keeps the keyframes of alpha and colours on the same frames.
ALPHA_OF_VP9: Final = replace(_VP9, options=options(f"{_REALTIME} keyint_min=120 lossless=1"))
_X264_COLOURS = "preset=veryfast crf=17 bf=0 x264-params=cabac=1:8x8dct=1"
_X265_COLOURS = "preset=ultrafast crf=17 x265-params=log-level=none:info=0:bframes=0:no-cutree=1"
_COLOUR_ENCODERS: Final = {
    "libx264": replace(_X264, options=options(_X264_COLOURS)),
    "libx265": replace(_X265, options=options(_X265_COLOURS)),
    "libvpx-vp9": replace(_VP9, options=options(f"{_REALTIME} keyint_min=120 crf=18")),
    "prores_ks": _PRORES,
    "gif": replace(_GIF, options={"gifflags": "-transdiff-offsetting"}, pixel_format="pal8"),
}
_OPAQUE: Final = {
    preset: replace(recipe, encoder=_COLOUR_ENCODERS[recipe.encoder.name])
    for preset, recipe in RECIPES.items()
}
_PRORES_4444: Final = replace(
    _PRORES,
    options={"vendor": "apl0", "profile": "4444", "alpha_bits": "16"},
    pixel_format="yuva444p10le",
    bytes_per_pixel=48,
)
_ALPHA_MODE: Final = {"alpha_mode": "1"}
_ALPHA: Final = {
    Form.WEBM_VP9: replace(_OPAQUE[Form.WEBM_VP9], metadata=_ALPHA_MODE),
    Form.MKV_VP9: replace(_OPAQUE[Form.MKV_VP9], metadata=_ALPHA_MODE),
    Form.MOV_PRORESKS: replace(_OPAQUE[Form.MOV_PRORESKS], encoder=_PRORES_4444),
    Form.GIF: _OPAQUE[Form.GIF],
}


def recipe_of(form: Form, kind: ResultKind) -> Recipe:
    """The recipe of a result; raises KeyError for a form that the kind cannot have."""
    if kind is ResultKind.CUTOUT:
        return _ALPHA[form]
    if kind is ResultKind.COMPOSITE:
        return _OPAQUE[form]
    return RECIPES[form]


def encoded_size(encoder: Encoder, width: int, height: int) -> tuple[int, int]:
    """Return the size to encode; HEVC pictures up to 64 pixels wide or under 64 high are padded.

    x265 refuses sides under 16 pixels, and corrupts pictures with only one column of blocks:
    docs/adr/0015.
    """
    block = _HEVC_BLOCK_PX
    if encoder.name != "libx265" or (width > block and height >= block):
        return width, height
    # Pad to whole blocks: for other sizes, x265 writes a crop, which `VideoWriter` would overwrite.
    return max(2, -(-width // block)) * block, -(-height // block) * block


def pixel_format(encoder: Encoder, width: int, height: int) -> str:
    if encoder.even_420 and (width % 2 or height % 2):
        return "yuv444p"
    if encoder.pixel_format == "yuv422p10le" and width % 16 == 1:
        return "yuv444p10le"  # FFmpeg 9 tints the last column of 4:2:2 at such widths
    return encoder.pixel_format


def encoder_options(encoder: Encoder, width: int, height: int) -> dict[str, str]:
    """The encoder's options for this size: huge frames are encoded without lookahead."""
    chosen = dict(encoder.options)
    if encoder.name == "libx265" and width * height > _LARGEST_HEVC_PIXELS:
        chosen["x265-params"] += ":allow-non-conformance=1:rc-lookahead=0:frame-threads=1:ref=1"
    if encoder.name == "libx264" and width * height > HUGE_PIXELS:
        chosen["x264-params"] += ":rc-lookahead=0:sync-lookahead=0:ref=1:mbtree=0:sliced-threads=1"
    return chosen


def check_preset(clip: Clip, preset: Form, memory_bytes: int | None = None) -> None:
    """Raise PresetUnsuitable, naming the presets that fit, if ``preset`` does not fit the clip.

    ``memory_bytes`` is the memory for masking; None means the free memory of this machine.
    """
    there = _memory(memory_bytes)
    obstacle = _obstacle(clip, preset, there)
    if obstacle is not None:
        raise _cannot(clip, preset, there, *obstacle)


def _memory(memory_bytes: int | None) -> int:
    return available_memory() if memory_bytes is None else memory_bytes


def stand_in(form: Form) -> Form:
    """The preset that is named as ``form`` or, for PNGs, one with similar limits."""
    return form if form in MASK_FORMS else Form.MOV_PRORESKS


def check_format(clip: Clip, form: Form, memory_bytes: int | None = None) -> None:
    """As `check_preset`, for colour video, which needs more memory than masks."""
    there = _memory(memory_bytes)
    check_preset(clip, stand_in(form), there - _PICTURE_BYTES_PER_PIXEL * clip.pixels)


def check_result(clip: Clip, form: Form, kind: ResultKind, memory_bytes: int | None) -> None:
    if kind is ResultKind.MASK and form in MASK_FORMS:
        check_preset(clip, form, memory_bytes)
    else:
        check_format(clip, form, memory_bytes)


def has_memory_for_mask(clip: Clip, form: Form, memory_bytes: int | None = None) -> bool:
    """Whether a mask in `KEPT_MASK` can be encoded at the same time as ``form``."""
    there = _memory(memory_bytes)
    pictures = RECIPES[stand_in(form)].encoder
    mask = RECIPES[KEPT_MASK].encoder
    per_pixel = _PICTURE_BYTES_PER_PIXEL + pictures.bytes_per_pixel + mask.bytes_per_pixel
    return per_pixel * clip.pixels <= there and max(clip.width, clip.height) <= mask.max_side_px


def check_late(clip: Clip, frame: int, late_s: float, *, is_end: bool = False) -> None:
    """Raise PresetUnsuitable if a frame of a gif, or the gif's end, is too late."""
    most_s = _GIF_LATE_S
    if is_end:
        most_s = _GIF_END_LATE_S
    if late_s > most_s:
        reason = (
            "it counts in hundredths of a second, and around frame"
            f" {frame} the clip has so many that they would be {1000 * late_s:.0f} ms late"
        )
        raise _cannot(clip, Form.GIF, available_memory(), reason, most_s, late_s)


def _cannot(
    clip: Clip, preset: Form, memory_bytes: int, why: str, limit: float, actual: float
) -> PresetUnsuitable:
    others = [
        o.value for o in MASK_FORMS if o is not preset and _obstacle(clip, o, memory_bytes) is None
    ]
    able = f"use one of {', '.join(others)}" if others else "no preset can"
    details = f"{preset.value} cannot carry this clip: {why}; {able}."
    return PresetUnsuitable(details, limit=limit, actual=actual)


def _obstacle(clip: Clip, preset: Form, memory_bytes: int) -> tuple[str, float, float] | None:
    encoder = RECIPES[preset].encoder
    side_px = max(clip.width, clip.height)
    if side_px > encoder.max_side_px:
        reason = (
            f"its encoder, {encoder.name}, takes no side over {encoder.max_side_px} pixels,"
            f" and the clip is {clip.width}x{clip.height}"
        )
        return reason, encoder.max_side_px, side_px
    needed = clip.pixels * encoder.bytes_per_pixel
    if needed > memory_bytes:
        reason = (
            f"frames of {clip.width}x{clip.height} need {needed} bytes of memory, and there are"
            f" {memory_bytes} for one mask"
        )
        return reason, memory_bytes, needed
    if preset is Form.GIF and clip.fps > _GIF_FPS:
        frames = clip.expected_frames or _GIF_FPS
        if frames / _GIF_FPS - frames / clip.fps > _GIF_END_LATE_S:
            reason = f"it shows {_GIF_FPS} frames per second, and the clip has {clip.fps:g}"
            return reason, _GIF_FPS, clip.fps
    return None
