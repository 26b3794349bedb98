"""The fields, limits and documentation of request bodies."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, structs

from foremask.errors import BadRequest, FieldInvalid
from foremask.fetch.connections import MAX_URL_BYTES
from foremask.hints import kinds
from foremask.options import (
    ALPHA_FORMS,
    COLOURS,
    AnyCase,
    Background,
    Despill,
    Excerpt,
    Fit,
    Form,
    JobSpec,
    Matte,
    Preset,
    Quality,
    ResultKind,
    with_alpha,
)
from foremask.service.api.openapi import SHOWN_PATTERN

MOST_SHOWN_HINTS: Final = 16  # limit for a preview; the network runs twice per point
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


def _url(description: str, **reasons: str) -> Meta:
    return Meta(
        pattern=_CLEAN,
        max_length=MAX_URL_BYTES,
        description=description,
        extra={"text": _URL, **reasons},
        extra_json_schema={SHOWN_PATTERN: _HTTP, "examples": ["https://example.com/clip.mp4"]},
    )


Video = Annotated[
    str,
    _url(
        "An http(s) URL, or an upload's file_url.", missing="video_missing", invalid="video_invalid"
    ),
]
WebhookUrl = Annotated[
    str,
    _url(
        "Receives a signed POST with the final status: docs/webhooks.md.", invalid="webhook_invalid"
    ),
]
BackgroundUrl = Annotated[
    str,
    _url(
        "A picture (jpg, png, webp) or a video (mp4, mov, webm, avi, gif; 60 s at most), which is"
        " scaled to the frame as background_fit says. A video loops."
    ),
]
FitField = Annotated[
    Fit,
    Meta(
        description="How a background_url of another shape fills the frame: stretched to it, or"
        " centred, covering it and cut off at the sides."
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
    Meta(description="Container and codec of the mask video.", extra={"invalid": "preset_unknown"}),
]
ResultForm = Annotated[
    Literal[FORMS],  # type: ignore[valid-type]
    Meta(
        description=f"Container and codec. {', '.join(ALPHA_FORMATS)} can be transparent.",
        extra={"invalid": "preset_unknown"},
    ),
]
ShownHints = tuple[kinds.Point | kinds.Box | kinds.Paint, ...]
HintList = Annotated[
    tuple[kinds.Point | kinds.Box | kinds.Paint | kinds.Text, ...],
    Meta(
        max_length=kinds.MOST_HINTS,
        description="Marks on the subject or the background, and words for the subject:"
        " docs/hints.md.",
    ),
]
TrackerField = Annotated[
    str,
    _says("a tracker's name that this service allows, FOREMASK_TRACKERS", max_length=64),
]
QualityField = Annotated[Quality, Meta(description="Trade speed for precision: docs/quality.md.")]
NetworkField = Annotated[
    str, _says("a network's name that this service allows, FOREMASK_NETWORKS", max_length=64)
]
SoundField = Annotated[bool, Meta(description="Whether to keep the clip's sound.")]
StartField = Annotated[
    float,
    Meta(ge=0, le=kinds.MOST_SECONDS, description="Leave out what is shown before this second."),
]
EndField = Annotated[
    float,
    Meta(ge=0, le=kinds.MOST_SECONDS, description="Leave out what is shown from this second on."),
]
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
    network: NetworkField | None = None
    hints: HintList = ()
    tracker: TrackerField | None = None
    start_s: StartField = 0.0
    end_s: EndField | None = None
    webhook_url: WebhookUrl | None = None
    sync: Annotated[
        bool, Meta(description="Wait for the job's end: 200 with the status, or 202 after 25 s.")
    ] = False

    def spec(self) -> JobSpec:
        raise NotImplementedError


class JobRequest(JobBody, frozen=True, kw_only=True):
    output_container_and_codec: MaskForm = Preset.MP4_H264

    def spec(self) -> JobSpec:
        _check_mask(self)
        return JobSpec(
            form=Form(self.output_container_and_codec),
            quality=self.quality,
            network=self.network,
            hints=self.hints,
            tracker=self.tracker,
            matte=_matte(self),
            excerpt=Excerpt.of(self.start_s, self.end_s),
        )


class KeyPoint(Struct, frozen=True):
    """A position in pixels, from the top left corner of the upright frame."""

    x: Annotated[int, Meta(ge=0, le=kinds.MOST_PIXELS - 1)]
    y: Annotated[int, Meta(ge=0, le=kinds.MOST_PIXELS - 1)]
    type: Literal["positive", "negative"] = "positive"


class MaskByKeyPointsRequest(JobRequest, frozen=True, kw_only=True):
    key_points: Annotated[tuple[KeyPoint, ...], Meta(min_length=1, max_length=kinds.MOST_HINTS)]
    frame_index: Annotated[kinds.FrameNumber, Meta(description="The points' frame, from 0.")] = 0
    auto_trim: Annotated[bool, Meta(description="Ignored; the whole clip is masked.")] = False

    def spec(self) -> JobSpec:
        points = tuple(
            kinds.Point(each.x, each.y, frame=self.frame_index, negative=each.type == "negative")
            for each in self.key_points
        )
        return structs.replace(super().spec(), hints=points + self.hints)


class MaskByPromptRequest(JobRequest, frozen=True, kw_only=True):
    prompt: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=kinds.MOST_LETTERS,
            description="What is masked, in English words.",
            extra={"text": f"from 1 to {kinds.MOST_LETTERS} characters"},
        ),
    ]
    auto_trim: Annotated[bool, Meta(description="Ignored; the whole clip is masked.")] = False

    def spec(self) -> JobSpec:
        words = kinds.Text(self.prompt)
        return structs.replace(super().spec(), hints=(*self.hints, words))


class CutOutBody(JobBody, frozen=True, kw_only=True):
    output_container_and_codec: ResultForm = "webm_vp9"
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True


class RemoveBackgroundRequest(CutOutBody, frozen=True, kw_only=True):
    background_color: Annotated[
        BackgroundColor | None,
        Meta(description="Default: Transparent if the format has alpha, else Black."),
    ] = None

    def spec(self) -> JobSpec:
        color = self.background_color
        if color is None:
            color = BackgroundColor.BLACK
            if self.output_container_and_codec in ALPHA_FORMATS:
                color = BackgroundColor.TRANSPARENT
        if color is not BackgroundColor.TRANSPARENT:
            return _cut_out(self, ResultKind.COMPOSITE, color.lower())
        if self.output_container_and_codec in ALPHA_FORMATS:
            return _cut_out(self, ResultKind.CUTOUT, None)
        on_white = _cut_out(self, ResultKind.COMPOSITE, "white")
        remark = (
            f"{self.output_container_and_codec} has no alpha: the background is white instead of"
            f" transparent; {', '.join(ALPHA_FORMATS)} can be transparent"
        )
        return structs.replace(on_white, remarks=(remark,))


class GreenScreenRequest(CutOutBody, frozen=True, kw_only=True):
    green_shade: GreenShade = GreenShade.BROADCAST_GREEN
    output_container_and_codec: ResultForm = "mp4_h264"

    def spec(self) -> JobSpec:
        return _cut_out(self, ResultKind.COMPOSITE, self.green_shade.value)


class ReplaceBackgroundRequest(CutOutBody, frozen=True, kw_only=True):
    background_url: BackgroundUrl | None = None
    background: BackgroundName | None = None
    background_fit: FitField = Fit.STRETCH

    def spec(self) -> JobSpec:
        if self.background_url is None and self.background is None:
            raise FieldInvalid(
                f"The field 'background_url' is missing; it is {_URL}.", param="background_url"
            )
        named = _background(self)
        if named is None and self.background_url is None:
            raise FieldInvalid(
                "background cannot be transparent here; POST to /v2/video/edit/remove_background.",
                param="background",
            )
        composite = _cut_out(self, ResultKind.COMPOSITE, named)
        return structs.replace(composite, background_fit=self.background_fit)


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
    background_fit: FitField = Fit.COVER
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True

    def spec(self) -> JobSpec:
        if self.kind is ResultKind.MASK:
            return self._mask_spec()
        named = _background(self)
        is_opaque = named is not None or self.background_url is not None
        if self.kind is ResultKind.COMPOSITE and not is_opaque:
            raise FieldInvalid(
                "A composite needs 'background' or 'background_url'.", param="background"
            )
        if self.kind is ResultKind.CUTOUT and is_opaque:
            raise FieldInvalid(
                "A cutout has no background: leave it out, or ask for the kind composite.",
                param="background",
            )
        return structs.replace(_cut_out(self, self.kind, named), background_fit=self.background_fit)

    def _mask_spec(self) -> JobSpec:
        name = self.output_container_and_codec or Preset.MP4_H264
        if name not in list(Preset):
            raise BadRequest(
                f"output_container_and_codec must be one of {', '.join(Preset)}.",
                reason="preset_unknown",
                param="output_container_and_codec",
            )
        _check_mask(self)
        return JobSpec(form=Form(name), matte=_matte(self))


class RefineRequest(Struct, frozen=True):
    hints: Annotated[HintList, Meta(min_length=1, description="Hints to add to the job.")]
    video: Annotated[Video | None, Meta(description="Optional while the upload is stored.")] = None


class PreviewRequest(Struct, frozen=True):
    picture: Annotated[bytes, _says("a JPEG or PNG in base64", min_length=1)]
    hints: Annotated[
        ShownHints, Meta(max_length=MOST_SHOWN_HINTS, description="Frame and time are ignored.")
    ] = ()
    mask: Annotated[
        bytes | None,
        _says("the picture's mask from a result, a JPEG or PNG in base64; hints correct it"),
    ] = None
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


def _check_mask(body: Matte) -> None:
    if body.despill is not Despill.NONE:
        raise FieldInvalid(
            "A mask has no colours: leave despill out, or ask for a cut-out.", param="despill"
        )


def _cut_out(
    body: CutOutBody | ConvertRequest, kind: ResultKind, background: str | None
) -> JobSpec:
    form = Form(body.output_container_and_codec or Form.WEBM_VP9)
    if kind is ResultKind.CUTOUT:
        form = with_alpha(form, ALPHA_FORMATS)
    spec = JobSpec(
        kind=kind,
        form=form,
        background=background,
        matte=_matte(body),
        auto_zoom=body.auto_zoom,
        keep_sound=body.preserve_audio,
    )
    if isinstance(body, CutOutBody):
        excerpt = Excerpt.of(body.start_s, body.end_s)
        return structs.replace(
            spec,
            quality=body.quality,
            network=body.network,
            hints=body.hints,
            tracker=body.tracker,
            excerpt=excerpt,
        )
    return spec


def _background(body: ReplaceBackgroundRequest | ConvertRequest) -> str | None:
    """Return the background's name; None if it is a file, transparent or missing."""
    text = body.background
    if text is None:
        return None
    if body.background_url is not None:
        raise FieldInvalid("Send 'background' or 'background_url', not both.", param="background")
    if not Background.is_named(text):
        raise FieldInvalid(
            f"background must be one of transparent, {', '.join(COLOURS)}, #rrggbb, blur,"
            " blur:RADIUS_PX, original, original:BRIGHTNESS; a file goes into background_url.",
            param="background",
        )
    if Background.parse(text) is None:
        return None
    return text.strip().lower()
