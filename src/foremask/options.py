"""What a job is asked to make, and the options, files and resources that it is run with."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self, get_args, get_type_hints

import msgspec
from msgspec import Meta

from foremask.errors import FieldInvalid, PresetUnsuitable
from foremask.hints.kinds import MOST_SECONDS, Hint, check_range, marked_hints, words_of


class Preset(StrEnum):
    """Container and codec of the mask video."""

    MP4_H264 = "mp4_h264"
    MP4_H265 = "mp4_h265"
    WEBM_VP9 = "webm_vp9"
    MOV_H265 = "mov_h265"
    MOV_PRORESKS = "mov_proresks"
    MKV_H264 = "mkv_h264"
    MKV_H265 = "mkv_h265"
    MKV_VP9 = "mkv_vp9"
    GIF = "gif"

    @property
    def suffix(self) -> str:
        return Form(self).suffix


class Form(StrEnum):
    """How a result is written: a `Preset`, PNGs, or a folder of a `ToolForm`.

    Whether the file has alpha depends on the kind of the result. Alpha is straight; in a GIF it is
    only 0 or 1.
    """

    WEBM_VP9 = "webm_vp9"
    MKV_VP9 = "mkv_vp9"
    MOV_PRORESKS = "mov_proresks"
    GIF = "gif"
    PNG_ZIP = "png_zip"
    PNG_FILES = "png_files"
    MP4_H264 = "mp4_h264"
    MP4_H265 = "mp4_h265"
    MOV_H265 = "mov_h265"
    MKV_H264 = "mkv_h264"
    MKV_H265 = "mkv_h265"
    PNG = "png"  # one picture
    CORRIDORKEY = "corridorkey"
    MATANYONE = "matanyone"
    VIDEOMAMA = "videomama"

    @property
    def suffix(self) -> str:
        if self is Form.PNG_ZIP:
            return ".zip"
        if self in TOOL_FORMS:
            return ""
        return "." + self.split("_", maxsplit=1)[0]


ALPHA_FORMS: Final = (
    Form.WEBM_VP9,
    Form.MKV_VP9,
    Form.MOV_PRORESKS,
    Form.GIF,
    Form.PNG_ZIP,
    Form.PNG_FILES,
)
"""The forms of a cut-out."""
MASK_FORMS: Final = tuple(Form(preset) for preset in Preset)
ToolForm = Literal[Form.CORRIDORKEY, Form.MATANYONE, Form.VIDEOMAMA]
"""Folders for programs that refine rough masks on a GPU: docs/recipes.md."""
TOOL_FORMS: Final[tuple[Form, ...]] = get_args(ToolForm)
PNG_FORMS: Final = (Form.PNG_ZIP, Form.PNG_FILES)
_CLIP_FORMS: Final = tuple(form for form in Form if form in ALPHA_FORMS or form in MASK_FORMS)


def form_named(name: str) -> Form:
    """Return the form of clips with this name. Raises FieldInvalid."""
    if name in _CLIP_FORMS:
        return Form(name)
    details = f"there is no preset {name!r}; use one of {', '.join(_CLIP_FORMS)}"
    raise FieldInvalid(details, param="preset")


MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".gif": "image/gif",
    ".avi": "video/x-msvideo",
    ".zip": "application/zip",
}
PRESET_OF_SUFFIX = {
    ".mp4": Preset.MP4_H264,
    ".webm": Preset.WEBM_VP9,
    ".mov": Preset.MOV_H265,
    ".mkv": Preset.MKV_H264,
    ".gif": Preset.GIF,
}


class Quality(StrEnum):
    """The trade-off between speed and precision: docs/quality.md."""

    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"


DEFAULT_TRACKER: Final = "sam2.1-tiny"  # of words without a tracker: docs/models.md#trackers


class Runtime(StrEnum):
    AUTO = "auto"  # CUDA if it can be used, else CPU
    CPU = "cpu"  # OpenVINO on the CPU
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"  # ONNX Runtime on the CPU
    CUDA = "cuda"


DEVICE_GRAMMAR: Final = "auto, cpu, cuda[:N], openvino:GPU|NPU|AUTO or onnxruntime"
_DEVICE: Final = re.compile(
    r"(auto|cpu|onnxruntime|cuda(?::(\d{1,2}))?|openvino(?::(cpu|auto|[gn]pu(?:\.\d{1,2})?))?)",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Device:
    """The device that runs the network; ``unit`` is its number or name, "" for the first."""

    runtime: Runtime = Runtime.AUTO
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> "Device":
        """Parse text like ``cuda:1`` or ``openvino:GPU`` in any case. Raises FieldInvalid."""
        found = _DEVICE.fullmatch(text.strip())
        if found is None:
            raise FieldInvalid(f"device is one of {DEVICE_GRAMMAR}, not {text!r}", param="device")
        runtime = Runtime(found[1].lower().partition(":")[0])
        unit = (found[2] or found[3] or "").upper()
        if runtime is Runtime.OPENVINO and unit in ("", "CPU"):
            return cls(Runtime.CPU)
        return cls(runtime, unit)

    @property
    def on_gpu(self) -> bool:
        return self.runtime is Runtime.CUDA

    def __str__(self) -> str:
        if self.unit:
            return f"{self.runtime}:{self.unit}"
        return str(self.runtime)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on a clip; the defaults are those of the HTTP API."""

    max_bytes: int = 1 << 30
    max_side_px: int = 16_000
    max_duration_s: float = 60.0  # plus a tolerance: 0.1 % (NTSC rates) and one frame
    max_frames: int = 60 * 120  # 60 s at 120 fps; one frame more is tolerated
    max_frame_pixels: int = 60 * 240 * 3840 * 2160  # pixels of all frames: 60 s of 4K at 240 fps
    memory_bytes: int | None = None  # memory to make one mask; None: all free memory
    any_format: bool = False  # also accept other containers and codecs that FFmpeg reads


UNLIMITED = Limits(
    max_bytes=1 << 62,
    max_duration_s=float("inf"),
    max_frames=1 << 62,
    max_frame_pixels=1 << 62,
    any_format=True,
)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a clip, in seconds from its first frame; ``end_s`` is exclusive.

    If ``end_s`` is None, the excerpt ends with the clip.
    """

    start_s: float = 0.0
    end_s: float | None = None

    @classmethod
    def of(cls, start_s: float, end_s: float | None) -> Self | None:
        """Return the excerpt, or None for the whole clip. Raises FieldInvalid."""
        check_range("start_s", start_s, 0.0, MOST_SECONDS)
        if end_s is None:
            return cls(start_s) if start_s else None
        check_range("end_s", end_s, 0.0, MOST_SECONDS)
        if end_s <= start_s:
            details = f"the part from {start_s:g} s to {end_s:g} s is empty"
            raise FieldInvalid(details, param="end_s", limit=start_s, actual=end_s)
        return cls(start_s, end_s)


class AnyCase(StrEnum):
    @classmethod
    def _missing_(cls, value: object) -> "AnyCase | None":
        return next((each for each in cls if each.lower() == str(value).lower()), None)


class Despill(AnyCase):
    """The colour of the studio screen whose reflections on the subject are removed."""

    NONE = "none"
    GREEN = "green"
    BLUE = "blue"


class Matte(msgspec.Struct, frozen=True):
    """Changes to alphas, made in the order of the fields. Only ``despill`` changes colours.

    Alphas up to ``black`` become 0, and alphas from ``white`` on become 1. A ``gamma`` over 1
    makes the other alphas more opaque. Connected parts whose alphas sum to less than
    ``min_part_px`` are removed. ``grow_px`` moves the outline outwards, or inwards if negative.
    ``feather_px`` blurs the outline. Raises FieldInvalid for a value out of range.
    """

    invert: Annotated[bool, Meta(description="Swap foreground and background.")] = False
    black: Annotated[float, Meta(ge=0, le=0.99, description="Alphas up to black become 0.")] = 0.0
    white: Annotated[float, Meta(ge=0.01, le=1, description="Alphas from white on become 1.")] = 1.0
    gamma: Annotated[
        float, Meta(ge=0.1, le=10, description="A value over 1 makes soft edges more opaque.")
    ] = 1.0
    min_part_px: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="Remove smaller connected parts; pixels.")
    ] = 0
    grow_px: Annotated[
        float, Meta(ge=-50, le=50, description="Move the outline outwards, or inwards if negative.")
    ] = 0.0
    feather_px: Annotated[
        float, Meta(ge=0, le=100, description="Blur the outline with this radius in pixels.")
    ] = 0.0
    despill: Annotated[
        Despill, Meta(description="Remove reflections of a screen of this colour.")
    ] = Despill.NONE

    def __post_init__(self) -> None:
        for name, (low, high) in _MATTE_RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # nan fails, too
                raise FieldInvalid.out_of_range(name, value, low, high)
        if self.black >= self.white:
            raise FieldInvalid(
                f"black is {self.black} and white is {self.white}; black must be the smaller one.",
                param="black",
                limit=self.white,
                actual=self.black,
            )


_MATTE_RANGES: Final = {
    name: (meta.ge, meta.le)
    for name, hint in get_type_hints(Matte, include_extras=True).items()
    for meta in hint.__metadata__
    if meta.ge is not None
}


NO_MATTE: Final = Matte()


class ResultKind(AnyCase):
    """A mask, a cut-out with alpha, or the subject on a background."""

    MASK = "mask"
    CUTOUT = "cutout"
    COMPOSITE = "composite"


def form_for(target: Path, kind: ResultKind, asked: Form | None) -> Form:
    """Return ``asked`` or, if that is None, the form that ``target``'s suffix implies.

    Raises FieldInvalid if the form does not follow from ``target`` or does not fit it, and
    PresetUnsuitable if a cut-out's form has no alpha.
    """
    known = _FORM_OF_SUFFIX[kind]
    suffix = target.suffix.lower()
    form = asked or known.get(suffix)
    if form is None:
        raise FieldInvalid(
            f"the preset does not follow from {target.name!r}: let it end in {', '.join(known)}, or"
            " name a preset.",
            param="preset",
        )
    if suffix in known and suffix != form.suffix:
        raise FieldInvalid(
            f"{target.name} ends in {suffix}, and {form} writes {form.suffix}.", param="target"
        )
    if kind is ResultKind.CUTOUT or (kind is ResultKind.COMPOSITE and form not in MASK_FORMS):
        return with_alpha(form)
    return form


_OPAQUE: Final = {suffix: Form(preset) for suffix, preset in PRESET_OF_SUFFIX.items()}
_WITH_ALPHA: Final = {form.suffix: form for form in ALPHA_FORMS}
_FORM_OF_SUFFIX: Final = {
    ResultKind.MASK: _OPAQUE,
    ResultKind.CUTOUT: _OPAQUE | _WITH_ALPHA,
    ResultKind.COMPOSITE: _WITH_ALPHA | _OPAQUE,
}


def with_alpha(name: str, known: Sequence[Form] = ALPHA_FORMS) -> Form:
    """Return the form ``name``. Raises PresetUnsuitable if it is not in ``known``."""
    if name in known:
        return Form(name)
    why = "it carries no alpha"
    if name.endswith("h265"):
        why = "FFmpeg's x265 writes no alpha"
    raise PresetUnsuitable(
        f"{name} cannot be transparent: {why}; use one of {', '.join(known)},"
        " or name a background.",
        param="output_container_and_codec",
    )


class Fit(StrEnum):
    """How a picture of another shape fills the frame."""

    COVER = "cover"  # centred, as large as it must be; opposite sides are cut off
    STRETCH = "stretch"  # to the frame's width and height


@dataclass(frozen=True, slots=True)
class Background:
    """A colour, a file, or the clip itself: blurred, or as bright as ``brightness`` (0 to 1)."""

    colour: tuple[int, int, int] | None = None
    file: Path | None = None  # a picture or a video
    fit: Fit = Fit.COVER  # of the file
    blur_px: float | None = None  # the radius
    brightness: float = 1.0

    @staticmethod
    def is_named(text: str) -> bool:
        """Whether ``text`` is a keyword or colour. `parse` takes any other text as a path."""
        word, _, amount = text.strip().lower().partition(":")
        if word in COLOURS or word == "transparent":
            return not amount
        return word in ("blur", "original") or word.startswith("#")

    @classmethod
    def parse(cls, text: str) -> "Background | None":
        """Return the background that ``text`` names; None for ``transparent``.

        Other texts are the names in `COLOURS`, ``#rrggbb``, ``blur``, ``blur:RADIUS_PX``,
        ``original``, ``original:BRIGHTNESS``, and paths of files. Raises FieldInvalid.
        """
        word, _, amount = text.strip().lower().partition(":")
        if not cls.is_named(text):
            if not Path(text).is_file():
                raise FieldInvalid(
                    f"The background {text!r} is no file, and none of transparent,"
                    f" {', '.join(COLOURS)}, #rrggbb, blur, blur:RADIUS_PX,"
                    " original and original:BRIGHTNESS.",
                    param="background",
                )
            return cls(file=Path(text))
        if word == "transparent":
            return None
        if word == "blur":
            return cls(blur_px=_amount(text, amount, 24.0, (1.0, 200.0)))
        if word == "original":
            return cls(brightness=_amount(text, amount, 0.35, (0.0, 1.0)))
        return cls(COLOURS.get(word) or _colour(text.strip()))


COLOURS: Final = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "orange": (255, 165, 0),
    "broadcast_green": (0, 177, 64),
    "chroma_green": (0, 255, 0),
    "blue_screen": (0, 0, 255),
}
"""Colours of CSS, and three colours of studio screens."""


def _colour(text: str) -> tuple[int, int, int]:
    digits = text[1:]
    if len(text) == len("#rgb"):
        digits = re.sub("(.)", r"\1\1", digits)
    if re.fullmatch("[0-9A-Fa-f]{6}", digits) is None:
        raise FieldInvalid(f"{text[:64]!r} is no colour: write it as #rrggbb.", param="background")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def _amount(text: str, amount: str, usual: float, ends: tuple[float, float]) -> float:
    if not amount:
        return usual
    low, high = ends
    try:
        value = float(amount)
    except ValueError:
        value = float("nan")
    if low <= value <= high:
        return value
    error = FieldInvalid(
        f"{text[:64]!r} is no background: its number may be from {low:g} to {high:g}.",
        param="background",
        limit=low,
    )
    if value > high:
        error.limit = high
    if math.isfinite(value):
        error.actual = value
    raise error


Input = Annotated[Path, "input"]
"""A file that is read. A confined child reads a link to it or a copy."""
Output = Annotated[Path, "output"]
"""A file that is written. A confined child writes it elsewhere; then it is moved to this path."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a job makes of a clip or a picture; `masking.run` makes it.

    ``background`` is a text for `Background.parse` that names no file. If it is None, a composite
    is made over the file `Files.background`, which ``background_fit`` brings to the frame's size.
    ``remarks`` are added to the report's warnings. ``excerpt`` is None for the whole clip. The
    frames and times of ``hints`` count from its start. ``auto_zoom`` crops every frame to one
    rectangle that contains the subject in all frames. ``matte`` applies to a mask, or to the alpha
    of a cut-out or composite; a mask ignores its ``despill``. ``network`` is the name of a network
    that the service allows; its worker finds the file for `Resources.model`. A
    ``tracker`` follows the hints instead of the network; it needs one.
    """

    kind: ResultKind = ResultKind.MASK
    form: Form = Form.MP4_H264
    quality: Quality = Quality.BALANCED
    hints: tuple[Hint, ...] = ()
    tracker: str | None = None
    matte: Matte = NO_MATTE
    background: str | None = None
    background_fit: Fit = Fit.COVER
    remarks: tuple[str, ...] = ()
    auto_zoom: bool = False
    keep_sound: bool = True
    excerpt: Excerpt | None = None
    network: str | None = None

    @property
    def chosen_tracker(self) -> str | None:
        """The tracker that makes the masks; None if the network makes them.

        Words without a ``tracker`` choose `DEFAULT_TRACKER`. Raises FieldInvalid if the tracker has
        nothing to follow.
        """
        words = words_of(self.hints)
        if self.tracker is None:
            return DEFAULT_TRACKER if words else None
        if not words and all(hint.negative for hint in marked_hints(self.hints)):
            raise FieldInvalid(
                f"{self.tracker} follows what is marked, and no hint marks the subject: add a"
                " point, a box, a paint or words",
                param="hints",
            )
        return self.tracker

    @classmethod
    def of_cut_out(
        cls, background: str = "transparent", matte: Matte = NO_MATTE, *, keep_sound: bool = True
    ) -> Self:
        """Ask for a cut-out, or for a composite over ``background``. Raises FieldInvalid.

        `file_behind` returns the path of a background that is a file.
        """
        behind = Background.parse(background)
        if behind is None:
            return cls(
                kind=ResultKind.CUTOUT, form=Form.WEBM_VP9, matte=matte, keep_sound=keep_sound
            )
        return cls(
            kind=ResultKind.COMPOSITE,
            form=Form.WEBM_VP9,
            background=None if behind.file else background,
            matte=matte,
            keep_sound=keep_sound,
        )


def file_behind(background: str) -> Path | None:
    """Return the path of the file that ``background`` names, or None if it names no file."""
    if Background.is_named(background):
        return None
    return Path(background)


def unfinished_cache(cache: Path) -> Path:
    """The file beside ``cache`` that a run has which was stopped, and its next run needs too."""
    return cache.with_name(f"{cache.name}.unfinished")


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one run.

    ``mask`` is a mask of ``source`` to use instead of the network; if a mask is asked for, it is
    written again and ``source`` is not read. If ``mask_is_excerpt``, it has the frames of
    `JobSpec.excerpt` only. ``mask_target`` is a second output: the mask without matte options, if
    memory suffices for a second encoder. ``cache`` is a file for the network's results, or a
    directory of such files. An existing ``target`` is an error unless ``replace``. The numbers of
    PNGs begin with ``first_number``.
    """

    source: Input
    target: Output
    background: Input | None = None
    mask: Input | None = None
    mask_is_excerpt: bool = False
    mask_target: Output | None = None
    cache: Output | None = None
    replace: bool = False
    first_number: int = 1


@dataclass(frozen=True, slots=True)
class Resources:
    """What a run may use. ``model`` is an ONNX file; None is IS-Net in the user's cache.

    ``tracker_dir`` is the folder of the trackers' folders; None is the user's cache.
    """

    device: Device = Device()
    model: Path | None = None
    limits: Limits = UNLIMITED
    cache_bytes: int = 2 << 30  # largest size of a cache file
    tracker_dir: Path | None = None
