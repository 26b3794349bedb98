"""What each error means to a caller of the API: HTTP status, field at fault, and a remedy.

The order is that of docs/errors.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from foremask import errors
from foremask.errors import ForemaskError
from foremask.service import service_errors

X264_OPTIONS: Final = "-c:v libx264 -crf 16"
"""How ffmpeg encodes a clip anew without visible loss: in every hint, the playground's too."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the API answers with an error.

    ``remedy`` is a sentence or two of Markdown, for docs/errors.md and the page at /reference.
    ``param`` is the field at fault where the error itself names none: of the library's errors.
    """

    status: int
    remedy: str
    param: str | None = None


ERROR_TABLE: Final[Mapping[type[ForemaskError], Answer]] = {
    service_errors.TokenMissing: Answer(
        403,
        "Send the header `api_token: YOUR_TOKEN`. Behind nginx or gunicorn, which drop "
        "headers with an underscore, send `Authorization: Bearer YOUR_TOKEN` or `x-api-key: "
        "YOUR_TOKEN`.",
    ),
    service_errors.TokenInvalid: Answer(
        403,
        "Check the token for missing characters; `foremask token list` shows which are good, "
        "`foremask token create` makes a new one.",
    ),
    service_errors.QuotaExhausted: Answer(
        403,
        "Ask the operator for a token with a larger `--quota`.",
    ),
    service_errors.LinkInvalid: Answer(
        403,
        "Read the job's status again: it has a fresh link.",
    ),
    service_errors.PathUnknown: Answer(
        404,
        "Check the path and the version in it: `POST /v2/video/segment/foreground_mask`.",
    ),
    service_errors.RequestUnknown: Answer(
        404,
        "Use the token that submitted the job; records go some time after results "
        "(`FOREMASK_RESULT_TTL`).",
    ),
    service_errors.MethodNotAllowed: Answer(
        405,
        "The `Allow` header of the answer names the methods.",
    ),
    service_errors.BodyTooLarge: Answer(
        413,
        "Send the video's URL, not the video; files go through `POST /v2/video/upload`.",
    ),
    service_errors.ContentTypeWrong: Answer(
        415,
        "Send `Content-Type: application/json`.",
    ),
    service_errors.BadJson: Answer(
        400,
        "Send one JSON object in UTF-8, each key once.",
    ),
    service_errors.VideoMissing: Answer(
        422,
        "Add the field `video` with the clip's URL.",
    ),
    service_errors.VideoInvalid: Answer(
        422,
        "Give `video` one absolute URL, percent-encoded, of at most 8 KiB.",
    ),
    service_errors.PresetUnknown: Answer(
        422,
        "Use one of the nine names; leave the field out for `mp4_h264`.",
    ),
    errors.FieldInvalid: Answer(
        422,
        "`param` names the field, `details` what it may be.",
    ),
    service_errors.FormInvalid: Answer(
        400,
        "Send multipart/form-data: every pair of `upload_fields` first, the file as the last part.",
    ),
    service_errors.RangeInvalid: Answer(
        416,
        "Ask for bytes inside the file: `Content-Range` in the answer has its size.",
    ),
    service_errors.WebhookInvalid: Answer(
        422,
        "Use an http(s) URL on port 80 or 443 whose host has public addresses only, or let "
        "the operator open your network with `FOREMASK_ALLOW_PRIVATE`.",
    ),
    service_errors.IdempotencyMismatch: Answer(
        422,
        "Use a new `Idempotency-Key` for a new body; the old key keeps its answer.",
    ),
    service_errors.PreconditionFailed: Answer(
        412,
        "Leave the condition out, or ask for the file's present `ETag` first.",
    ),
    service_errors.HttpInvalid: Answer(
        400,
        "`details` says what cannot be read; the connection is closed after the answer.",
    ),
    service_errors.TargetTooLong: Answer(
        414,
        "Shorten path and query; a clip's URL belongs into the JSON body.",
    ),
    service_errors.HeadersTooLarge: Answer(
        431,
        "Send fewer or shorter headers: cookies of other sites on the same host are the usual"
        " reason.",
    ),
    service_errors.RequestTooSlow: Answer(
        408,
        "Send the whole request without long pauses; a slow network can upload in a form.",
    ),
    service_errors.UrlScheme: Answer(
        422,
        "Use an http or https URL.",
    ),
    service_errors.UrlNotAllowed: Answer(
        422,
        "Leave user name and password out of the URL, and use port 80 or 443; a signed URL "
        "carries its permission in the query.",
    ),
    service_errors.UrlPrivate: Answer(
        422,
        "Serve the clip from a public address, upload it with `POST /v2/video/upload`, or let"
        " the operator open your network with `FOREMASK_ALLOW_PRIVATE`.",
    ),
    service_errors.UrlUnreachable: Answer(
        422,
        "Open the URL from another network: `details` says whether name, connection, TLS, "
        "time or redirects were the matter.",
    ),
    service_errors.UrlTooSlow: Answer(
        422,
        "Serve the clip from a faster host, or upload it with `POST /v2/video/upload`; the "
        "operator sets the least speed with `FOREMASK_MIN_BYTES_PER_SECOND`.",
    ),
    service_errors.UrlForbidden: Answer(
        422,
        "Make the file public, or use a signed URL that is valid for long enough.",
    ),
    service_errors.UrlStatus: Answer(
        422,
        "Open the URL in a browser without cookies: the origin does not have the file there.",
    ),
    errors.BackgroundInvalid: Answer(
        422,
        "Send the URL of a jpg, png, webp, gif, mp4, mov, webm or avi that a job would take as its "
        "clip, too; `details` says what is wrong with this one.",
        param="background_url",
    ),
    errors.NotAVideo: Answer(
        422,
        "Use the address of the file itself, not of the page that shows it.",
        param="video",
    ),
    errors.FileTooLarge: Answer(
        413,
        "Send a smaller file: a lower bitrate hardly changes the mask.",
        param="video",
    ),
    errors.ResolutionTooLarge: Answer(
        413,
        "Scale the clip down; neither side may be over the limit.",
        param="video",
    ),
    errors.PresetUnsuitable: Answer(
        422,
        "Use one of the presets that `details` names.",
        param="output_container_and_codec",
    ),
    errors.DurationTooLong: Answer(
        400,
        "Cut the clip; `foremask mask` on the command line has no limit.",
        param="video",
    ),
    errors.TooManyFrames: Answer(
        400,
        "Lower the frame rate: `ffmpeg -i clip.mp4 -r 60 new.mp4`; the operator sets the "
        "limit with `FOREMASK_MAX_FRAMES`.",
        param="video",
    ),
    errors.EmptyFile: Answer(
        422,
        "Check the upload that made the file: it has no bytes.",
        param="video",
    ),
    errors.NoFrames: Answer(
        422,
        "Check the export that made the file: its video track is empty.",
        param="video",
    ),
    errors.ContainerUnsupported: Answer(
        415,
        "Send mp4, mov, webm, avi or gif. To change the box without touching the picture: "
        "`ffmpeg -i clip.mkv -c copy clip.mp4`.",
        param="video",
    ),
    errors.CodecUnsupported: Answer(
        415,
        f"Send H.264, HEVC, VP9, AV1, Photo-JPEG or gif: `ffmpeg -i clip.mov {X264_OPTIONS} "
        "clip.mp4`.",
        param="video",
    ),
    errors.NoVideoStream: Answer(
        422,
        "The file has sound, or a cover picture, and no video.",
        param="video",
    ),
    errors.CorruptVideo: Answer(
        422,
        "Play the file to its end elsewhere; where it breaks, `details` says. `ffmpeg -i "
        "clip.mp4 -c copy new.mp4` mends many.",
        param="video",
    ),
    errors.EncryptedVideo: Answer(
        422,
        "Send a copy without protection.",
        param="video",
    ),
    service_errors.RateLimited: Answer(
        429,
        "Wait for `Retry-After` seconds; the `RateLimit-` headers say how much is left.",
    ),
    service_errors.TooManyJobs: Answer(
        429,
        "Wait until one of your jobs has ended, or cancel one.",
    ),
    service_errors.QueueFull: Answer(
        429,
        "Wait for `Retry-After` seconds; the operator may add workers.",
    ),
    service_errors.StorageQuota: Answer(
        429,
        "Wait until jobs with large clips have ended and old uploads and results have "
        "expired; the operator sets the quota with `FOREMASK_STORAGE_PER_TOKEN`.",
    ),
    service_errors.Overloaded: Answer(
        503,
        "Wait for `Retry-After` seconds and send the same request again.",
    ),
    service_errors.StorageFull: Answer(
        503,
        "Wait for `Retry-After` seconds; the operator makes room, or adds disk space.",
    ),
    service_errors.JobCancelled: Answer(
        410,
        "Nothing: somebody with your token asked for it.",
    ),
    service_errors.ResultExpired: Answer(
        410,
        "Submit the clip again, or let the operator keep results for longer "
        "(`FOREMASK_RESULT_TTL`).",
    ),
    service_errors.TimedOut: Answer(
        500,
        "Try once more; if it happens again, send a shorter or smaller clip, or `fast`.",
    ),
    service_errors.WorkerCrashed: Answer(
        500,
        "Tell the operator the `request_id`: this clip ends the process that works on it.",
    ),
    service_errors.ObjectLost: Answer(
        500,
        "Submit the job again; the operator should look after the object store.",
    ),
    service_errors.ServiceUnavailable: Answer(
        503,
        "Try again in a moment: the database or the object store does not answer.",
    ),
    errors.Internal: Answer(
        500,
        "Tell the operator the `request_id`; the log has the rest.",
    ),
    errors.ModelUnavailable: Answer(
        503,
        "Do what `details` says; [models.md](models.md) has the whole story, and the way for "
        "machines without a network.",
    ),
    errors.DeviceUnavailable: Answer(
        503,
        "`details` names the devices that are here; [deployment.md](deployment.md#gpus) has what "
        "a GPU needs.",
    ),
    errors.OutputFailed: Answer(
        500,
        "Free space, choose a directory that may be written to or a name that is not taken, "
        "or say --force.",
    ),
    errors.SettingsInvalid: Answer(
        500,
        "[settings.md](settings.md) lists all names and their values.",
    ),
    errors.PromiseBroken: Answer(
        422,
        "Keep both files and [report it](../CONTRIBUTING.md): this must not happen with a "
        "mask that foremask made.",
    ),
}


def status_of(kind: type[ForemaskError]) -> int:
    """The HTTP status of an error; 500 for a class without a row."""
    answer = ERROR_TABLE.get(kind)
    return answer.status if answer else HTTPStatus.INTERNAL_SERVER_ERROR


def param_of(error: ForemaskError) -> str | None:
    """The field at fault, if one is: the error's own, or else that of its class."""
    answer = ERROR_TABLE.get(type(error))
    return error.param or (answer.param if answer else None)


def error_facts(error: ForemaskError) -> dict[str, object]:
    """An error as the wire contract has it, and as the columns of a job keep it."""
    status = status_of(type(error))
    facts: dict[str, object] = {
        "code": status,
        "reason": error.reason,
        "message": HTTPStatus(status).phrase,
        "details": error.details,
    }
    extras = {
        "param": param_of(error),
        "limit": error.limit,
        "actual": error.actual,
    }
    return facts | {name: value for name, value in extras.items() if value is not None}
