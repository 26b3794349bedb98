"""What the OpenAPI document says of a route, kept in its handler's ``opt``.

A handler's name is the operation's id; its docstring has the summary and the description.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from litestar import HttpMethod, route
from msgspec import Struct

from foremask import errors
from foremask.errors import ForemaskError
from foremask.service.jobs.wire_format import Accepted, JobStatus

type Json = dict[str, Any]
"""A part of the document: a JSON object."""
type Reasons = tuple[type[ForemaskError], ...]

SHOWN_PATTERN: Final = "x-shown-pattern"
"""In a field's ``extra_json_schema``: the pattern that the document shows."""
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
_TOKEN: Final[Reasons] = (errors.TokenMissing, errors.TokenInvalid, errors.RateLimited)
_BODY: Final[Reasons] = (errors.BodyTooLarge, errors.ContentTypeWrong, errors.BadJson)
_ADMISSION: Final[Reasons] = (
    errors.IdempotencyMismatch,
    errors.TooManyJobs,
    errors.QueueFull,
    errors.StorageQuota,
)
_IDEMPOTENCY_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request safe to send again: same key and body, same job.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """``says`` describes the usual answer, whose shape is ``answer``, or a part of the document.

    ``refused`` are errors beside those of its token and its body; ``others`` are its other answers
    by status. ``body`` is a shape, or a part of the document; ``query`` a shape whose fields are
    its parameters, which ``parameters`` adds to.
    """

    tag: str
    says: str
    answer: type[Struct] | Json = field(default_factory=dict)
    refused: Reasons = ()
    body: type[Struct] | Json | None = None
    others: Mapping[int, tuple[str, type[Struct] | Json]] = field(default_factory=dict)
    body_required: bool = True
    has_clip: bool = False  # in the body: it may be a form, whose last part is the clip
    query: type[Struct] | None = None
    parameters: tuple[Json, ...] = ()
    needs_token: bool = True
    takes_rate: bool = True  # where it has a body

    def reads(self, path: str) -> route:
        """A route for GET and HEAD."""
        return self._route("GET", (path,), [HttpMethod.GET, HttpMethod.HEAD], 200)

    def takes(self, *paths: str, status: int = 200) -> route:
        """A route for POST; further paths are aliases of the first."""
        return self._route("POST", paths, [HttpMethod.POST], status)

    def deletes(self, path: str) -> route:
        """A route for DELETE."""
        return self._route("DELETE", (path,), [HttpMethod.DELETE], 200)

    def _route(
        self, name: str, paths: tuple[str, ...], methods: list[HttpMethod], status: int
    ) -> route:
        opt = {"method": name, "paths": paths, "operation": self}
        return route(list(paths), http_method=methods, status_code=status, opt=opt)

    @property
    def is_rated(self) -> bool:
        """Whether it takes from the token's rate, so that its answers have the rate's headers."""
        return self.needs_token and self.body is not None and self.takes_rate

    @property
    def reasons(self) -> Reasons:
        """All errors that it can answer with."""
        if not self.needs_token:
            return self.refused
        counted = errors.QuotaExhausted if self.is_rated else errors.RequestUnknown
        body = () if self.body is None else _BODY
        return (*_TOKEN, counted, *body, *self.refused, *ALWAYS)


def starts(*paths: str, body: type[Struct], has_clip: bool = True, refused: Reasons = ()) -> route:
    """A route that starts a job; one that has a clip takes a form, and may wait for its end."""
    operation = Operation(
        "jobs",
        "The job exists.",
        Accepted,
        (*SUBMISSION, *refused, *_ADMISSION, *((errors.FormInvalid,) if has_clip else ())),
        body,
        {200: ("With sync, the job has ended.", JobStatus)} if has_clip else {},
        has_clip=has_clip,
        parameters=(_IDEMPOTENCY_KEY,),
    )
    return operation.takes(*paths, status=202)
