"""The errors that users get. docs/errors.md lists them in the order of this module."""

import math
import re
from http import HTTPStatus
from typing import ClassVar, Final

BY_REASON: Final[dict[str, type["ForemaskError"]]] = {}  # the CLI adds its own classes


class ForemaskError(Exception):
    """The base class of all errors.

    ``details`` says what happened, with numbers. ``param`` names the invalid field or argument.
    ``limit`` is the bound that the value ``actual`` violates.

    ``reason`` is a stable error code; the default is the class's name in snake case, or the base
    class's code if the class has no ``remedy`` of its own. ``status`` is the HTTP status.
    ``usual_param`` is the default of ``param``. ``means`` and ``remedy`` are Markdown for the
    documentation. The CLI prints ``cli_remedy`` or, if it is empty, ``remedy``.
    """

    reason: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    usual_param: ClassVar[str | None] = None
    means: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    cli_remedy: ClassVar[str] = ""

    def __init_subclass__(
        cls, reason: str | None = None, status: int | None = None, param: str | None = None
    ) -> None:
        cls.status = status or cls.status
        cls.usual_param = param or cls.usual_param
        if "means" in vars(cls):
            cls.__doc__ = cls.means
        if reason or "remedy" in vars(cls):
            cls.reason = reason or re.sub(r"\B[A-Z]", r"_\g<0>", cls.__name__).lower()
            cls.cli_remedy = cls.cli_remedy or cls.remedy
            if taken := BY_REASON.get(cls.reason):
                raise TypeError(f"{taken.__name__} has the reason {cls.reason} already")
            BY_REASON[cls.reason] = cls

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


class ClipRefused(ForemaskError, status=422, param="video"):
    means = "The clip cannot be masked."


class Failed(ForemaskError):
    means = "The service or the machine is at fault, not the caller."
    cli_remedy = "`foremask doctor` shows what is wrong."


class Denied(ForemaskError, status=403):
    means = "The token is refused."
    cli_remedy = "`foremask token list` shows the tokens."


class BadRequest(ForemaskError, status=422):
    means = "The request itself is wrong."
    cli_remedy = "`foremask COMMAND --help` has the usage."


class UrlRefused(ForemaskError, status=422):
    means = "A URL in the request cannot be used."
    cli_remedy = "Check the URL, or download the clip and name the file."


class Busy(ForemaskError, status=429):
    means = "A retry may succeed after `retry_after_s` seconds."
    cli_remedy = "Wait, and run it again."
    retry_after_s: float = 1.0
    reset_s: float = 1.0  # time until the rate limit allows a full burst again


class Ended(ForemaskError, status=410):
    means = "The job was cancelled, or its result is deleted."
    cli_remedy = "Submit the clip again."


# The errors of docs/errors.md, in order


class TokenMissing(Denied, param="api_token"):
    means = "The request carries no token."
    remedy = (
        "Send the header `api_token: YOUR_TOKEN`. Behind nginx or gunicorn, which drop headers "
        "with an underscore, send `Authorization: Bearer YOUR_TOKEN` or `x-api-key: YOUR_TOKEN`."
    )


class TokenInvalid(Denied, param="api_token"):
    means = "The token is unknown, revoked or expired."
    remedy = "`foremask token list` says which are valid; `foremask token create` makes one."


class QuotaExhausted(Denied):
    means = "The token has used up its quota."
    remedy = "Ask the operator for a token with a larger `--quota`."


class LinkInvalid(Denied):
    means = "A signed download link or an upload form is invalid or has expired."
    remedy = "Get a new link from the job's status, or a new form from `POST /v2/video/upload`."


class PathUnknown(BadRequest, status=404):
    means = "No such path."
    remedy = "Check the path and the version in it: `POST /v2/video/segment/foreground_mask`."


class RequestUnknown(BadRequest, status=404):
    means = "No such job for this token, or its record has expired."
    remedy = "Use the token that submitted the job. Records are deleted a week after their results."


class RequestRefused(BadRequest, status=410):
    means = "The request of this id was refused, so no job has it."
    remedy = "Correct what `details` names, and send that request again."


class MethodNotAllowed(BadRequest, status=405):
    means = "The path does not take this method."
    allow: str = "GET, HEAD, POST, DELETE, OPTIONS"  # the value of the Allow header
    remedy = "The `Allow` header of the answer names the methods."


class BodyTooLarge(BadRequest, status=413):
    means = "The request body is over its limit."
    remedy = "Send the video's URL, or upload the video with `POST /v2/video/upload`."


class ContentTypeWrong(BadRequest, reason="content_type", status=415):
    means = "The path does not take this `Content-Type`."
    remedy = "Send `Content-Type: application/json`."


class BadJson(BadRequest, status=400):
    means = "The body is empty, or not one JSON object with distinct keys in UTF-8."
    remedy = "Send one JSON object in UTF-8, each key once."


class VideoMissing(BadRequest):
    means = "The field `video` is missing or null."
    remedy = "Add the field `video` with the clip's URL."


class VideoInvalid(BadRequest):
    means = "The field `video` is not a URL of at most 8 KiB."
    remedy = "Give `video` one absolute URL, percent-encoded, of at most 8 KiB."


class PresetUnknown(BadRequest):
    means = "`output_container_and_codec` does not name a preset."
    remedy = "Use one of the names in `details`, or leave the field out."


class FieldInvalid(BadRequest, ValueError):
    means = "Another field, or an argument, has an invalid value."
    remedy = "`param` names the field; `details` says which values are valid."

    @classmethod
    def out_of_range(cls, param: str, value: float, low: float, high: float) -> "FieldInvalid":
        return cls(
            f"{param} is {value:g}; it may be from {low:g} to {high:g}.",
            param=param,
            limit=high if value > high else low,
            actual=value if math.isfinite(value) else None,
        )


class FormInvalid(BadRequest, reason="bad_form", status=400):
    means = "An upload's multipart form cannot be read, or has no file after its fields."
    remedy = "Send multipart/form-data: all fields first (the `upload_fields`), the file last."


class RangeInvalid(BadRequest, status=416):
    means = "The requested bytes are past the end of the file."
    remedy = "Ask for bytes inside the file; the answer's `Content-Range` has the file's size."


class WebhookInvalid(BadRequest):
    means = "`webhook_url` is no public http(s) URL."
    remedy = "Use a public http(s) URL, or let the operator set `FOREMASK_ALLOW_PRIVATE`."


class IdempotencyMismatch(BadRequest, param="Idempotency-Key"):
    means = "The Idempotency-Key was used before with another body."
    remedy = "Use a new `Idempotency-Key` for each new body."


class HttpInvalid(BadRequest, reason="bad_http", status=400):
    means = "The bytes on the connection are not an HTTP/1.1 request."
    remedy = "`details` says what cannot be read; the connection is closed after the answer."


class TargetTooLong(BadRequest, status=414):
    means = "The request line is over its limit."
    remedy = "Shorten the path and the query; send a clip's URL in the JSON body."


class HeadersTooLarge(BadRequest, status=431):
    means = "The request's headers are over their limit."
    remedy = "Send fewer headers: cookies of other sites on the same host are the usual reason."


class RequestTooSlow(BadRequest, status=408):
    means = "The request did not arrive within its time limit."
    remedy = "Send the whole request without long pauses."


class MessageInvalid(BadRequest):
    means = "A message of a live stream is neither a frame nor a command, or its JPEG is broken."
    remedy = "Send each frame as 24 bytes of header and a JPEG: docs/live.md has their layout."


class FrameTooLarge(BadRequest, status=413):
    means = "A frame of a live stream has more pixels or bytes than the limit."
    remedy = "Scale the frames down before they are sent; 854x480 is enough for a camera."


class StreamIdle(BadRequest, status=408):
    means = "A live stream sent no frame, or took no mask, for too long."
    remedy = "Open a new stream, and keep sending frames and reading masks."


class StreamExpired(BadRequest, status=403):
    means = "A live stream ran for as long as the service allows."
    remedy = "Open a new stream; the operator sets `FOREMASK_STREAM_TIME`."


class UrlScheme(UrlRefused):
    means = "The URL is neither http nor https."
    remedy = "Use an http or https URL."


class UrlNotAllowed(UrlRefused):
    means = "The URL carries user info, or a port that is not allowed."
    remedy = "Use port 80 or 443, and a signed URL instead of a user name and a password."


class UrlPrivate(UrlRefused):
    means = "The host resolves to an address that is not public."
    remedy = "Upload the clip, or let the operator allow your network in `FOREMASK_ALLOW_PRIVATE`."


class UrlUnreachable(UrlRefused):
    means = "The origin does not answer (DNS, refused, TLS, timeout), or redirects too often."
    remedy = "Open the URL from another network; `details` says what failed."


class UrlTooSlow(UrlRefused):
    means = "The origin sends fewer bytes per second than the minimum."
    remedy = "Serve the clip from a faster host, or upload it with `POST /v2/video/upload`."


class UrlForbidden(UrlRefused):
    means = "The origin answered 401 or 403."
    remedy = "Make the file public, or use a signed URL that is valid for long enough."


class UrlStatus(UrlRefused):
    means = "The origin answered with another 4xx status, or with 5xx."
    remedy = "Open the URL in a private browser window: the origin does not serve the file there."


class BackgroundInvalid(ForemaskError, status=422, param="background_url"):
    means = "The background is neither a picture nor a video that is supported."
    remedy = "Send a jpg, png, webp, gif, mp4, mov, webm or avi; `details` says what is wrong."
    cli_remedy = "Name a picture or a video that other programs can open."

    @classmethod
    def of(cls, error: ForemaskError) -> "BackgroundInvalid":
        return cls(
            f"The background cannot be used: {error.details}"
            " Send jpg, png, webp, gif, mp4, mov, webm or avi.",
            param="background_url",
            limit=error.limit,
            actual=error.actual,
        )


class NotAVideo(ClipRefused):
    means = "The file is a web page or other text, or the host sends it compressed."
    remedy = "Name the video file itself, not a page that shows it."


class FileTooLarge(ClipRefused, status=413):
    means = "The file has more bytes than the limit."
    remedy = "Encode the clip at a lower bitrate. The command line has no limit."


class ResolutionTooLarge(ClipRefused, status=413):
    means = "A side of the picture is longer than the limit, or all frames have too many pixels."
    remedy = (
        "Scale it down: `ffmpeg -i clip.mp4 -vf "
        "scale=3840:3840:force_original_aspect_ratio=decrease:force_divisible_by=2 small.mp4`"
    )


class PresetUnsuitable(ClipRefused, reason="preset_cannot", param="output_container_and_codec"):
    means = "The preset cannot be used for this clip; `details` names the presets that can."
    remedy = "Use one of the presets that `details` names."
    cli_remedy = "Choose another with --preset."


class DurationTooLong(ClipRefused, status=400):
    means = "The clip is longer than the limit."
    remedy = "Mask a part of it: `start_s` and `end_s`, as `foremask submit --start --end`."
    cli_remedy = "`foremask submit --start --end` does."


class TooManyFrames(ClipRefused, status=400):
    means = "The clip has more frames than the limit."
    remedy = (
        "Mask a part of it by `start_s` and `end_s`, or lower the frame rate:"
        " `ffmpeg -i clip.mp4 -r 60 new.mp4`"
    )


class EmptyFile(ClipRefused):
    means = "The file has no bytes."
    remedy = "Check the export, upload or download that made the file."


class NoFrames(ClipRefused):
    means = "The video track has no frame, or none in the part that was asked for."
    remedy = "Check the export that made the file, or choose an earlier start."


class ContainerUnsupported(ClipRefused, status=415):
    means = "The container, recognised by content, is not supported."
    remedy = "Change it to mp4, mov, webm or avi: `ffmpeg -i clip.mkv -c copy clip.mp4`"


class StreamUnsupported(ContainerUnsupported):
    means = "A pipe or a camera gives no video that can be read as a stream."
    cli_remedy = (
        "A pipe is read from its start, and the index of an mp4 may be at the file's end:"
        " `ffmpeg -i clip.mp4 -c copy -f nut - | foremask live -`"
    )


class CodecUnsupported(ClipRefused, status=415):
    means = "The video codec is not supported."
    remedy = "Encode it anew: `ffmpeg -i clip.mov -c:v libx264 -crf 16 clip.mp4`"


class NoVideoStream(ClipRefused):
    means = "The file has only sound, or cover art."
    remedy = "Name a file that has a video track."


class CorruptVideo(ClipRefused, reason="corrupt"):
    means = "The file cannot be read, from the start or from a named frame on."
    remedy = (
        "If it plays elsewhere, this mends many files: `ffmpeg -i clip.mp4 -c copy new.mp4`."
        " An mp4 or mov without a moov box plays nowhere, and FFmpeg cannot mend it: copy, download"
        " or export it once more. A camera may finish it when its card is put back."
    )
    cli_remedy = (
        "If it plays elsewhere, this mends many files: `ffmpeg -i clip.mp4 -c copy new.mp4`"
    )


class IndexMissing(CorruptVideo):
    means = "An mp4 or mov has no moov box, the index, which is written last."
    cli_remedy = (
        "Copy, download or export it once more: ffmpeg cannot mend it. If a camera stopped while it"
        " wrote it, put the card back, and the camera may finish it; or"
        " `untrunc WHOLE.mp4 CUT.mp4` may, with a whole file of the same camera."
    )


class EncryptedVideo(ClipRefused, reason="encrypted"):
    means = "The video is protected by DRM."
    remedy = "Use a copy without DRM."


class RateLimited(Busy):
    means = "The token has sent more requests than its rate allows."
    remedy = "Wait for `Retry-After` seconds; `RateLimit-Remaining` counts the requests left."


class TooManyJobs(Busy):
    means = "The token has as many unfinished jobs as it may have."
    retry_after_s = 10.0
    remedy = "Wait until one of your jobs has ended, or cancel one."


class QueueFull(Busy):
    means = "The service has as many unfinished jobs as it takes."
    retry_after_s = 10.0
    remedy = "Wait for `Retry-After` seconds; the operator may add workers."


class StorageQuota(Busy):
    means = "The token's files would take more bytes than it may store."
    retry_after_s = 60.0
    remedy = "Wait until jobs have ended; the operator sets `FOREMASK_STORAGE_PER_TOKEN`."


class Overloaded(Busy, status=503):
    means = "The service handles as many such requests as it can; the request is not at fault."
    remedy = "Wait for `Retry-After` seconds and send the same request again."


class StorageFull(Busy, status=503):
    means = "The disk has no more free space than the service keeps in reserve."
    retry_after_s = 60.0
    remedy = "Wait for `Retry-After` seconds; the operator makes room, or adds disk space."


class JobCancelled(Ended, reason="cancelled"):
    means = "The caller cancelled the job."
    remedy = "Nothing to do: a caller with your token cancelled the job."


class ResultExpired(Ended):
    means = "The mask was made, and has been deleted at the end of its retention time."
    remedy = "Submit the clip again, or let the operator raise `FOREMASK_RESULT_TTL`."


class TimedOut(Failed):
    means = "The job ran longer than its time limit."
    remedy = "Try once more; if it fails again, send a shorter or smaller clip, or quality `fast`."


class WorkerCrashed(Failed):
    means = "The process that worked on the job died too often."
    remedy = "Tell the operator the `request_id`: this clip ends the process that works on it."


class ObjectLost(Failed):
    means = "A stored file is no longer there."
    remedy = "Submit the job again; the operator should check the object store."


class ServiceUnavailable(Failed, reason="unavailable", status=503):
    means = "The database or object store does not answer, or all connections are in use."
    remedy = "Try again in a moment; `details` names what is unavailable."


class Internal(Failed):
    means = "An unforeseen error."
    remedy = "Tell the operator the `request_id`; the log has the rest."
    cli_remedy = "--debug shows where; please report it."


class ModelUnavailable(ForemaskError, status=503):
    means = "The network's weights are not available; `details` has the remedy."
    remedy = "Do what `details` says; [The model](models.md) has all ways to get the weights."
    cli_remedy = "docs/models.md has the ways to get the weights."


class DeviceUnavailable(ForemaskError, status=503):
    means = "The requested device is not on this machine; `details` names those that are."
    remedy = "Use a device that `details` names; [GPUs](deployment.md#gpus) explains them."
    cli_remedy = "`foremask doctor` lists the devices."


class OutputFailed(ForemaskError):
    means = "The mask cannot be written: a full disk, no write permission, or an existing file."
    remedy = "Free space, choose another directory or name, or say --force."
    cli_remedy = "Choose another OUTPUT, or make room for it."


class OutputExists(OutputFailed):
    means = "The output file exists, and nobody asked to replace it."
    cli_remedy = "Choose another OUTPUT; --force replaces the file."


class SettingsInvalid(ForemaskError):
    means = (
        "A setting is unknown, has an invalid value, or cannot be used on this machine; `details`"
        " says which."
    )
    remedy = "[Settings](settings.md) lists all names and their values."
    cli_remedy = "docs/settings.md lists all settings."


class PromiseBroken(ForemaskError, status=422):
    means = "A mask differs from its source in a property that must match; `param` names it."
    remedy = "Keep both files and [report it](../CONTRIBUTING.md), if foremask made the mask."
    cli_remedy = (
        "Make the mask again; a mask of a part (--start, --end) does not match the whole clip."
    )


ERROR_TABLE: Final = tuple(BY_REASON.values())  # without the CLI's classes, which are defined later
