"""The fields, limits and documentation of request bodies."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from foremask.errors import FieldInvalid, PresetUnknown, VideoInvalid, VideoMissing, WebhookInvalid
from foremask.fetch.connections import MAX_URL_BYTES
from foremask.hints import kinds
from foremask.options import (
    ALPHA_FORMS,
    COLOURS,
    AnyCase,
    Background,
    Despill,
    Form,
    Matte,
    Preset,
    Quality,
    ResultKind,
    ResultOptions,
    with_alpha,
)
from foremask.service.api.openapi import SHOWN_PATTERN
from foremask.service.jobs.steps import JobResult

MOST_SHOWN_HINTS: Final = 16  # limit for a preview; the network runs four times per point
ALPHA_FORMATS: Final = tuple(form for form in ALPHA_FORMS if form is not Form.PNG_FILES)
"""The forms of a transparent result. PNG_FILES is a directory, which cannot be downloaded."""
FORMS: Final = tuple(dict.fromkeys([*map(str, Preset), *map(str, ALPHA_FORMATS)]))
_CLEAN: Final = r"^[^\x00-\x20\x7f\ud800-\udfff]+\Z"
_MEDIA_TYPE: Final = r"(video/([a-z0-9][a-z0-9.+-]{0,63})?|image/(gif|jpeg|png|webp))"
_HTTP: Final = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f]+$"
_URL: Final = f"an http(s) URL of at most {MAX_URL_BYTES} bytes"


def _says(text: str, **limits: Any) -> Meta:  # noqa: ANN401
    """Describe a field by ``text`` in the OpenAPI document and in error messages."""
    return Meta(description=f"{text[0].upper()}{text[1:]}.", extra={"text": text}, **limits)


def _url(description: str, **errors: type[Exception]) -> Meta:
    return Meta(
        pattern=_CLEAN,
        max_length=MAX_URL_BYTES,
        description=description,
        extra={"text": _URL, **errors},
        extra_json_schema={SHOWN_PATTERN: _HTTP, "examples": ["https://example.com/clip.mp4"]},
    )


Video = Annotated[
    str,
    _url("An http(s) URL, or an upload's file_url.", missing=VideoMissing, invalid=VideoInvalid),
]
WebhookUrl = Annotated[
    str,
    _url("Receives a signed POST with the final status: docs/webhooks.md.", invalid=WebhookInvalid),
]
BackgroundUrl = Annotated[
    str,
    _url(
        "A picture (jpg, png, webp) or a video (mp4, mov, webm, avi, gif; 60 s at most), which is"
        " centred and scaled to cover the frame. A video loops."
    ),
]
BackgroundName = Annotated[
    str,
    Meta(
        description=f"One of {', '.join(COLOURS)}, #rrggbb, blur, blur:RADIUS_PX, original and"
        " original:BRIGHTNESS."
    ),
]
MaskForm = Annotated[
    Preset,
    Meta(description="Container and codec of the mask video.", extra={"invalid": PresetUnknown}),
]
ResultForm = Annotated[
    Literal[FORMS],  # type: ignore[valid-type]
    Meta(
        description=f"Container and codec. {', '.join(ALPHA_FORMATS)} can be transparent.",
        extra={"invalid": PresetUnknown},
    ),
]
Hints = tuple[kinds.Point | kinds.Box | kinds.Paint, ...]
HintList = Annotated[
    Hints,
    Meta(
        max_length=kinds.MOST_HINTS,
        description="Marks on the subject or the background: docs/hints.md.",
    ),
]
QualityField = Annotated[Quality, Meta(description="Trade speed for precision: docs/quality.md.")]
SoundField = Annotated[bool, Meta(description="Whether to keep the clip's sound.")]
ZoomField = Annotated[
    bool, Meta(description="Crop to one rectangle that contains the subject in every frame.")
]


class BackgroundColor(AnyCase):
    TRANSPARENT = "Transparent"
    BLACK = "Black"
    WHITE = "White"
    GRAY = "Gray"
    RED = "Red"
    GREEN = "Green"
    BLUE = "Blue"
    YELLOW = "Yellow"
    CYAN = "Cyan"
    MAGENTA = "Magenta"
    ORANGE = "Orange"


class GreenShade(AnyCase):
    BROADCAST_GREEN = "broadcast_green"
    CHROMA_GREEN = "chroma_green"
    BLUE_SCREEN = "blue_screen"


class JobBody(Matte, frozen=True, kw_only=True):
    video: Video
    quality: QualityField = Quality.BALANCED
    hints: HintList = ()
    webhook_url: WebhookUrl | None = None
    sync: Annotated[
        bool, Meta(description="Wait for the job's end: 200 with the status, or 202 after 25 s.")
    ] = False

    def wanted(self) -> tuple[Form, JobResult]:
        raise NotImplementedError


class JobRequest(JobBody, frozen=True, kw_only=True):
    output_container_and_codec: MaskForm = Preset.MP4_H264

    def wanted(self) -> tuple[Form, JobResult]:
        return Form(self.output_container_and_codec), _mask(self, self.hints)


class KeyPoint(Struct, frozen=True):
    """A position in pixels from the top left corner of the frame as players show it."""

    x: Annotated[int, Meta(ge=0, le=kinds.MOST_PIXELS - 1)]
    y: Annotated[int, Meta(ge=0, le=kinds.MOST_PIXELS - 1)]
    type: Literal["positive", "negative"] = "positive"


class MaskByKeyPointsRequest(JobRequest, frozen=True, kw_only=True):
    key_points: Annotated[tuple[KeyPoint, ...], Meta(min_length=1, max_length=kinds.MOST_HINTS)]
    frame_index: Annotated[kinds.FrameNumber, Meta(description="The points' frame, from 0.")] = 0
    auto_trim: Annotated[bool, Meta(description="Ignored; the whole clip is masked.")] = False

    def wanted(self) -> tuple[Form, JobResult]:
        points = tuple(
            kinds.Point(each.x, each.y, frame=self.frame_index, negative=each.type == "negative")
            for each in self.key_points
        )
        form = Form(self.output_container_and_codec)
        return form, _mask(self, points + self.hints, len(points))


class CutOutBody(JobBody, frozen=True, kw_only=True):
    output_container_and_codec: ResultForm = "webm_vp9"
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True


class RemoveBackgroundRequest(CutOutBody, frozen=True, kw_only=True):
    background_color: Annotated[
        BackgroundColor | None,
        Meta(description="Default: Transparent if the format has alpha, else Black."),
    ] = None

    def wanted(self) -> tuple[Form, JobResult]:
        color = self.background_color
        if color is None:
            has_alpha = self.output_container_and_codec in ALPHA_FORMATS
            color = BackgroundColor.TRANSPARENT if has_alpha else BackgroundColor.BLACK
        named = None if color is BackgroundColor.TRANSPARENT else color.lower()
        return _cut_out(self, named)


class GreenScreenRequest(CutOutBody, frozen=True, kw_only=True):
    green_shade: GreenShade = GreenShade.BROADCAST_GREEN
    output_container_and_codec: ResultForm = "mp4_h264"

    def wanted(self) -> tuple[Form, JobResult]:
        return _cut_out(self, self.green_shade.value)


class ReplaceBackgroundRequest(CutOutBody, frozen=True, kw_only=True):
    background_url: BackgroundUrl | None = None
    background: BackgroundName | None = None

    def wanted(self) -> tuple[Form, JobResult]:
        if self.background_url is None and self.background is None:
            raise FieldInvalid(
                f"The field 'background_url' is missing; it is {_URL}.", param="background_url"
            )
        named, url = _background(self)
        if named is None and url is None:
            raise FieldInvalid(
                "background cannot be transparent here; POST to /v2/video/edit/remove_background.",
                param="background",
            )
        return _cut_out(self, named, url)


class ConvertRequest(Matte, frozen=True, kw_only=True):
    kind: ResultKind = ResultKind.MASK
    output_container_and_codec: Annotated[
        ResultForm | None,
        Meta(description="Default: mp4_h264 for a mask, else webm_vp9. A mask cannot be png_zip."),
    ] = None
    video: Annotated[
        Video | None,
        Meta(description="For a cutout or composite; optional while the job's upload is stored."),
    ] = None
    background_url: BackgroundUrl | None = None
    background: BackgroundName | None = None
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True

    def wanted(self) -> tuple[Form, JobResult]:
        if self.kind is ResultKind.MASK:
            name = self.output_container_and_codec or Preset.MP4_H264
            if name not in list(Preset):
                raise PresetUnknown(
                    f"output_container_and_codec must be one of {', '.join(Preset)}.",
                    param="output_container_and_codec",
                )
            return Form(name), _mask(self, ())
        named, url = _background(self)
        if self.kind is ResultKind.COMPOSITE and named is None and url is None:
            raise FieldInvalid(
                "A composite needs 'background' or 'background_url'.", param="background"
            )
        if self.kind is ResultKind.CUTOUT and (named is not None or url is not None):
            raise FieldInvalid(
                "A cutout has no background: leave it out, or ask for the kind composite.",
                param="background",
            )
        return _cut_out(self, named, url)


class RefineRequest(Struct, frozen=True):
    hints: Annotated[HintList, Meta(min_length=1, description="Hints to add to the job.")]
    video: Annotated[Video | None, Meta(description="Optional while the upload is stored.")] = None


class PreviewRequest(Struct, frozen=True):
    picture: Annotated[bytes, _says("a JPEG or PNG in base64", min_length=1)]
    hints: Annotated[
        Hints, Meta(max_length=MOST_SHOWN_HINTS, description="Frame and time are ignored.")
    ] = ()
    quality: QualityField = Quality.BALANCED


class RenameRequest(Struct, frozen=True):
    name: Annotated[str, _says("from 1 to 200 characters", min_length=1, max_length=200)]


class UploadRequest(Struct, frozen=True):
    media_type: Annotated[
        str,
        _says(
            "a video type, such as video/mp4, or image/gif; for a background,"
            " image/jpeg, image/png or image/webp",
            pattern=rf"(?ai)^{_MEDIA_TYPE}\Z",
            extra_json_schema={SHOWN_PATTERN: f"^{_MEDIA_TYPE}$"},
        ),
    ] = ""


def _matte(body: Matte) -> Matte:
    return Matte(*(getattr(body, name) for name in Matte.__struct_fields__))


def _mask(body: Matte, hints: tuple[kinds.Hint, ...], key_points: int = 0) -> JobResult:
    if body.despill is not Despill.NONE:
        raise FieldInvalid(
            "A mask has no colours: leave despill out, or ask for a cut-out.", param="despill"
        )
    return JobResult(ResultOptions(matte=_matte(body)), hints=hints, key_points=key_points)


def _cut_out(
    body: CutOutBody | ConvertRequest, background: str | None, url: str | None = None
) -> tuple[Form, JobResult]:
    name = body.output_container_and_codec or Preset.WEBM_VP9
    hints = body.hints if isinstance(body, CutOutBody) else ()
    is_transparent = background is None and url is None
    kind = ResultKind.CUTOUT if is_transparent else ResultKind.COMPOSITE
    form = with_alpha(name, ALPHA_FORMATS) if is_transparent else Form(name)
    options = ResultOptions(
        kind=kind,
        background=background,
        matte=_matte(body),
        auto_zoom=body.auto_zoom,
        keep_sound=body.preserve_audio,
    )
    return form, JobResult(options, background_url=url, hints=hints)


def _background(body: ReplaceBackgroundRequest | ConvertRequest) -> tuple[str | None, str | None]:
    text, url = body.background, body.background_url
    if text is not None and url is not None:
        raise FieldInvalid("Send 'background' or 'background_url', not both.", param="background")
    if text is None:
        return None, url
    if not Background.is_named(text):
        raise FieldInvalid(
            f"background must be one of transparent, {', '.join(COLOURS)}, #rrggbb, blur,"
            " blur:RADIUS_PX, original, original:BRIGHTNESS; a file goes into background_url.",
            param="background",
        )
    return (None if Background.parse(text) is None else text.strip().lower()), None
