"""The shapes of the wire, for the OpenAPI document: what is taken and what is answered."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from foremask.options import Despill, Preset, Quality, ResultKind
from foremask.service.api.fields import MAX_URL_BYTES
from foremask.service.api.hint_schemas import FrameNumber, HintsField, KeyPoints
from foremask.service.api.result_fields import (
    ALPHA_FORMATS,
    BACKGROUND_COLORS,
    FORMS,
    GREEN_SHADES,
)

Url = Annotated[
    str, Meta(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f]+$", max_length=MAX_URL_BYTES)
]
RequestId = Annotated[
    str, Meta(description="Names the job, or this very request; quote it when something is wrong.")
]
Count = Annotated[int, Meta(ge=0)]


class MatteFields(Struct, kw_only=True):
    """What is done to the finished mask, in this order: docs/cutouts.md."""

    invert: Annotated[
        bool | None, Meta(description="Keep the background, and cut the subject away.")
    ] = False
    black: Annotated[
        Annotated[float, Meta(ge=0, le=0.99)] | None,
        Meta(description="Alpha up to this becomes 0."),
    ] = 0.0
    white: Annotated[
        Annotated[float, Meta(ge=0.01, le=1)] | None,
        Meta(description="Alpha from this on becomes 1; more than black."),
    ] = 1.0
    gamma: Annotated[
        Annotated[float, Meta(ge=0.1, le=10)] | None,
        Meta(description="Over 1, soft edges become more opaque."),
    ] = 1.0
    min_part_px: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000_000)] | None,
        Meta(description="Parts of fewer pixels are left out."),
    ] = 0
    grow_px: Annotated[
        Annotated[float, Meta(ge=-50, le=50)] | None,
        Meta(description="Moves the outline outwards, and inwards below 0."),
    ] = 0.0
    feather_px: Annotated[
        Annotated[float, Meta(ge=0, le=100)] | None,
        Meta(description="Softens the outline over so many pixels to each side."),
    ] = 0.0


class JobFields(MatteFields, kw_only=True):
    """What every call that starts a job takes; fields that are not listed are ignored."""

    video: Annotated[
        Url, Meta(description="The clip: an http(s) URL, or the file_url of an upload.")
    ]
    quality: Annotated[
        Quality | None, Meta(description="How much time the mask may take: docs/quality.md.")
    ] = Quality.BALANCED
    hints: HintsField = None
    webhook_url: Annotated[
        Url | None,
        Meta(description="Where the finished status is POSTed to, signed: docs/webhooks.md."),
    ] = None
    sync: Annotated[
        bool | None,
        Meta(
            description="Hold the connection for up to 25 s: "
            "200 with the finished status, else 202."
        ),
    ] = None


class JobRequest(JobFields, kw_only=True):
    """A mask; fields that are not listed here are ignored."""

    output_container_and_codec: Annotated[
        Preset | None, Meta(description="Container and codec of the mask video.")
    ] = Preset.MP4_H264


class MaskByKeyPointsRequest(JobRequest, kw_only=True):
    """A mask of the thing at some points; fields that are not listed here are ignored."""

    key_points: Annotated[KeyPoints, Meta(description="Pixels of the upright picture.")]
    frame_index: Annotated[FrameNumber | None, Meta(description="The frame they are on.")] = 0
    auto_trim: Annotated[bool | None, Meta(description="Ignored: all of the clip is masked.")] = (
        None
    )


DespillField = Annotated[
    Despill | None,
    Meta(description="Takes the green or the blue of a screen out of the subject."),
]
SoundField = Annotated[bool | None, Meta(description="Whether the result has the clip's sound.")]
ZoomField = Annotated[
    bool | None,
    Meta(description="Crop all frames alike, as closely as the subject allows."),
]
ResultForm = Annotated[
    Literal[FORMS] | None,  # type: ignore[valid-type]
    Meta(
        description="Container and codec of the result. Transparent are "
        + ", ".join(ALPHA_FORMATS)
        + "."
    ),
]
BackgroundUrl = Annotated[
    Url | None,
    Meta(
        description="A picture (jpg, png, webp) or a video (mp4, mov, webm, avi, gif; 60 s at"
        " most): an http(s) URL, or the file_url of an upload. It covers the frame about its"
        " centre; a video begins anew where it ends."
    ),
]
BackgroundName = Annotated[
    str | None,
    Meta(
        description="Instead of a file: a colour as in CSS or as #rrggbb, broadcast_green,"
        " chroma_green, blue_screen, blur, blur:RADIUS_PX, original or original:BRIGHTNESS."
    ),
]


class RemoveBackgroundRequest(JobFields, kw_only=True):
    """A cut-out; fields that are not listed here are ignored."""

    background_color: Annotated[
        Literal[BACKGROUND_COLORS] | None,  # type: ignore[valid-type]
        Meta(
            description="Without it: Transparent where the preset has alpha, else Black. Colours"
            " are those of CSS."
        ),
    ] = None
    output_container_and_codec: ResultForm = "webm_vp9"
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True
    despill: DespillField = Despill.NONE


class GreenScreenRequest(JobFields, kw_only=True):
    """The subject before a screen; fields that are not listed here are ignored."""

    green_shade: Annotated[
        Literal[GREEN_SHADES] | None,  # type: ignore[valid-type]
        Meta(description="#00B140, #00FF00 or #0000FF."),
    ] = "broadcast_green"
    output_container_and_codec: ResultForm = "mp4_h264"
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True
    despill: DespillField = Despill.NONE


class ReplaceBackgroundRequest(JobFields, kw_only=True):
    """The subject before something else: either field says what."""

    background_url: BackgroundUrl = None
    background: BackgroundName = None
    output_container_and_codec: ResultForm = "webm_vp9"
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True
    despill: DespillField = Despill.NONE


class Accepted(Struct):
    """The job exists."""

    request_id: RequestId
    status_url: Annotated[str, Meta(description="Where to read how it is going; send the token.")]


class Error(Struct):
    """Why not."""

    code: Annotated[int, Meta(ge=400, le=599, description="The HTTP status.")]
    message: Annotated[str, Meta(description="The HTTP status in words.")]
    details: Annotated[str, Meta(description="One sentence with the numbers: what to do about it.")]
    reason: Annotated[str, Meta(description="One stable word for programs: docs/errors.md.")]
    param: Annotated[str, Meta(description="The field or header at fault.")] | UnsetType = UNSET
    limit: Annotated[float, Meta(description="What is allowed.")] | UnsetType = UNSET
    actual: Annotated[float, Meta(description="What was found.")] | UnsetType = UNSET


class Problem(Struct):
    """The body of every answer that says no."""

    request_id: RequestId
    error: Error
    status: (
        Annotated[Literal["NOT_FOUND"], Meta(description="With request_unknown.")] | UnsetType
    ) = UNSET


class Result(Struct):
    """What was made; once it is kept no longer, the status is ERROR with 410 result_expired."""

    video_url: Annotated[str, Meta(description="The video or the file, by a signed link.")]
    kind: Annotated[ResultKind, Meta(description="What it is.")]
    report: Annotated[
        dict[str, Any], Meta(description="Frames in and out, drift, audio, coverage, checksum.")
    ]
    mask_url: Annotated[str, Meta(description="Of a mask, the same URL.")] | UnsetType = UNSET


class JobStatus(Struct):
    """Where a job is. UNKNOWN: its record cannot be read."""

    request_id: RequestId
    status: Literal["IN_PROGRESS", "COMPLETED", "ERROR", "UNKNOWN"]
    progress: Annotated[int, Meta(ge=0, le=100, description="Percent.")] | UnsetType = UNSET
    stage: Annotated[str, Meta(description="What is being done.")] | UnsetType = UNSET
    frames_done: Count | UnsetType = UNSET
    frames_total: Count | UnsetType = UNSET
    queue_position: Annotated[int, Meta(ge=1, description="1 is next.")] | UnsetType = UNSET
    eta_s: (
        Annotated[float, Meta(ge=0, description="Seconds until the mask is done.")] | UnsetType
    ) = UNSET
    idle_s: (
        Annotated[float, Meta(ge=60, description="Seconds without progress, from a minute on.")]
        | UnsetType
    ) = UNSET
    result: Result | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Links(Struct):
    """The result of a job in a list."""

    video_url: Annotated[str, Meta(description="The video or the file, by a signed link.")]
    kind: Annotated[ResultKind, Meta(description="What it is.")]
    mask_url: Annotated[str, Meta(description="Of a mask, the same URL.")] | UnsetType = UNSET


class ListedJob(Struct):
    """A job of a list: its status without the report, and what it was asked for."""

    request_id: RequestId
    status: Literal["IN_PROGRESS", "COMPLETED", "ERROR"]
    output_container_and_codec: Literal[FORMS]  # type: ignore[valid-type]
    created_at: str
    ended_at: str | UnsetType = UNSET
    name: (
        Annotated[str, Meta(description="The clip's file name, where it is known.")] | UnsetType
    ) = UNSET
    quality: (
        Annotated[Quality, Meta(description="Absent where only the encoding was asked for.")]
        | UnsetType
    ) = UNSET
    progress: Annotated[int, Meta(ge=0, le=100, description="Percent.")] | UnsetType = UNSET
    stage: Annotated[str, Meta(description="What is being done.")] | UnsetType = UNSET
    frames_done: Count | UnsetType = UNSET
    frames_total: Count | UnsetType = UNSET
    queue_position: Annotated[int, Meta(ge=1, description="1 is next.")] | UnsetType = UNSET
    eta_s: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    idle_s: Annotated[float, Meta(ge=60)] | UnsetType = UNSET
    result: Links | UnsetType = UNSET
    source_url: Annotated[str, Meta(description="The clip, while it is stored.")] | UnsetType = (
        UNSET
    )
    error: Error | UnsetType = UNSET


class JobPage(Struct):
    """Some jobs, the newest first."""

    jobs: list[ListedJob]
    next: Annotated[
        str | None, Meta(description="What to send as before for the page that follows.")
    ]


class JobList(Struct):
    """The jobs of a token."""

    request_id: RequestId
    result: JobPage


class ConvertRequest(MatteFields, kw_only=True):
    """What is made of a stored mask: another mask, or a cut-out or a composite of its clip."""

    kind: Annotated[ResultKind | None, Meta(description="What is made.")] = ResultKind.MASK
    output_container_and_codec: Annotated[
        Literal[FORMS] | None,  # type: ignore[valid-type]
        Meta(
            description="Container and codec. Without it, mp4_h264 for a mask, else webm_vp9."
            " A cutout can be " + ", ".join(ALPHA_FORMATS) + "; a mask, one of the nine presets."
        ),
    ] = None
    video: Annotated[
        Url | None,
        Meta(
            description="The clip of the mask, for a cutout or a composite. Not needed where it"
            " was uploaded here and is still kept."
        ),
    ] = None
    background_url: BackgroundUrl = None
    background: BackgroundName = None
    auto_zoom: ZoomField = False
    preserve_audio: SoundField = True
    despill: DespillField = Despill.NONE


class StripFrames(Struct):
    """Every frame of a mask."""

    frames: Annotated[
        list[tuple[float, float, float]],
        Meta(description="Time in seconds, coverage, change since the frame before."),
    ]


class Strip(Struct):
    """What a mask covers, frame by frame."""

    request_id: RequestId
    result: StripFrames


class NewestMaskPicture(Struct):
    """What a job under way has masked last."""

    mask: Annotated[str | None, Meta(description="A grey PNG in base64; white is the foreground.")]


class NewestMask(Struct):
    """A small picture of the newest mask."""

    request_id: RequestId
    result: NewestMaskPicture


class ClipFacts(Struct):
    """What a clip is."""

    container: str
    codec: str
    width: Count
    height: Count
    rotation: Annotated[int, Meta(description="Degrees clockwise.")]
    fps: float
    vfr: Annotated[bool, Meta(description="Whether the frame rate varies.")]
    frames: Annotated[int | None, Meta(description="As declared; null where the file is silent.")]
    duration_s: float | None
    audio: list[dict[str, Any]]


class Probed(Struct):
    """What a job with this body would be told."""

    request_id: RequestId
    result: ClipFacts


class UploadRequest(Struct):
    """An upload to come."""

    media_type: Annotated[
        Annotated[
            str,
            Meta(pattern=r"^(video/([a-z0-9][a-z0-9.+-]{0,63})?|image/(gif|jpeg|png|webp))$"),
        ]
        | None,
        Meta(description="The type that the file will be sent as."),
    ] = None


class UploadForm(Struct):
    """A form for one file."""

    upload_url: Annotated[str, Meta(description="Where to POST the form, within one hour.")]
    upload_fields: Annotated[
        dict[str, str], Meta(description="To be sent as they are, before the file.")
    ]
    file_url: Annotated[
        str,
        Meta(description="What to send as 'video' afterwards, for one day. Treat it as a secret."),
    ]


class UploadStarted(Struct):
    """The form."""

    request_id: RequestId
    result: UploadForm


class Readiness(Struct):
    """Whether a job would be accepted, and what stands in the way."""

    status: Literal["ready", "unready"]
    checks: dict[str, str]
    sandbox: str


class Health(Struct):
    """The process answers."""

    status: Literal["ok"]
