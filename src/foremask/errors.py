"""The errors that users get. docs/errors.md lists the reasons of `ERROR_TABLE`, in its order.

An error has a class of its own if code catches it, else that of its kind: docs/adr/0101.
"""

import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final


class ForemaskError(Exception):
    """The base class of all errors.

    ``details`` says what happened, with numbers. ``param`` names the invalid field or argument.
    ``limit`` is the bound that the value ``actual`` violates.

    ``reason`` is a stable error code, by default that of the class. What `REASONS` has of it is in
    these attributes: ``status`` is the HTTP status. ``usual_param`` is the default of ``param``.
    ``means`` and ``remedy`` are Markdown for the documentation. The CLI prints ``cli_remedy``.
    """

    usual_reason: ClassVar[str] = "internal"
    usual_cli_remedy: ClassVar[str] = ""

    def __init__(
        self,
        details: str,
        *,
        reason: str | None = None,
        param: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
        cli_remedy: str | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.reason = reason or self.usual_reason
        self.param = param
        self.limit = limit
        self.actual = actual
        known = REASONS[self.reason]
        self.status = known.status
        self.usual_param = known.param
        self.means = known.means
        self.remedy = known.remedy
        self.cli_remedy = known.cli_remedy or self.usual_cli_remedy or known.remedy
        self.retry_after_s = known.retry_after_s
        if cli_remedy is not None:
            self.cli_remedy = cli_remedy

    def facts(self) -> dict[str, object]:
        """Return the fields of the JSON error object; fields that are None are left out."""
        facts = {
            "code": self.status,
            "reason": self.reason,
            "message": HTTPStatus(self.status).phrase,
            "details": self.details,
            "param": self.param or self.usual_param,
            "limit": self.limit,
            "actual": self.actual,
        }
        return {name: value for name, value in facts.items() if value is not None}


class ClipRefused(ForemaskError):
    """The clip cannot be masked."""


class ResolutionTooLarge(ClipRefused):
    usual_reason = "resolution_too_large"


class PresetUnsuitable(ClipRefused):
    usual_reason = "preset_cannot"


class CorruptVideo(ClipRefused):
    usual_reason = "corrupt"


class BackgroundInvalid(ForemaskError):
    usual_reason = "background_invalid"

    @classmethod
    def of(cls, error: ForemaskError) -> "BackgroundInvalid":
        return cls(
            f"The background cannot be used: {error.details}"
            " Send jpg, png, webp, gif, mp4, mov, webm or avi.",
            param="background_url",
            limit=error.limit,
            actual=error.actual,
        )


class UrlRefused(ForemaskError):
    """A URL in the request cannot be used."""

    usual_cli_remedy = "Check the URL, or download the clip and name the file."


class BadRequest(ForemaskError):
    """The request itself is wrong."""

    usual_cli_remedy = "`foremask COMMAND --help` has the usage."
    allow = "GET, HEAD, POST, DELETE, OPTIONS"  # the Allow header of method_not_allowed


class FieldInvalid(BadRequest, ValueError):
    """Another field, or an argument, has an invalid value."""

    usual_reason = "field_invalid"

    @classmethod
    def out_of_range(cls, param: str, value: float, low: float, high: float) -> "FieldInvalid":
        return cls(
            f"{param} is {value:g}; it may be from {low:g} to {high:g}.",
            param=param,
            limit=high if value > high else low,
            actual=value if math.isfinite(value) else None,
        )


class VideoInvalid(BadRequest):
    usual_reason = "video_invalid"


class BadJson(BadRequest):
    usual_reason = "bad_json"


class RequestUnknown(BadRequest):
    usual_reason = "request_unknown"


class Denied(ForemaskError):
    """The token is refused."""

    usual_cli_remedy = "`foremask token list` shows the tokens."


class LinkInvalid(Denied):
    usual_reason = "link_invalid"


class Busy(ForemaskError):
    """A retry may succeed after ``retry_after_s`` seconds."""

    usual_cli_remedy = "Wait, and run it again."
    reset_s = 1.0  # time until the rate limit allows a full burst again


class Overloaded(Busy):
    usual_reason = "overloaded"


class Ended(ForemaskError):
    """The job was cancelled, or its result is deleted."""

    usual_cli_remedy = "Submit the clip again."


class Failed(ForemaskError):
    """The service or the machine is at fault, not the caller."""

    usual_cli_remedy = "`foremask doctor` shows what is wrong."


class Internal(Failed):
    usual_reason = "internal"


class TimedOut(Failed):
    usual_reason = "timed_out"


class ObjectLost(Failed):
    usual_reason = "object_lost"


class ServiceUnavailable(Failed):
    usual_reason = "unavailable"


class ModelUnavailable(ForemaskError):
    """The network's weights are not available; ``details`` has the remedy."""

    usual_reason = "model_unavailable"


class DeviceUnavailable(ForemaskError):
    """The requested device is not on this machine; ``details`` names those that are."""

    usual_reason = "device_unavailable"


class OutputFailed(ForemaskError):
    """The mask cannot be written: a full disk, no write permission, or an existing file."""

    usual_reason = "output_failed"


class OutputExists(OutputFailed):
    """The output file exists, and nobody asked to replace it."""

    def __init__(self, details: str) -> None:
        super().__init__(details, cli_remedy="Choose another OUTPUT; --force replaces the file.")


class SettingsInvalid(ForemaskError):
    usual_reason = "settings_invalid"


class PromiseBroken(ForemaskError):
    """A mask differs from its source in a property that must match; ``param`` names it."""

    usual_reason = "promise_broken"


@dataclass(frozen=True, slots=True)
class Reason:
    """What one error code means. Errors with this ``name`` are of the class ``kind``."""

    name: str
    kind: type[ForemaskError]
    status: int
    means: str = ""
    remedy: str = ""
    cli_remedy: str = ""  # printed instead of the class's ``usual_cli_remedy``, or ``remedy``
    param: str | None = None
    retry_after_s: float = 1.0  # of `Busy`

    def error(
        self,
        details: str,
        param: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
    ) -> ForemaskError:
        return self.kind(details, reason=self.name, param=param, limit=limit, actual=actual)


ERROR_TABLE: Final = (
    Reason(
        "token_missing",
        Denied,
        403,
        means="The request carries no token.",
        remedy=(
            "Send the header `api_token: YOUR_TOKEN`. Behind nginx or gunicorn, which drop"
            " headers with an underscore, send `Authorization: Bearer YOUR_TOKEN` or `x-api-key:"
            " YOUR_TOKEN`."
        ),
        param="api_token",
    ),
    Reason(
        "token_invalid",
        Denied,
        403,
        means="The token is unknown, revoked or expired.",
        remedy="`foremask token list` says which are valid; `foremask token create` makes one.",
        param="api_token",
    ),
    Reason(
        "quota_exhausted",
        Denied,
        403,
        means="The token has used up its quota.",
        remedy="Ask the operator for a token with a larger `--quota`.",
    ),
    Reason(
        "link_invalid",
        LinkInvalid,
        403,
        means="A signed download link or an upload form is invalid or has expired.",
        remedy="Get a new link from the job's status, or a new form from `POST /v2/video/upload`.",
    ),
    Reason(
        "path_unknown",
        BadRequest,
        404,
        means="No such path.",
        remedy="Check the path and the version in it: `POST /v2/video/segment/foreground_mask`.",
    ),
    Reason(
        "request_unknown",
        RequestUnknown,
        404,
        means="No such job for this token, or its record has expired.",
        remedy=(
            "Use the token that submitted the job. Records are deleted a week after their results."
        ),
    ),
    Reason(
        "request_refused",
        BadRequest,
        410,
        means="The request of this id was refused, so no job has it.",
        remedy="Correct what `details` names, and send that request again.",
    ),
    Reason(
        "method_not_allowed",
        BadRequest,
        405,
        means="The path does not take this method.",
        remedy="The `Allow` header of the answer names the methods.",
    ),
    Reason(
        "body_too_large",
        BadRequest,
        413,
        means="The request body is over its limit.",
        remedy="Send the video's URL, or upload the video with `POST /v2/video/upload`.",
    ),
    Reason(
        "content_type",
        BadRequest,
        415,
        means="The path does not take this `Content-Type`.",
        remedy="Send `Content-Type: application/json`.",
    ),
    Reason(
        "bad_json",
        BadJson,
        400,
        means="The body is empty, or not one JSON object with distinct keys in UTF-8.",
        remedy="Send one JSON object in UTF-8, each key once.",
    ),
    Reason(
        "video_missing",
        BadRequest,
        422,
        means="The field `video` is missing or null.",
        remedy="Add the field `video` with the clip's URL.",
    ),
    Reason(
        "video_invalid",
        VideoInvalid,
        422,
        means="The field `video` is not a URL of at most 8 KiB.",
        remedy="Give `video` one absolute URL, percent-encoded, of at most 8 KiB.",
    ),
    Reason(
        "preset_unknown",
        BadRequest,
        422,
        means="`output_container_and_codec` does not name a preset.",
        remedy="Use one of the names in `details`, or leave the field out.",
    ),
    Reason(
        "field_invalid",
        FieldInvalid,
        422,
        means="Another field, or an argument, has an invalid value.",
        remedy="`param` names the field; `details` says which values are valid.",
    ),
    Reason(
        "bad_form",
        BadRequest,
        400,
        means="An upload's multipart form cannot be read, or has no file after its fields.",
        remedy="Send multipart/form-data: all fields first (the `upload_fields`), the file last.",
    ),
    Reason(
        "range_invalid",
        BadRequest,
        416,
        means="The requested bytes are past the end of the file.",
        remedy="Ask for bytes inside the file; the answer's `Content-Range` has the file's size.",
    ),
    Reason(
        "webhook_invalid",
        BadRequest,
        422,
        means="`webhook_url` is no public http(s) URL.",
        remedy="Use a public http(s) URL, or let the operator set `FOREMASK_ALLOW_PRIVATE`.",
    ),
    Reason(
        "idempotency_mismatch",
        BadRequest,
        422,
        means="The Idempotency-Key was used before with another body.",
        remedy="Use a new `Idempotency-Key` for each new body.",
        param="Idempotency-Key",
    ),
    Reason(
        "bad_http",
        BadRequest,
        400,
        means="The bytes on the connection are not an HTTP/1.1 request.",
        remedy="`details` says what cannot be read; the connection is closed after the answer.",
    ),
    Reason(
        "target_too_long",
        BadRequest,
        414,
        means="The request line is over its limit.",
        remedy="Shorten the path and the query; send a clip's URL in the JSON body.",
    ),
    Reason(
        "headers_too_large",
        BadRequest,
        431,
        means="The request's headers are over their limit.",
        remedy="Send fewer headers: cookies of other sites on the same host are the usual reason.",
    ),
    Reason(
        "request_too_slow",
        BadRequest,
        408,
        means="The request did not arrive within its time limit.",
        remedy="Send the whole request without long pauses.",
    ),
    Reason(
        "message_invalid",
        BadRequest,
        422,
        means="A message of a live stream is neither a frame nor a command, or its JPEG is broken.",
        remedy="Send each frame as 24 bytes of header and a JPEG: docs/live.md has their layout.",
    ),
    Reason(
        "frame_too_large",
        BadRequest,
        413,
        means="A frame of a live stream has more pixels or bytes than the limit.",
        remedy="Scale the frames down before they are sent; 854x480 is enough for a camera.",
    ),
    Reason(
        "stream_idle",
        BadRequest,
        408,
        means="A live stream sent no frame, or took no mask, for too long.",
        remedy="Open a new stream, and keep sending frames and reading masks.",
    ),
    Reason(
        "stream_expired",
        BadRequest,
        403,
        means="A live stream ran for as long as the service allows.",
        remedy="Open a new stream; the operator sets `FOREMASK_STREAM_TIME`.",
    ),
    Reason(
        "url_scheme",
        UrlRefused,
        422,
        means="The URL is neither http nor https.",
        remedy="Use an http or https URL.",
    ),
    Reason(
        "url_not_allowed",
        UrlRefused,
        422,
        means="The URL carries user info, or a port that is not allowed.",
        remedy="Use port 80 or 443, and a signed URL instead of a user name and a password.",
    ),
    Reason(
        "url_private",
        UrlRefused,
        422,
        means="The host resolves to an address that is not public.",
        remedy=(
            "Upload the clip, or let the operator allow your network in `FOREMASK_ALLOW_PRIVATE`."
        ),
    ),
    Reason(
        "url_unreachable",
        UrlRefused,
        422,
        means="The origin does not answer (DNS, refused, TLS, timeout), or redirects too often.",
        remedy="Open the URL from another network; `details` says what failed.",
    ),
    Reason(
        "url_too_slow",
        UrlRefused,
        422,
        means="The origin sends fewer bytes per second than the minimum.",
        remedy="Serve the clip from a faster host, or upload it with `POST /v2/video/upload`.",
    ),
    Reason(
        "url_forbidden",
        UrlRefused,
        422,
        means="The origin answered 401 or 403.",
        remedy="Make the file public, or use a signed URL that is valid for long enough.",
    ),
    Reason(
        "url_status",
        UrlRefused,
        422,
        means="The origin answered with another 4xx status, or with 5xx.",
        remedy=(
            "Open the URL in a private browser window: the origin does not serve the file there."
        ),
    ),
    Reason(
        "background_invalid",
        BackgroundInvalid,
        422,
        means="The background is neither a picture nor a video that is supported.",
        remedy="Send a jpg, png, webp, gif, mp4, mov, webm or avi; `details` says what is wrong.",
        cli_remedy="Name a picture or a video that other programs can open.",
        param="background_url",
    ),
    Reason(
        "not_a_video",
        ClipRefused,
        422,
        means="The file is a web page or other text, or the host sends it compressed.",
        remedy="Name the video file itself, not a page that shows it.",
        param="video",
    ),
    Reason(
        "file_too_large",
        ClipRefused,
        413,
        means="The file has more bytes than the limit.",
        remedy="Encode the clip at a lower bitrate. The command line has no limit.",
        param="video",
    ),
    Reason(
        "resolution_too_large",
        ResolutionTooLarge,
        413,
        means="A side of the picture is longer than the limit, or all frames have too many pixels.",
        remedy=(
            "Scale it down: `ffmpeg -i clip.mp4 -vf"
            " scale=3840:3840:force_original_aspect_ratio=decrease:force_divisible_by=2 small.mp4`"
        ),
        param="video",
    ),
    Reason(
        "preset_cannot",
        PresetUnsuitable,
        422,
        means="The preset cannot be used for this clip; `details` names the presets that can.",
        remedy="Use one of the presets that `details` names.",
        cli_remedy="Choose another with --preset.",
        param="output_container_and_codec",
    ),
    Reason(
        "duration_too_long",
        ClipRefused,
        400,
        means="The clip is longer than the limit.",
        remedy="Mask a part of it: `start_s` and `end_s`, as `foremask submit --start --end`.",
        cli_remedy="`foremask submit --start --end` does.",
        param="video",
    ),
    Reason(
        "too_many_frames",
        ClipRefused,
        400,
        means="The clip has more frames than the limit.",
        remedy=(
            "Mask a part of it by `start_s` and `end_s`, or lower the frame rate: `ffmpeg -i"
            " clip.mp4 -r 60 new.mp4`"
        ),
        param="video",
    ),
    Reason(
        "empty_file",
        ClipRefused,
        422,
        means="The file has no bytes.",
        remedy="Check the export, upload or download that made the file.",
        param="video",
    ),
    Reason(
        "no_frames",
        ClipRefused,
        422,
        means="The video track has no frame, or none in the part that was asked for.",
        remedy="Check the export that made the file, or choose an earlier start.",
        param="video",
    ),
    Reason(
        "container_unsupported",
        ClipRefused,
        415,
        means="The container, recognised by content, is not supported.",
        remedy="Change it to mp4, mov, webm or avi: `ffmpeg -i clip.mkv -c copy clip.mp4`",
        param="video",
    ),
    Reason(
        "codec_unsupported",
        ClipRefused,
        415,
        means="The video codec is not supported.",
        remedy="Encode it anew: `ffmpeg -i clip.mov -c:v libx264 -crf 16 clip.mp4`",
        param="video",
    ),
    Reason(
        "no_video_stream",
        ClipRefused,
        422,
        means="The file has only sound, or cover art.",
        remedy="Name a file that has a video track.",
        param="video",
    ),
    Reason(
        "corrupt",
        CorruptVideo,
        422,
        means="The file cannot be read, from the start or from a named frame on.",
        remedy=(
            "If it plays elsewhere, this mends many files: `ffmpeg -i clip.mp4 -c copy new.mp4`."
            " An mp4 or mov without a moov box plays nowhere, and FFmpeg cannot mend it: copy,"
            " download or export it once more. A camera may finish it when its card is put back."
        ),
        cli_remedy=(
            "If it plays elsewhere, this mends many files: `ffmpeg -i clip.mp4 -c copy new.mp4`"
        ),
        param="video",
    ),
    Reason(
        "encrypted",
        ClipRefused,
        422,
        means="The video is protected by DRM.",
        remedy="Use a copy without DRM.",
        param="video",
    ),
    Reason(
        "rate_limited",
        Busy,
        429,
        means="The token has sent more requests than its rate allows.",
        remedy="Wait for `Retry-After` seconds; `RateLimit-Remaining` counts the requests left.",
    ),
    Reason(
        "too_many_jobs",
        Busy,
        429,
        means="The token has as many unfinished jobs as it may have.",
        remedy="Wait until one of your jobs has ended, or cancel one.",
        retry_after_s=10.0,
    ),
    Reason(
        "queue_full",
        Busy,
        429,
        means="The service has as many unfinished jobs as it takes.",
        remedy="Wait for `Retry-After` seconds; the operator may add workers.",
        retry_after_s=10.0,
    ),
    Reason(
        "storage_quota",
        Busy,
        429,
        means="The token's files would take more bytes than it may store.",
        remedy="Wait until jobs have ended; the operator sets `FOREMASK_STORAGE_PER_TOKEN`.",
        retry_after_s=60.0,
    ),
    Reason(
        "overloaded",
        Overloaded,
        503,
        means="The service handles as many such requests as it can; the request is not at fault.",
        remedy="Wait for `Retry-After` seconds and send the same request again.",
    ),
    Reason(
        "storage_full",
        Busy,
        503,
        means="The disk has no more free space than the service keeps in reserve.",
        remedy="Wait for `Retry-After` seconds; the operator makes room, or adds disk space.",
        retry_after_s=60.0,
    ),
    Reason(
        "cancelled",
        Ended,
        410,
        means="The caller cancelled the job.",
        remedy="Nothing to do: a caller with your token cancelled the job.",
    ),
    Reason(
        "result_expired",
        Ended,
        410,
        means="The mask was made, and has been deleted at the end of its retention time.",
        remedy="Submit the clip again, or let the operator raise `FOREMASK_RESULT_TTL`.",
    ),
    Reason(
        "timed_out",
        TimedOut,
        500,
        means="The job ran longer than its time limit.",
        remedy=(
            "Try once more; if it fails again, send a shorter or smaller clip, or quality `fast`."
        ),
    ),
    Reason(
        "worker_crashed",
        Failed,
        500,
        means="The process that worked on the job died too often.",
        remedy="Tell the operator the `request_id`: this clip ends the process that works on it.",
    ),
    Reason(
        "object_lost",
        ObjectLost,
        500,
        means="A stored file is no longer there.",
        remedy="Submit the job again; the operator should check the object store.",
    ),
    Reason(
        "unavailable",
        ServiceUnavailable,
        503,
        means="The database or object store does not answer, or all connections are in use.",
        remedy="Try again in a moment; `details` names what is unavailable.",
    ),
    Reason(
        "internal",
        Internal,
        500,
        means="An unforeseen error.",
        remedy="Tell the operator the `request_id`; the log has the rest.",
        cli_remedy="--debug shows where; please report it.",
    ),
    Reason(
        "model_unavailable",
        ModelUnavailable,
        503,
        means="The network's weights are not available; `details` has the remedy.",
        remedy="Do what `details` says; [The model](models.md) has all ways to get the weights.",
        cli_remedy="docs/models.md has the ways to get the weights.",
    ),
    Reason(
        "device_unavailable",
        DeviceUnavailable,
        503,
        means="The requested device is not on this machine; `details` names those that are.",
        remedy="Use a device that `details` names; [GPUs](deployment.md#gpus) explains them.",
        cli_remedy="`foremask doctor` lists the devices.",
    ),
    Reason(
        "output_failed",
        OutputFailed,
        500,
        means="The mask cannot be written: a full disk, no write permission, or an existing file.",
        remedy="Free space, choose another directory or name, or say --force.",
        cli_remedy="Choose another OUTPUT, or make room for it.",
    ),
    Reason(
        "settings_invalid",
        SettingsInvalid,
        500,
        means=(
            "A setting is unknown, has an invalid value, or cannot be used on this machine;"
            " `details` says which."
        ),
        remedy="[Settings](settings.md) lists all names and their values.",
        cli_remedy="docs/settings.md lists all settings.",
    ),
    Reason(
        "promise_broken",
        PromiseBroken,
        422,
        means="A mask differs from its source in a property that must match; `param` names it.",
        remedy="Keep both files and [report it](../CONTRIBUTING.md), if foremask made the mask.",
        cli_remedy=(
            "Make the mask again; a mask of a part (--start, --end) does not match the whole clip."
        ),
    ),
)
REASONS: Final = {each.name: each for each in ERROR_TABLE}  # the CLI adds its own
