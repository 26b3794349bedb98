"""Every error of foremask: what happened, what it means to callers, and what to do about it.

One class is one row of docs/errors.md, and their order is its own. What a name, a status and a
remedy are is said at `ForemaskError`. The command line has three more in cli/exits.py.
"""

from http import HTTPStatus
from typing import ClassVar, Final

X264_OPTIONS: Final = "-c:v libx264 -crf 16"
"""How ffmpeg encodes a clip anew without visible loss: in every hint, the playground's too."""

_BY_REASON: dict[str, type["ForemaskError"]] = {}


class ForemaskError(Exception):
    """Anything that foremask refuses or fails at.

    ``details`` is a sentence with the numbers, ``param`` names what is at fault, where it has a
    name; ``limit`` and ``actual`` are the two numbers that clash.

    Of a class, ``reason`` is one stable word for programs; one that sets it is registered
    (`by_reason`), and a second one with the same reason is a TypeError. ``status`` is what the API
    answers, ``usual_param`` the field at fault where the error names none, ``remedy`` a sentence or
    two of Markdown for its callers, and ``cli_remedy`` one for people at a terminal.
    """

    reason: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    usual_param: ClassVar[str | None] = None
    remedy: ClassVar[str] = ""
    cli_remedy: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        if "reason" in vars(cls):
            known = _BY_REASON.setdefault(cls.reason, cls)
            if known is not cls:
                raise TypeError(
                    f"{cls.__name__} and {known.__name__} have one reason: {cls.reason}"
                )

    def __init__(
        self,
        details: str,
        *,
        param: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.param = param
        self.limit = limit
        self.actual = actual

    def facts(self) -> dict[str, object]:
        """The error as the wire contract has it, and as the columns of a job keep it."""
        extras = {
            "param": self.param or self.usual_param,
            "limit": self.limit,
            "actual": self.actual,
        }
        return {
            "code": self.status,
            "reason": self.reason,
            "message": HTTPStatus(self.status).phrase,
            "details": self.details,
        } | {name: value for name, value in extras.items() if value is not None}


def by_reason(reason: str) -> type[ForemaskError] | None:
    """The class with this reason, among those whose modules are loaded."""
    return _BY_REASON.get(reason)


def all_reasons() -> dict[str, type[ForemaskError]]:
    """Every class that has a reason, by it, among those whose modules are loaded."""
    return dict(_BY_REASON)


class ClipRefused(ForemaskError):
    """The clip is not one that can be masked."""

    usual_param = "video"


class Failed(ForemaskError):
    """Our fault, not the caller's."""

    cli_remedy = "`foremask doctor` shows what is wrong."


class Denied(ForemaskError):
    """The token is refused."""

    cli_remedy = "`foremask token list` shows the tokens."


class BadRequest(ForemaskError):
    """The request itself is wrong."""

    cli_remedy = "`foremask COMMAND --help` has the usage."


class UrlRefused(ForemaskError):
    """An address that the caller chose cannot be used."""

    cli_remedy = "Check the URL, or download the clip and name the file."


class Busy(ForemaskError):
    """Try again after ``retry_after_s`` seconds; all is free again after ``reset_s``."""

    cli_remedy = "Wait, and run it again."
    retry_after_s: float = 1.0
    reset_s: float = 1.0


class Ended(ForemaskError):
    """The job ended on request."""

    cli_remedy = "Submit the clip again."


# The table, in the order of docs/errors.md


class TokenMissing(Denied):
    """The request carries no token."""

    reason, status = "token_missing", 403
    usual_param = "api_token"
    remedy = (
        "Send the header `api_token: YOUR_TOKEN`. Behind nginx or gunicorn, which drop headers "
        "with an underscore, send `Authorization: Bearer YOUR_TOKEN` or `x-api-key: YOUR_TOKEN`."
    )


class TokenInvalid(Denied):
    """The token is unknown, revoked or expired."""

    reason, status = "token_invalid", 403
    usual_param = "api_token"
    remedy = "`foremask token list` shows which are good, `foremask token create` makes one."


class QuotaExhausted(Denied):
    """The token has used up its quota."""

    reason, status = "quota_exhausted", 403
    remedy = "Ask the operator for a token with a larger `--quota`."


class LinkInvalid(Denied):
    """A signed link to a file, or a form for an upload, is not ours or has expired."""

    reason, status = "link_invalid", 403
    remedy = "Read the job's status again: it has a fresh link."


class PathUnknown(BadRequest):
    """No such path."""

    reason, status = "path_unknown", 404
    remedy = "Check the path and the version in it: `POST /v2/video/segment/foreground_mask`."


class RequestUnknown(BadRequest):
    """No such job for this token, or its record has expired."""

    reason, status = "request_unknown", 404
    remedy = "Use the token that submitted the job; records go a week after their results."


class MethodNotAllowed(BadRequest):
    """The path exists, but not for this method."""

    allow: str = "GET, HEAD, POST, DELETE, OPTIONS"  # the header of the answer

    reason, status = "method_not_allowed", 405
    remedy = "The `Allow` header of the answer names the methods."


class BodyTooLarge(BadRequest):
    """The request body is over its limit."""

    reason, status = "body_too_large", 413
    remedy = "Send the video's URL, not the video; files go through `POST /v2/video/upload`."


class ContentTypeWrong(BadRequest):
    """The body is not declared as what the path takes."""

    reason, status = "content_type", 415
    remedy = "Send `Content-Type: application/json`."


class BadJson(BadRequest):
    """The body is empty, or not one JSON object with distinct keys in UTF-8."""

    reason, status = "bad_json", 400
    remedy = "Send one JSON object in UTF-8, each key once."


class VideoMissing(BadRequest):
    """The field ``video`` is missing or null."""

    reason, status = "video_missing", 422
    remedy = "Add the field `video` with the clip's URL."


class VideoInvalid(BadRequest):
    """The field ``video`` is not a URL of at most 8 KiB."""

    reason, status = "video_invalid", 422
    remedy = "Give `video` one absolute URL, percent-encoded, of at most 8 KiB."


class PresetUnknown(BadRequest):
    """``output_container_and_codec`` is none of the nine names."""

    reason, status = "preset_unknown", 422
    remedy = "Use one of the nine names; leave the field out for `mp4_h264`."


class FieldInvalid(ForemaskError, ValueError):
    """Another field, or an argument, has a value that it cannot have."""

    reason, status = "field_invalid", 422
    remedy = "`param` names the field, `details` what it may be."
    cli_remedy = "`foremask COMMAND --help` has the usage."


class FormInvalid(BadRequest):
    """An upload's multipart form cannot be read, or has no file after its fields."""

    reason, status = "bad_form", 400
    remedy = "Send multipart/form-data: all fields first (the `upload_fields`), the file last."


class RangeInvalid(BadRequest):
    """The bytes asked for are behind the end of the file."""

    reason, status = "range_invalid", 416
    remedy = "Ask for bytes inside the file: `Content-Range` in the answer has its size."


class WebhookInvalid(BadRequest):
    """``webhook_url`` is no public http(s) URL."""

    reason, status = "webhook_invalid", 422
    remedy = "Use a public http(s) URL, or let the operator set `FOREMASK_ALLOW_PRIVATE`."


class IdempotencyMismatch(BadRequest):
    """The Idempotency-Key was used before with another body."""

    reason, status = "idempotency_mismatch", 422
    usual_param = "Idempotency-Key"
    remedy = "Use a new `Idempotency-Key` for a new body; the old key keeps its answer."


class PreconditionFailed(BadRequest):
    """``If-Match`` or ``If-Unmodified-Since`` names another version of the file."""

    reason, status = "precondition_failed", 412
    remedy = "Leave the condition out, or ask for the file's present `ETag` first."


class HttpInvalid(BadRequest):
    """The bytes on the connection are not an HTTP/1.1 request."""

    reason, status = "bad_http", 400
    remedy = "`details` says what cannot be read; the connection is closed after the answer."


class TargetTooLong(BadRequest):
    """The request line is over its limit."""

    reason, status = "target_too_long", 414
    remedy = "Shorten path and query; a clip's URL belongs into the JSON body."


class HeadersTooLarge(BadRequest):
    """The request's headers are over their limit."""

    reason, status = "headers_too_large", 431
    remedy = "Send fewer headers: cookies of other sites on the same host are the usual reason."


class RequestTooSlow(BadRequest):
    """The request did not arrive in the time that it may take."""

    reason, status = "request_too_slow", 408
    remedy = "Send the whole request without long pauses; a slow network can upload in a form."


class UrlScheme(UrlRefused):
    """The URL is neither http nor https."""

    reason, status = "url_scheme", 422
    remedy = "Use an http or https URL."


class UrlNotAllowed(UrlRefused):
    """The URL carries user info, or a port that is not allowed."""

    reason, status = "url_not_allowed", 422
    remedy = "Use port 80 or 443, and a signed URL instead of a user name and a password."


class UrlPrivate(UrlRefused):
    """The host resolves to an address that is not public."""

    reason, status = "url_private", 422
    remedy = "Upload the clip, or let the operator open your network: `FOREMASK_ALLOW_PRIVATE`."


class UrlUnreachable(UrlRefused):
    """No answer: DNS, refused, TLS, timeout, or too many redirects."""

    reason, status = "url_unreachable", 422
    remedy = "Open the URL from another network; `details` says what failed."


class UrlTooSlow(UrlRefused):
    """The origin sends fewer bytes a second than the least speed."""

    reason, status = "url_too_slow", 422
    remedy = "Serve the clip from a faster host, or upload it with `POST /v2/video/upload`."


class UrlForbidden(UrlRefused):
    """The origin answered 401 or 403."""

    reason, status = "url_forbidden", 422
    remedy = "Make the file public, or use a signed URL that is valid for long enough."


class UrlStatus(UrlRefused):
    """The origin answered another 4xx or 5xx."""

    reason, status = "url_status", 422
    remedy = "Open the URL in a browser without cookies: the origin does not have the file there."


class BackgroundInvalid(ForemaskError):
    """The background is neither a picture nor a video that is supported."""

    reason, status = "background_invalid", 422
    usual_param = "background_url"
    remedy = "Send a jpg, png, webp, gif, mp4, mov, webm or avi; `details` says what is wrong."
    cli_remedy = "Name a picture or a video that can be opened elsewhere, too."

    @classmethod
    def of(cls, error: ForemaskError) -> "BackgroundInvalid":
        """The clip's error, reworded for the background."""
        return cls(
            f"The background cannot be used: {error.details}"
            " Send jpg, png, webp, gif, mp4, mov, webm or avi.",
            param="background_url",
            limit=error.limit,
            actual=error.actual,
        )


class NotAVideo(ClipRefused):
    """A page or other text instead of a video."""

    reason, status = "not_a_video", 422
    remedy = "Use the address of the file itself, not of the page that shows it."
    cli_remedy = "Name the video file itself, not a page that shows it."


class FileTooLarge(ClipRefused):
    """More bytes than the limit, declared or counted."""

    reason, status = "file_too_large", 413
    remedy = "Send a smaller file: a lower bitrate hardly changes the mask."
    cli_remedy = "Download the clip and name the file: files have no limit."


class ResolutionTooLarge(ClipRefused):
    """A side is longer than the limit."""

    reason, status = "resolution_too_large", 413
    remedy = "Scale the clip down; neither side may be over the limit."
    cli_remedy = "Scale it down: ffmpeg -i clip.mp4 -vf scale=3840:-2 small.mp4"


class PresetUnsuitable(ClipRefused):
    """The preset cannot carry this clip; ``details`` names those that can."""

    reason, status = "preset_cannot", 422
    usual_param = "output_container_and_codec"
    remedy = "Use one of the presets that `details` names."
    cli_remedy = "Choose another with --preset."


class DurationTooLong(ClipRefused):
    """The clip is longer than the limit."""

    reason, status = "duration_too_long", 400
    remedy = "Cut the clip; `foremask mask` on the command line has no limit."
    cli_remedy = "Cut it: ffmpeg -i clip.mp4 -t 60 -c copy short.mp4"


class TooManyFrames(ClipRefused):
    """The clip has more frames than the limit."""

    reason, status = "too_many_frames", 400
    remedy = (
        "Lower the frame rate: `ffmpeg -i clip.mp4 -r 60 new.mp4`; the operator sets the limit "
        "with `FOREMASK_MAX_FRAMES`."
    )
    cli_remedy = "Lower the frame rate: ffmpeg -i clip.mp4 -r 60 new.mp4"


class EmptyFile(ClipRefused):
    """The file has no bytes."""

    reason, status = "empty_file", 422
    remedy = "Check the upload that made the file: it has no bytes."
    cli_remedy = "Check the export or the download that made the file."


class NoFrames(ClipRefused):
    """The video track has no frame."""

    reason, status = "no_frames", 422
    remedy = "Check the export that made the file: its video track is empty."
    cli_remedy = "Begin sooner, or check the export that made the file."


class ContainerUnsupported(ClipRefused):
    """The container, recognised by content, is not supported."""

    reason, status = "container_unsupported", 415
    remedy = "Send mp4, mov, webm, avi or gif: `ffmpeg -i clip.mkv -c copy clip.mp4`."
    cli_remedy = "Change the container: ffmpeg -i clip.mkv -c copy clip.mp4"


class CodecUnsupported(ClipRefused):
    """The video codec is not supported."""

    reason, status = "codec_unsupported", 415
    remedy = (
        f"Send H.264, HEVC, VP9, AV1, Photo-JPEG or gif: `ffmpeg -i clip.mov {X264_OPTIONS} "
        "clip.mp4`."
    )
    cli_remedy = f"Encode it anew: ffmpeg -i clip.mov {X264_OPTIONS} clip.mp4"


class NoVideoStream(ClipRefused):
    """Only sound, or cover art."""

    reason, status = "no_video_stream", 422
    remedy = "The file has sound, or a cover picture, and no video."
    cli_remedy = "Name a file that has a video track."


class CorruptVideo(ClipRefused):
    """The file cannot be read, from the start or from a named frame on."""

    reason, status = "corrupt", 422
    remedy = "`ffmpeg -i clip.mp4 -c copy new.mp4` mends many; `details` says where it breaks."
    cli_remedy = "Many are mended by: ffmpeg -i clip.mp4 -c copy new.mp4"


class EncryptedVideo(ClipRefused):
    """The video is protected by DRM."""

    reason, status = "encrypted", 422
    remedy = "Send a copy without protection."
    cli_remedy = "Use a copy without DRM."


class RateLimited(Busy):
    """The token's request rate is used up for now."""

    reason, status = "rate_limited", 429
    remedy = "Wait for `Retry-After` seconds; the `RateLimit-` headers say how much is left."


class TooManyJobs(Busy):
    """The token has as many unfinished jobs as it may."""

    reason, status = "too_many_jobs", 429
    retry_after_s = 10.0
    remedy = "Wait until one of your jobs has ended, or cancel one."


class QueueFull(Busy):
    """The service has as many waiting jobs as it takes."""

    reason, status = "queue_full", 429
    retry_after_s = 10.0
    remedy = "Wait for `Retry-After` seconds; the operator may add workers."


class StorageQuota(Busy):
    """The token's files take as many bytes as it may store."""

    reason, status = "storage_quota", 429
    retry_after_s = 60.0
    remedy = "Wait until jobs have ended; the operator sets `FOREMASK_STORAGE_PER_TOKEN`."


class Overloaded(Busy):
    """Every place for this work is taken; the request itself is not at fault."""

    reason, status = "overloaded", 503
    remedy = "Wait for `Retry-After` seconds and send the same request again."


class StorageFull(Busy):
    """The disk has no more free space than the service keeps in reserve."""

    reason, status = "storage_full", 503
    retry_after_s = 60.0
    remedy = "Wait for `Retry-After` seconds; the operator makes room, or adds disk space."


class JobCancelled(Ended):
    """The caller cancelled the job."""

    reason, status = "cancelled", 410
    remedy = "Nothing: somebody with your token asked for it."


class ResultExpired(Ended):
    """The mask was made, and has been deleted at the end of its time."""

    reason, status = "result_expired", 410
    remedy = "Submit the clip again, or let the operator raise `FOREMASK_RESULT_TTL`."


class TimedOut(Failed):
    """The job ran over its wall clock."""

    reason, status = "timed_out", 500
    remedy = "Try once more; if it happens again, send a shorter or smaller clip, or `fast`."


class WorkerCrashed(Failed):
    """The process that worked on the job died too often."""

    reason, status = "worker_crashed", 500
    remedy = "Tell the operator the `request_id`: this clip ends the process that works on it."


class ObjectLost(Failed):
    """A stored file is no longer there."""

    reason, status = "object_lost", 500
    remedy = "Submit the job again; the operator should look after the object store."


class ServiceUnavailable(Failed):
    """The database or the object store does not answer."""

    reason, status = "unavailable", 503
    remedy = "Try again in a moment: the database or the object store does not answer."


class Internal(Failed):
    """Anything unforeseen."""

    reason, status = "internal", 500
    remedy = "Tell the operator the `request_id`; the log has the rest."
    cli_remedy = "--debug shows where; please report it."


class ModelUnavailable(ForemaskError):
    """The weights cannot be had; ``details`` has the remedy."""

    reason, status = "model_unavailable", 503
    remedy = "Do what `details` says; [models.md](models.md) has every way to the weights."
    cli_remedy = "docs/models.md has the ways to get the weights."


class DeviceUnavailable(ForemaskError):
    """The network was to run on a device that is not here; ``details`` names those that are."""

    reason, status = "device_unavailable", 503
    remedy = "Use one that `details` names; [deployment.md](deployment.md#gpus) has the rest."
    cli_remedy = "`foremask doctor` lists the devices."


class OutputFailed(ForemaskError):
    """The mask cannot be written: a full disk, a closed directory, a file that is there already."""

    reason, status = "output_failed", 500
    remedy = "Free space, choose another directory or name, or say --force."
    cli_remedy = "Choose another OUTPUT, or make room for it."


class OutputExists(OutputFailed):
    """There is a file already, and it was not asked to be replaced."""

    cli_remedy = "Choose another OUTPUT; --force replaces the file."


class SettingsInvalid(ForemaskError):
    """A setting is unknown, or has a value that it cannot have."""

    reason, status = "settings_invalid", 500
    remedy = "[settings.md](settings.md) lists all names and their values."
    cli_remedy = "docs/settings.md lists all settings."


class PromiseBroken(ForemaskError):
    """A mask does not keep a promise to its source; ``param`` names the promise."""

    reason, status = "promise_broken", 422
    remedy = "Keep both files and [report it](../CONTRIBUTING.md), if foremask made the mask."
    cli_remedy = "Make the mask anew; one of a part (--start, --end) is no whole mask."


ERROR_TABLE: Final = tuple(_BY_REASON.values())
"""Those that the API answers with, in the order above."""
