"""The error tree: every error that a user can meet, with its code and its reason.

``code`` is the HTTP status, ``reason`` one stable word for programs (docs/errors.md has a paragraph
on each), ``details`` a sentence with the numbers that tells the caller what to do.

ForemaskError
├── Denied
│   ├── TokenMissing          403 token_missing
│   ├── TokenInvalid          403 token_invalid
│   ├── QuotaExhausted        403 quota_exhausted
│   └── LinkInvalid           403 link_invalid
├── BadRequest
│   ├── PathUnknown           404 path_unknown
│   ├── RequestUnknown        404 request_unknown
│   ├── MethodNotAllowed      405 method_not_allowed
│   ├── BodyTooLarge          413 body_too_large
│   ├── ContentTypeWrong      415 content_type
│   ├── BadJson               400 bad_json
│   ├── VideoMissing          422 video_missing
│   ├── VideoInvalid          422 video_invalid
│   ├── PresetUnknown         422 preset_unknown
│   ├── FieldInvalid          422 field_invalid
│   ├── FormInvalid           400 bad_form
│   ├── RangeInvalid          416 range_invalid
│   ├── WebhookInvalid        422 webhook_invalid
│   ├── PreconditionFailed    412 precondition_failed
│   ├── HttpInvalid           400 bad_http
│   ├── TargetTooLong         414 target_too_long
│   ├── HeadersTooLarge       431 headers_too_large
│   ├── RequestTooSlow        408 request_too_slow
│   └── IdempotencyMismatch   422 idempotency_mismatch
├── UrlRefused
│   ├── UrlScheme             422 url_scheme
│   ├── UrlNotAllowed         422 url_not_allowed
│   ├── UrlPrivate            422 url_private
│   ├── UrlUnreachable        422 url_unreachable
│   ├── UrlTooSlow            422 url_too_slow
│   ├── UrlForbidden          422 url_forbidden
│   └── UrlStatus             422 url_status
├── ClipRefused
│   ├── NotAVideo             422 not_a_video
│   ├── FileTooLarge          413 file_too_large
│   ├── ResolutionTooLarge    413 resolution_too_large
│   ├── PresetUnsuitable     422 preset_cannot
│   ├── DurationTooLong       400 duration_too_long
│   ├── TooManyFrames         400 too_many_frames
│   ├── EmptyFile             422 empty_file
│   ├── NoFrames              422 no_frames
│   ├── ContainerUnsupported  415 container_unsupported
│   ├── CodecUnsupported      415 codec_unsupported
│   ├── NoVideoStream         422 no_video_stream
│   ├── CorruptVideo          422 corrupt
│   └── EncryptedVideo        422 encrypted
├── Busy
│   ├── RateLimited           429 rate_limited
│   ├── TooManyJobs           429 too_many_jobs
│   ├── QueueFull             429 queue_full
│   ├── StorageQuota          429 storage_quota
│   ├── Overloaded            503 overloaded
│   └── StorageFull           503 storage_full
├── Ended
│   ├── JobCancelled          410 cancelled
│   └── ResultExpired         410 result_expired
├── Failed
│   ├── TimedOut              500 timed_out
│   ├── WorkerCrashed         500 worker_crashed
│   ├── ObjectLost            500 object_lost
│   ├── ServiceUnavailable    503 unavailable
│   └── Internal              500 internal
├── ModelUnavailable           the network's weights cannot be had
├── OutputFailed               the mask cannot be written where it should go
├── SettingsInvalid            a setting that cannot be
└── PromiseBroken              `foremask verify`: the mask does not keep a promise
"""

from http import HTTPStatus
from typing import ClassVar


class ForemaskError(Exception):
    """Anything that foremask says no with.

    ``param`` names the field at fault, ``limit`` and ``actual`` the two numbers that clash.
    """

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "internal"

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

    @property
    def message(self) -> str:
        """The reason phrase of the HTTP status, as the wire contract wants it."""
        return HTTPStatus(self.code).phrase


class Denied(ForemaskError):
    """The token does not open this door."""


class TokenMissing(Denied):
    """The request carries no token."""

    code = 403
    reason = "token_missing"


class TokenInvalid(Denied):
    """The token is unknown, revoked or expired."""

    code = 403
    reason = "token_invalid"


class QuotaExhausted(Denied):
    """The token has used up its quota."""

    code = 403
    reason = "quota_exhausted"


class LinkInvalid(Denied):
    """A signed link to a file, or a form for an upload, is not ours or has expired."""

    code = 403
    reason = "link_invalid"


class BadRequest(ForemaskError):
    """The request itself is wrong."""


class PathUnknown(BadRequest):
    """No such path."""

    code = 404
    reason = "path_unknown"


class RequestUnknown(BadRequest):
    """No such job for this token, or its record has expired."""

    code = 404
    reason = "request_unknown"


class MethodNotAllowed(BadRequest):
    """The path exists, but not for this method."""

    code = 405
    reason = "method_not_allowed"


class BodyTooLarge(BadRequest):
    """The request body is over its limit."""

    code = 413
    reason = "body_too_large"


class ContentTypeWrong(BadRequest):
    """The body is not declared as what the path takes."""

    code = 415
    reason = "content_type"


class BadJson(BadRequest):
    """The body is empty, or not one JSON object with distinct keys in UTF-8."""

    code = 400
    reason = "bad_json"


class VideoMissing(BadRequest):
    """The field ``video`` is missing or null."""

    code = 422
    reason = "video_missing"


class VideoInvalid(BadRequest):
    """The field ``video`` is not a URL of at most 8 KiB."""

    code = 422
    reason = "video_invalid"


class PresetUnknown(BadRequest):
    """``output_container_and_codec`` is none of the nine names."""

    code = 422
    reason = "preset_unknown"


class FieldInvalid(BadRequest):
    """Another field has a value that it cannot have."""

    code = 422
    reason = "field_invalid"


class FormInvalid(BadRequest):
    """An upload's multipart form cannot be read, or has no file after its fields."""

    code = 400
    reason = "bad_form"


class RangeInvalid(BadRequest):
    """The bytes asked for are behind the end of the file."""

    code = 416
    reason = "range_invalid"


class WebhookInvalid(BadRequest):
    """``webhook_url`` is no public http(s) URL."""

    code = 422
    reason = "webhook_invalid"


class IdempotencyMismatch(BadRequest):
    """The Idempotency-Key was used before with another body."""

    code = 422
    reason = "idempotency_mismatch"


class PreconditionFailed(BadRequest):
    """``If-Match`` or ``If-Unmodified-Since`` names another version of the file."""

    code = 412
    reason = "precondition_failed"


class HttpInvalid(BadRequest):
    """The bytes on the connection are not an HTTP/1.1 request."""

    code = 400
    reason = "bad_http"


class TargetTooLong(BadRequest):
    """The request line is over its limit."""

    code = 414
    reason = "target_too_long"


class HeadersTooLarge(BadRequest):
    """The request's headers are over their limit."""

    code = 431
    reason = "headers_too_large"


class RequestTooSlow(BadRequest):
    """The request did not arrive in the time that it may take."""

    code = 408
    reason = "request_too_slow"


class UrlRefused(ForemaskError):
    """An address that the caller chose cannot be used."""


class UrlScheme(UrlRefused):
    """The URL is neither http nor https."""

    code = 422
    reason = "url_scheme"


class UrlNotAllowed(UrlRefused):
    """The URL carries user info, or a port that is not allowed."""

    code = 422
    reason = "url_not_allowed"


class UrlPrivate(UrlRefused):
    """The host resolves to an address that is not public."""

    code = 422
    reason = "url_private"


class UrlUnreachable(UrlRefused):
    """No answer: DNS, refused, TLS, timeout, or too many redirects."""

    code = 422
    reason = "url_unreachable"


class UrlTooSlow(UrlRefused):
    """The origin sends fewer bytes a second than the least speed."""

    code = 422
    reason = "url_too_slow"


class UrlForbidden(UrlRefused):
    """The origin answered 401 or 403."""

    code = 422
    reason = "url_forbidden"


class UrlStatus(UrlRefused):
    """The origin answered another 4xx or 5xx."""

    code = 422
    reason = "url_status"


class ClipRefused(ForemaskError):
    """The clip is not one that can be masked."""


class NotAVideo(ClipRefused):
    """A page or other text instead of a video."""

    code = 422
    reason = "not_a_video"


class FileTooLarge(ClipRefused):
    """More bytes than the limit, declared or counted."""

    code = 413
    reason = "file_too_large"


class ResolutionTooLarge(ClipRefused):
    """A side is longer than the limit."""

    code = 413
    reason = "resolution_too_large"


class PresetUnsuitable(ClipRefused):
    """The preset cannot carry this clip; ``details`` names those that can."""

    code = 422
    reason = "preset_cannot"


class DurationTooLong(ClipRefused):
    """The clip is longer than the limit."""

    code = 400
    reason = "duration_too_long"


class TooManyFrames(ClipRefused):
    """The clip has more frames than the limit."""

    code = 400
    reason = "too_many_frames"


class EmptyFile(ClipRefused):
    """The file has no bytes."""

    code = 422
    reason = "empty_file"


class NoFrames(ClipRefused):
    """The video track has no frame."""

    code = 422
    reason = "no_frames"


class ContainerUnsupported(ClipRefused):
    """The container, told by content, is none that is read."""

    code = 415
    reason = "container_unsupported"


class CodecUnsupported(ClipRefused):
    """The video codec is none that is read."""

    code = 415
    reason = "codec_unsupported"


class NoVideoStream(ClipRefused):
    """Only sound, or cover art."""

    code = 422
    reason = "no_video_stream"


class CorruptVideo(ClipRefused):
    """The file cannot be read, from the start or from a named frame on."""

    code = 422
    reason = "corrupt"


class EncryptedVideo(ClipRefused):
    """The video is protected by DRM."""

    code = 422
    reason = "encrypted"


class Busy(ForemaskError):
    """Try again after ``retry_after_s`` seconds; all is free again after ``reset_s``."""

    retry_after_s: float = 1.0
    reset_s: float = 1.0


class RateLimited(Busy):
    """The token's request rate is used up for now."""

    code = 429
    reason = "rate_limited"


class TooManyJobs(Busy):
    """The token has as many unfinished jobs as it may."""

    code = 429
    reason = "too_many_jobs"


class QueueFull(Busy):
    """The service has as many waiting jobs as it takes."""

    code = 429
    reason = "queue_full"


class StorageQuota(Busy):
    """The token's files take as many bytes as it may store."""

    code = 429
    reason = "storage_quota"


class Overloaded(Busy):
    """Every place for this work is taken; the request itself is not at fault."""

    code = 503
    reason = "overloaded"


class StorageFull(Busy):
    """The disk has no more free space than the service keeps in reserve."""

    code = 503
    reason = "storage_full"


class Ended(ForemaskError):
    """The job ended because somebody wanted it to."""


class JobCancelled(Ended):
    """The caller cancelled the job."""

    code = 410
    reason = "cancelled"


class ResultExpired(Ended):
    """The mask was made, and has been deleted at the end of its time."""

    code = 410
    reason = "result_expired"


class Failed(ForemaskError):
    """Our fault, not the caller's."""


class TimedOut(Failed):
    """The job ran over its wall clock."""

    code = 500
    reason = "timed_out"


class WorkerCrashed(Failed):
    """The process that worked on the job died too often."""

    code = 500
    reason = "worker_crashed"


class ObjectLost(Failed):
    """A stored file is no longer there."""

    code = 500
    reason = "object_lost"


class ServiceUnavailable(Failed):
    """The database or the object store does not answer."""

    code = 503
    reason = "unavailable"


class Internal(Failed):
    """Anything unforeseen."""

    code = 500
    reason = "internal"


class ModelUnavailable(ForemaskError):
    """The weights cannot be had; ``details`` has the remedy."""

    code = 503
    reason = "model_unavailable"


class OutputFailed(ForemaskError):
    """The mask cannot be written where it should go: the disk is full, the directory closed, or a file is there already."""

    code = 500
    reason = "output_failed"


class SettingsInvalid(ForemaskError):
    """A setting is unknown, or has a value that it cannot have."""

    reason = "settings_invalid"


class PromiseBroken(ForemaskError):
    """A mask does not keep a promise to its source; ``param`` names the promise."""

    code = 422
    reason = "promise_broken"


def _leaves(kind: type[ForemaskError]) -> list[type[ForemaskError]]:
    below = kind.__subclasses__()
    return [leaf for child in below for leaf in _leaves(child)] if below else [kind]


BY_REASON: dict[str, type[ForemaskError]] = {kind.reason: kind for kind in _leaves(ForemaskError)}
"""Every error that can cross a process border, by its word."""
