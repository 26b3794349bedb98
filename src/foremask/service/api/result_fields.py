"""From the fields of a body to what is made of the clip: its form, background and matte."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from foremask.errors import FieldInvalid, PresetUnknown
from foremask.options import (
    COLOURS,
    MATTE_RANGES,
    AlphaFormat,
    Background,
    Despill,
    Form,
    Matte,
    Preset,
    ResultKind,
    ResultOptions,
    with_alpha,
)
from foremask.service.api.fields import check_url, flag
from foremask.service.jobs.step_facts import JobResult

TRANSPARENT: Final = "Transparent"
BACKGROUND_COLORS: Final = (
    TRANSPARENT, "Black", "White", "Gray", "Red", "Green", "Blue", "Yellow", "Cyan", "Magenta",
    "Orange",
)  # fmt: skip
"""The hosted service's names; each but the first is one of `COLOURS`, in any case."""
GREEN_SHADES: Final = ("broadcast_green", "chroma_green", "blue_screen")
ALPHA_FORMATS: Final = tuple(form for form in AlphaFormat if form is not AlphaFormat.PNG_FILES)
"""What a transparent result can be; numbered files come in a zip."""
FORMS: Final = tuple(dict.fromkeys([*map(str, Preset), *map(str, ALPHA_FORMATS)]))
KINDS: Final = tuple(map(str, ResultKind))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made, and what it is written as; ``result`` None is a plain mask."""

    form: Form
    result: JobResult | None

    @property
    def kind(self) -> ResultKind:
        """Of the result."""
        return ResultKind.MASK if self.result is None else self.result.options.kind


type ReadWanted = Callable[[dict[str, Any]], Wanted]


def foreground_mask(body: dict[str, Any]) -> Wanted:
    """A mask; the matte tools work on it."""
    return _mask(body, _matte(body))


def remove_background(body: dict[str, Any]) -> Wanted:
    """The subject on nothing where the preset has alpha, else on black; or on a colour."""
    name = _form_name(body, Preset.WEBM_VP9)
    color = _one_of(body, "background_color", BACKGROUND_COLORS)
    if color is None:
        color = TRANSPARENT if name in ALPHA_FORMATS else "Black"
    background = None if color == TRANSPARENT else color.lower()
    return _cut_out(body, name, background=background)


def green_screen(body: dict[str, Any]) -> Wanted:
    """The subject before a screen in one of the three usual shades."""
    shade = _one_of(body, "green_shade", GREEN_SHADES) or GREEN_SHADES[0]
    return _cut_out(body, _form_name(body, Preset.MP4_H264), background=shade)


def replace_background(body: dict[str, Any]) -> Wanted:
    """The subject before a picture or a video, or before what ``background`` names."""
    if body.get("background_url") is None and body.get("background") is None:
        raise FieldInvalid(
            "The field 'background_url' is missing; it is the http(s) URL of a picture or a video.",
            param="background_url",
        )
    background, url = _background(body)
    if background is None and url is None:
        raise FieldInvalid(
            "background cannot be transparent here; POST to /v2/video/edit/remove_background.",
            param="background",
        )
    return _cut_out(body, _form_name(body, Preset.WEBM_VP9), background=background, url=url)


def converted(body: dict[str, Any]) -> Wanted:
    """A stored mask in another form, or what is made of its clip with it."""
    kind = ResultKind(_one_of(body, "kind", KINDS) or ResultKind.MASK)
    if kind is ResultKind.MASK:
        return _mask(body, _matte(body))
    background, url = _background(body)
    if kind is ResultKind.COMPOSITE and background is None and url is None:
        raise FieldInvalid(
            "A composite needs 'background' or 'background_url'.", param="background"
        )
    if kind is ResultKind.CUTOUT and (background is not None or url is not None):
        raise FieldInvalid(
            "A cutout has no background: leave it out, or ask for the kind composite.",
            param="background",
        )
    return _cut_out(body, _form_name(body, Preset.WEBM_VP9), background=background, url=url)


def _mask(body: dict[str, Any], matte: Matte) -> Wanted:
    if matte.despill is not Despill.NONE:
        raise FieldInvalid(
            "A mask has no colours: leave despill out, or ask for a cut-out.", param="despill"
        )
    form = parse_preset(body)
    return Wanted(form, None if matte == Matte() else JobResult(ResultOptions(matte=matte)))


def _cut_out(
    body: dict[str, Any], name: str, *, background: str | None = None, url: str | None = None
) -> Wanted:
    is_transparent = background is None and url is None
    kind = ResultKind.CUTOUT if is_transparent else ResultKind.COMPOSITE
    form: Form
    if is_transparent:
        form = with_alpha(name, ALPHA_FORMATS)
    else:
        form = Preset(name) if name in list(Preset) else AlphaFormat(name)
    options = ResultOptions(
        kind=kind,
        background=background,
        matte=_matte(body),
        auto_zoom=flag(body, "auto_zoom"),
        keep_sound=flag(body, "preserve_audio", usual=True),
    )
    return Wanted(form, JobResult(options, background_url=url))


def _background(body: dict[str, Any]) -> tuple[str | None, str | None]:
    """What is named, and the URL; at most one of them."""
    text, url = body.get("background"), body.get("background_url")
    if text is not None and url is not None:
        raise FieldInvalid("Send 'background' or 'background_url', not both.", param="background")
    if url is not None:
        check_url(url, "background_url")
        return None, str(url)
    if text is None:
        return None, None
    if not isinstance(text, str) or not Background.is_named(text):
        raise FieldInvalid(
            f"background must be one of transparent, {', '.join(COLOURS)}, #rrggbb, blur,"
            " blur:RADIUS_PX, original, original:BRIGHTNESS; a file goes into background_url.",
            param="background",
        )
    return (None, None) if Background.parse(text) is None else (text.strip().lower(), None)


def parse_preset(body: dict[str, Any]) -> Preset:
    """The container and codec of a mask. Raises PresetUnknown."""
    name = body.get("output_container_and_codec")
    if name is None:
        return Preset.MP4_H264
    if isinstance(name, str) and name in list(Preset):
        return Preset(name)
    raise _preset_unknown(map(str, Preset))


def _form_name(body: dict[str, Any], usual: Preset) -> str:
    name = body.get("output_container_and_codec")
    if name is None:
        return usual.value
    if isinstance(name, str) and name in FORMS:
        return name
    raise _preset_unknown(FORMS)


def _preset_unknown(known: Iterable[str]) -> PresetUnknown:
    return PresetUnknown(
        "output_container_and_codec must be one of " + ", ".join(known) + ".",
        param="output_container_and_codec",
    )


def _one_of(body: dict[str, Any], name: str, known: tuple[str, ...]) -> str | None:
    """One of ``known`` in any case; None where the body does not say."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        for each in known:
            if each.lower() == value.lower():
                return each
    raise FieldInvalid(f"{name} must be one of {', '.join(known)}.", param=name)


def _matte(body: dict[str, Any]) -> Matte:
    """The matte tools; their fields have the names of `Matte`. Raises FieldInvalid."""
    given: dict[str, Any] = {}
    for each in fields(Matte):
        value = body.get(each.name)
        if value is None:
            continue
        if each.name == "despill":
            value = Despill(_one_of(body, "despill", tuple(map(str, Despill))) or Despill.NONE)
        elif each.name == "invert":
            value = flag(body, "invert")
        else:
            _check_number(each.name, value)
        given[each.name] = value
    return Matte(**given)


def _check_number(name: str, value: object) -> None:
    whole = name == "min_part_px"
    low, high = MATTE_RANGES[name]
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        kind = "a whole number" if whole else "a number"
        raise FieldInvalid(
            f"{name} must be {kind} from {low:g} to {high:g}.", param=name, limit=high
        )
