"""The shapes of the wire, for the OpenAPI document: what is taken and what is answered."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from foremask.options import Preset, Quality
from foremask.service.api.parsing import MAX_URL_BYTES

Url = Annotated[
    str, Meta(pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f]+$", max_length=MAX_URL_BYTES)
]
RequestId = Annotated[
    str, Meta(description="Names the job, or this very request; quote it when something is wrong.")
]
Count = Annotated[int, Meta(ge=0)]


class JobRequest(Struct):
    """A job; fields that are not listed here are ignored."""

    video: Annotated[
        Url, Meta(description="The clip: an http(s) URL, or the file_url of an upload.")
    ]
    output_container_and_codec: Annotated[
        Preset | None, Meta(description="Container and codec of the mask video.")
    ] = Preset.MP4_H264
    quality: Annotated[
        Quality | None, Meta(description="How much time the mask may take: docs/quality.md.")
    ] = Quality.BALANCED
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
    """The mask; once it is kept no longer, the status is ERROR with 410 result_expired."""

    video_url: Annotated[str, Meta(description="The mask video, by a signed link.")]
    mask_url: Annotated[str, Meta(description="The same URL.")]
    report: Annotated[
        dict[str, Any], Meta(description="Frames in and out, drift, audio, coverage, checksum.")
    ]


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
    result: Result | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Links(Struct):
    """The mask of a job in a list."""

    video_url: Annotated[str, Meta(description="The mask video, by a signed link.")]
    mask_url: Annotated[str, Meta(description="The same URL.")]


class ListedJob(Struct):
    """A job of a list: its status without the report, and what it was asked for."""

    request_id: RequestId
    status: Literal["IN_PROGRESS", "COMPLETED", "ERROR"]
    output_container_and_codec: Preset
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


class ConvertRequest(Struct):
    """A mask in another preset."""

    output_container_and_codec: Annotated[
        Preset | None, Meta(description="Container and codec of the mask video.")
    ] = Preset.MP4_H264


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


class Callback(Struct):
    """One callback as it came."""

    url: str
    request_id: str
    timestamp: str
    signature: str
    body: str
    received_at: str


class Receiver(Struct):
    """Where callbacks go, and those that came."""

    url: str
    deliveries: list[Callback]


class ReceiverAnswer(Struct):
    """The playground's receiver."""

    request_id: RequestId
    result: Receiver


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
        Annotated[str, Meta(pattern=r"^(video/([a-z0-9][a-z0-9.+-]{0,63})?|image/gif)$")] | None,
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
