"""The errors that only the service has: of requests, tokens, addresses, queues and jobs."""

from foremask.errors import Failed, ForemaskError


class Denied(ForemaskError):
    """The token does not open this door."""


class TokenMissing(Denied):
    """The request carries no token."""

    reason = "token_missing"


class TokenInvalid(Denied):
    """The token is unknown, revoked or expired."""

    reason = "token_invalid"


class QuotaExhausted(Denied):
    """The token has used up its quota."""

    reason = "quota_exhausted"


class LinkInvalid(Denied):
    """A signed link to a file, or a form for an upload, is not ours or has expired."""

    reason = "link_invalid"


class BadRequest(ForemaskError):
    """The request itself is wrong."""


class PathUnknown(BadRequest):
    """No such path."""

    reason = "path_unknown"


class RequestUnknown(BadRequest):
    """No such job for this token, or its record has expired."""

    reason = "request_unknown"


class MethodNotAllowed(BadRequest):
    """The path exists, but not for this method."""

    reason = "method_not_allowed"


class BodyTooLarge(BadRequest):
    """The request body is over its limit."""

    reason = "body_too_large"


class ContentTypeWrong(BadRequest):
    """The body is not declared as what the path takes."""

    reason = "content_type"


class BadJson(BadRequest):
    """The body is empty, or not one JSON object with distinct keys in UTF-8."""

    reason = "bad_json"


class VideoMissing(BadRequest):
    """The field ``video`` is missing or null."""

    reason = "video_missing"


class VideoInvalid(BadRequest):
    """The field ``video`` is not a URL of at most 8 KiB."""

    reason = "video_invalid"


class PresetUnknown(BadRequest):
    """``output_container_and_codec`` is none of the nine names."""

    reason = "preset_unknown"


class FormInvalid(BadRequest):
    """An upload's multipart form cannot be read, or has no file after its fields."""

    reason = "bad_form"


class RangeInvalid(BadRequest):
    """The bytes asked for are behind the end of the file."""

    reason = "range_invalid"


class WebhookInvalid(BadRequest):
    """``webhook_url`` is no public http(s) URL."""

    reason = "webhook_invalid"


class IdempotencyMismatch(BadRequest):
    """The Idempotency-Key was used before with another body."""

    reason = "idempotency_mismatch"


class PreconditionFailed(BadRequest):
    """``If-Match`` or ``If-Unmodified-Since`` names another version of the file."""

    reason = "precondition_failed"


class HttpInvalid(BadRequest):
    """The bytes on the connection are not an HTTP/1.1 request."""

    reason = "bad_http"


class TargetTooLong(BadRequest):
    """The request line is over its limit."""

    reason = "target_too_long"


class HeadersTooLarge(BadRequest):
    """The request's headers are over their limit."""

    reason = "headers_too_large"


class RequestTooSlow(BadRequest):
    """The request did not arrive in the time that it may take."""

    reason = "request_too_slow"


class UrlRefused(ForemaskError):
    """An address that the caller chose cannot be used."""


class UrlScheme(UrlRefused):
    """The URL is neither http nor https."""

    reason = "url_scheme"


class UrlNotAllowed(UrlRefused):
    """The URL carries user info, or a port that is not allowed."""

    reason = "url_not_allowed"


class UrlPrivate(UrlRefused):
    """The host resolves to an address that is not public."""

    reason = "url_private"


class UrlUnreachable(UrlRefused):
    """No answer: DNS, refused, TLS, timeout, or too many redirects."""

    reason = "url_unreachable"


class UrlTooSlow(UrlRefused):
    """The origin sends fewer bytes a second than the least speed."""

    reason = "url_too_slow"


class UrlForbidden(UrlRefused):
    """The origin answered 401 or 403."""

    reason = "url_forbidden"


class UrlStatus(UrlRefused):
    """The origin answered another 4xx or 5xx."""

    reason = "url_status"


class Busy(ForemaskError):
    """Try again after ``retry_after_s`` seconds; all is free again after ``reset_s``."""

    retry_after_s: float = 1.0
    reset_s: float = 1.0


class RateLimited(Busy):
    """The token's request rate is used up for now."""

    reason = "rate_limited"


class TooManyJobs(Busy):
    """The token has as many unfinished jobs as it may."""

    reason = "too_many_jobs"


class QueueFull(Busy):
    """The service has as many waiting jobs as it takes."""

    reason = "queue_full"


class StorageQuota(Busy):
    """The token's files take as many bytes as it may store."""

    reason = "storage_quota"


class Overloaded(Busy):
    """Every place for this work is taken; the request itself is not at fault."""

    reason = "overloaded"


class StorageFull(Busy):
    """The disk has no more free space than the service keeps in reserve."""

    reason = "storage_full"


class Ended(ForemaskError):
    """The job ended because somebody wanted it to."""


class JobCancelled(Ended):
    """The caller cancelled the job."""

    reason = "cancelled"


class ResultExpired(Ended):
    """The mask was made, and has been deleted at the end of its time."""

    reason = "result_expired"


class TimedOut(Failed):
    """The job ran over its wall clock."""

    reason = "timed_out"


class WorkerCrashed(Failed):
    """The process that worked on the job died too often."""

    reason = "worker_crashed"


class ObjectLost(Failed):
    """A stored file is no longer there."""

    reason = "object_lost"


class ServiceUnavailable(Failed):
    """The database or the object store does not answer."""

    reason = "unavailable"
