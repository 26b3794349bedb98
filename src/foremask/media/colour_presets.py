"""How colour pictures are encoded, with alpha or opaque."""

from dataclasses import replace
from typing import Final

from foremask.facts import Clip
from foremask.machine.memory import available_memory
from foremask.media.presets import RECIPES, Encoder, Recipe, check_preset, options
from foremask.options import AlphaFormat, Form, Preset, ResultKind


def _with_options(preset: Preset, text: str) -> Encoder:
    return replace(RECIPES[preset].encoder, options=options(text))


_X264: Final = _with_options(
    Preset.MP4_H264, "preset=veryfast crf=17 bf=0 x264-params=cabac=1:8x8dct=1"
)
_X265: Final = _with_options(
    Preset.MP4_H265,
    "preset=ultrafast crf=17 x265-params=log-level=none:info=0:bframes=0:no-cutree=1",
)
# keyint_min puts the keyframes of colours and of alpha onto the same frames.
_REALTIME: Final = (
    "deadline=realtime cpu-used=5 row-mt=1 b=0 lag-in-frames=0 auto-alt-ref=0 g=120 keyint_min=120"
)
_VP9: Final = _with_options(Preset.WEBM_VP9, f"{_REALTIME} crf=18")
_PRORES: Final = RECIPES[Preset.MOV_PRORESKS].encoder
_PRORES_4444: Final = replace(
    _PRORES,
    options={"vendor": "apl0", "profile": "4444", "alpha_bits": "16"},
    pixel_format="yuva444p10le",
    bytes_per_pixel=48,
)
_GIF: Final = replace(
    RECIPES[Preset.GIF].encoder, options={"gifflags": "-transdiff-offsetting"}, pixel_format="pal8"
)
ALPHA_OF_VP9: Final = _with_options(Preset.WEBM_VP9, f"{_REALTIME} lossless=1")

OPAQUE: Final = {
    preset: replace(recipe, encoder=colour)
    for preset, recipe in RECIPES.items()
    for colour in (_X264, _X265, _VP9, _PRORES, _GIF)
    if colour.name == recipe.encoder.name
}
_ALPHA_MODE: Final = {"alpha_mode": "1"}
ALPHA: Final = {
    AlphaFormat.WEBM_VP9: replace(OPAQUE[Preset.WEBM_VP9], metadata=_ALPHA_MODE),
    AlphaFormat.MKV_VP9: replace(OPAQUE[Preset.MKV_VP9], metadata=_ALPHA_MODE),
    AlphaFormat.MOV_PRORESKS: Recipe(
        _PRORES_4444, "mov", None, RECIPES[Preset.MOV_PRORESKS].muxer_options
    ),
    AlphaFormat.GIF: OPAQUE[Preset.GIF],
}


def recipe_of(form: Form, kind: ResultKind) -> Recipe:
    """The recipe of a result; raises KeyError for sequences of PNGs, which have none."""
    if kind is ResultKind.MASK:
        return RECIPES[Preset(form)]
    return ALPHA[form] if isinstance(form, AlphaFormat) else OPAQUE[form]


_PICTURE_BYTES_PER_PIXEL: Final = 32  # the picture, its foreground colours, alpha and background


def stand_in(form: Form) -> Preset:
    """``form``, or a preset with the same limits of size and memory if it is not a preset."""
    return Preset(form) if form in list(Preset) else Preset.MOV_PRORESKS


def check_format(clip: Clip, form: Form, memory_bytes: int | None = None) -> None:
    """Raise PresetUnsuitable if pictures of the clip are too large for ``form`` or the memory."""
    there = available_memory() if memory_bytes is None else memory_bytes
    check_preset(clip, stand_in(form), there - _PICTURE_BYTES_PER_PIXEL * clip.pixels)


KEPT_MASK: Final = Preset.MOV_H265
"""The preset of the mask that is kept beside a cut-out: it is lossless, for later recoding."""


def has_memory_for_mask(clip: Clip, form: Form, memory_bytes: int | None = None) -> bool:
    """Whether the mask can be encoded while pictures of ``form`` are encoded."""
    there = available_memory() if memory_bytes is None else memory_bytes
    each = (RECIPES[stand_in(form)].encoder, RECIPES[KEPT_MASK].encoder)
    per_pixel = _PICTURE_BYTES_PER_PIXEL + sum(encoder.bytes_per_pixel for encoder in each)
    return per_pixel * clip.pixels <= there and max(clip.width, clip.height) <= each[1].max_side_px


def check_result(clip: Clip, form: Form, kind: ResultKind, memory_bytes: int | None) -> None:
    if kind is ResultKind.MASK:
        check_preset(clip, Preset(form), memory_bytes)
    else:
        check_format(clip, form, memory_bytes)
