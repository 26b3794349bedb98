"""What the OpenAPI document says of an operation besides its route: kept in the handler's ``opt``.

Summary and description are the handler's docstring.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Struct

from foremask import errors
from foremask.errors import ForemaskError
from foremask.service.jobs.wire_format import Accepted, JobStatus

type Json = dict[str, Any]
"""A part of the document: a JSON object."""
type Reasons = tuple[type[ForemaskError], ...]

SHOWN_PATTERN: Final = "x-shown-pattern"
"""In a field's ``extra_json_schema``: the pattern that the document shows."""
TOKEN: Final[Reasons] = (errors.TokenMissing, errors.TokenInvalid)
CHARGED: Final[Reasons] = (*TOKEN, errors.QuotaExhausted, errors.RateLimited)
BODY: Final[Reasons] = (errors.BodyTooLarge, errors.ContentTypeWrong, errors.BadJson)
ALWAYS: Final[Reasons] = (
    errors.Internal,
    errors.ServiceUnavailable,
    errors.Overloaded,
    errors.StorageFull,
)
SUBMISSION: Final[Reasons] = (
    errors.VideoMissing,
    errors.VideoInvalid,
    errors.PresetUnknown,
    errors.FieldInvalid,
    errors.WebhookInvalid,
    *errors.UrlRefused.__subclasses__(),
    *errors.ClipRefused.__subclasses__(),
)
ADMISSION: Final[Reasons] = (
    errors.IdempotencyMismatch,
    errors.TooManyJobs,
    errors.QueueFull,
    errors.StorageQuota,
)
READ: Final[Reasons] = (*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS)
IDEMPOTENCY_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request safe to send again: same key and body, same job.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``says`` describes the usual answer, whose shape is ``answer``, or else ``content``.

    ``refused`` are its errors, ``others`` its other answers by status. ``rated`` answers have the
    headers of the rate. ``body`` is a shape, or a part of the document.
    """

    tag: str
    says: str
    answer: type[Struct] | None = None
    content: Json = field(default_factory=dict)
    others: Mapping[int, tuple[str, type[Struct] | Json]] = field(default_factory=dict)
    refused: Reasons = ()
    body: type[Struct] | Json | None = None
    body_required: bool = True
    parameters: tuple[Json, ...] = ()
    rated: bool = False
    needs_token: bool = True
    operation_id: str | None = None
    summary: str | None = None
    description: str | None = None


def documented(tag: str, says: str, answer: type[Struct] | None = None, **more: Any) -> Json:  # noqa: ANN401
    """A handler's ``opt``."""
    return {"doc": Operation(tag=tag, says=says, answer=answer, **more)}


def starts(body: type[Struct], *more: type[ForemaskError], sync: bool = True) -> Json:
    """The ``opt`` of a call that starts a job."""
    others = {200: ("With sync, the job has ended.", JobStatus)} if sync else {}
    unknown = () if sync else (errors.RequestUnknown,)
    return documented(
        "jobs",
        "The job exists.",
        Accepted,
        others=others,
        body=body,
        parameters=(IDEMPOTENCY_KEY,),
        refused=(*CHARGED, *BODY, *SUBMISSION, *more, *unknown, *ADMISSION, *ALWAYS),
        rated=True,
    )


def in_query(name: str, schema: Json, description: str = "", *, required: bool = False) -> Json:
    """A parameter of the query."""
    found = {"name": name, "in": "query", "required": required, "schema": schema}
    return found | ({"description": description} if description else {})
