"""Joins handlers to their paths and documentation, and builds the OpenAPI 3.1 document of them."""

import copy
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp

from foremask.errors import ERROR_TABLE, REASONS, ClipRefused, UrlRefused
from foremask.service.jobs.records import Accepted, JobStatus, Problem

_REF = "#/components/schemas/{name}"
_ABOUT = """Send the URL of a clip. The service makes a video of the same size, frames, timing
and sound, in which white is the foreground.

Unknown fields of a request body are ignored. The response header `Unknown-Fields` lists them. The
body of every error is a `Problem`. Programs should check its `reason`, whose values are stable."""
_TAGS = {
    "jobs": "Submit a clip, follow its job, fetch the mask.",
    "uploads": "Send a clip that has no URL.",
    "playground": "For the playground at /.",
    "operations": "For the operator of the service.",
}
_TOKEN_HEADERS = {
    "api_token": {"type": "apiKey", "in": "header", "name": "api_token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")

type Json = dict[str, Any]
type Shape = type[Struct] | Json  # a Struct, or a `content` object of OpenAPI
type Reasons = tuple[str, ...]
type Answering = Callable[..., Awaitable[ASGIApp]]
"""Takes an `ApiRequest` and the path's parameters by name, and returns the answer."""

SHOWN_PATTERN: Final = "x-shown-pattern"  # JSON schema key; its value replaces ``pattern``
ALWAYS = ("internal", "unavailable", "overloaded", "storage_full")
SUBMISSION: Final[Reasons] = (
    "video_missing",
    "video_invalid",
    "preset_unknown",
    "field_invalid",
    "webhook_invalid",
    *(each.name for each in ERROR_TABLE if issubclass(each.kind, UrlRefused | ClipRefused)),
)
_TOKEN = ("token_missing", "token_invalid")
_RATE = ("rate_limited", "quota_exhausted")
_BODY = ("body_too_large", "content_type", "bad_json")
_ADMISSION = ("idempotency_mismatch", "too_many_jobs", "queue_full", "storage_quota")
_IDEMPOTENCY_KEY: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A repeated request with the same key and body gets the same job.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


@dataclass(frozen=True, slots=True)
class Handler:
    """Answers ``method`` at ``paths``, which are aliases. A handler of GET answers HEAD, too."""

    function: Answering
    method: str
    paths: tuple[str, ...]
    status: int  # of the usual answer, for the documentation
    operation: "Operation | None"  # None for a page


@dataclass(frozen=True, slots=True)
class Operation:
    """Documents a handler, whose docstring becomes the summary and the description."""

    tag: str
    success: str  # a description of the response
    success_shape: Shape = field(default_factory=dict)
    refused: Reasons = ()  # the operation's own errors; `reasons` adds those of many operations
    body: Shape | None = None
    others: dict[int, tuple[str, Shape]] = field(default_factory=dict)  # other responses
    body_required: bool = True
    has_clip: bool = False  # the clip may be sent as a form's file
    query: type[Struct] | None = None
    parameters: tuple[Json, ...] = ()
    needs_token: bool = True
    of_request: bool = True  # without a body: it names a request, which may be unknown

    def at(self, method: str, *paths: str, status: int = 200) -> Callable[[Answering], Handler]:
        """Return a decorator that makes a function the `Handler` at ``paths``."""

        def handler(function: Answering) -> Handler:
            return Handler(function, method, paths, status, self)

        return handler

    @property
    def reasons(self) -> Reasons:
        if not self.needs_token:
            return self.refused
        more: Reasons = ("request_unknown",) if self.of_request else ()
        if self.body is not None:
            more = (*_RATE, *_BODY)
        return (*_TOKEN, *more, *self.refused, *ALWAYS)


def starts(
    *paths: str, body: type[Struct], has_clip: bool = True, refused: Reasons = ()
) -> Callable[[Answering], Handler]:
    """Return a decorator for a handler that starts a job.

    With ``has_clip``, the handler accepts a form and ``sync``.
    """
    operation = Operation(
        "jobs",
        "The job exists.",
        Accepted,
        (*SUBMISSION, *refused, *_ADMISSION, *(("bad_form",) if has_clip else ())),
        body,
        {200: ("With sync, the job has ended.", JobStatus)} if has_clip else {},
        has_clip=has_clip,
        parameters=(_IDEMPOTENCY_KEY,),
    )
    return operation.at("POST", *paths, status=202)


def build(handlers: Iterable[Handler]) -> Json:
    paths: Json = {}
    operations: list[Operation] = []
    for handler in handlers:
        if handler.operation is None:
            continue
        operations.append(handler.operation)
        for path in handler.paths:
            described = _described(handler.operation, handler, path)
            paths.setdefault(path_format(path), {})[handler.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "foremask",
            "version": version("foremask"),
            "summary": "Foreground masks for video.",
            "description": f"{_ABOUT}\n\n{_errors()}",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This server."}],
        "security": [{name: []} for name in _TOKEN_HEADERS],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _shapes(operations),
            "securitySchemes": _TOKEN_HEADERS,
        },
    }


def path_format(path: str) -> str:
    """Return the path without the types of its parameters, such as ``/v2/files/{key}``."""
    return _PATH_PARAMETER.sub(r"{\1}", path)


def _shapes(operations: list[Operation]) -> Json:
    """Return the schemas of all Structs. Optional fields of request bodies may be null."""
    sent = [each.body for each in operations if isinstance(each.body, type)]
    with_clip = [each.body for each in operations if each.has_clip and isinstance(each.body, type)]
    answered = [Problem, *(each.success_shape for each in operations)]
    answered += [shape for each in operations for _, shape in each.others.values()]
    shapes = [each for each in answered if not isinstance(each, dict)]
    _, bodies = msgspec.json.schema_components(dict.fromkeys(sent), ref_template=_REF)
    forms = {f"{each.__name__}Form": _form(bodies[each.__name__]) for each in with_clip}
    for shape in bodies.values():
        required = shape.get("required", ())
        for name, described in shape.get("properties", {}).items():
            if name not in required and {"type": "null"} not in described.get("anyOf", ()):
                names = described.keys() & {"default", "description"}
                prose = {key: described.pop(key) for key in sorted(names)}
                shape["properties"][name] = {"anyOf": [described, {"type": "null"}], **prose}
    _, answers = msgspec.json.schema_components(dict.fromkeys(shapes), ref_template=_REF)
    _without_null(answers)
    named: Json = answers | bodies | forms
    _simplify(named)
    return named


def _without_null(shapes: Json) -> None:
    """Remove null from the types of optional fields: an answer leaves out what is None."""
    for shape in shapes.values():
        for name, described in shape.get("properties", {}).items():
            if described.get("default", ...) is None:
                shape["properties"][name], _ = described["anyOf"]


def _form(shape: Json) -> Json:
    fields = copy.deepcopy(shape["properties"])
    fields.pop("video")
    fields["video"] = {"type": "string", "format": "binary", "contentMediaType": "video/*"}
    return shape | {"title": f"{shape['title']}Form", "properties": fields}


def _simplify(part: object) -> None:
    """Apply SHOWN_PATTERN, and replace prefixItems by items, which more clients support."""
    if isinstance(part, dict):
        if SHOWN_PATTERN in part:
            part["pattern"] = part.pop(SHOWN_PATTERN)
        if "prefixItems" in part:
            kinds = part.pop("prefixItems")
            distinct = [each for at, each in enumerate(kinds) if each not in kinds[:at]]
            part["items"] = distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        _simplify(each)


def _errors() -> str:
    """Return a Markdown table of all errors. The playground links to its rows."""
    rows = [
        f'| <span id="reason-{each.name}">`{each.name}`</span> | {each.status} '
        f"| {each.means} | {each.remedy} |"
        for each in ERROR_TABLE
    ]
    head = "| reason | status | what it means | what to do |\n|---|---|---|---|"
    fold = '<details id="errors"><summary>All errors</summary>\n'
    return "\n".join([fold, head, *rows, "\n</details>"])


def _described(operation: Operation, handler: Handler, path: str) -> Json:
    summary, _, more = (handler.function.__doc__ or "").partition("\n")
    name = handler.function.__name__
    if path != handler.paths[0]:
        name += f"_by_{path.strip('/').removeprefix('v2/video/').partition('/')[0]}"
    answers = {handler.status: (operation.success, operation.success_shape)} | operation.others
    responses = {
        str(status): {"description": says} | ({"content": _content(shape)} if shape else {})
        for status, (says, shape) in answers.items()
    }
    reasons = operation.reasons
    refused = sorted({REASONS[name].status for name in reasons})
    described: Json = {
        "operationId": name,
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
        "responses": responses | {str(code): _refusal(code, reasons) for code in refused},
    }
    if description := " ".join(more.split()):
        described["description"] = description
    if parameters := [*_parameters(path, operation.query), *operation.parameters]:
        described["parameters"] = parameters
    if operation.body is not None:
        content = _content(operation.body)
        if operation.has_clip and not isinstance(operation.body, dict):
            content["multipart/form-data"] = {
                "schema": {"$ref": _REF.format(name=f"{operation.body.__name__}Form")}
            }
        body = {"required": operation.body_required, "content": content}
        described["requestBody"] = body
    if not operation.needs_token:
        described["security"] = []
    return described


def _parameters(path: str, query: type[Struct] | None) -> Iterator[Json]:
    schema: Json = {"type": "string", "minLength": 1}
    for name in _PATH_PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    if query is not None:
        _, shapes = msgspec.json.schema_components([query])
        _without_null(shapes)
        shape = shapes[query.__name__]
        for name, schema in shape["properties"].items():
            described = {key: schema.pop(key) for key in ("description",) if key in schema}
            required = name in shape["required"]
            yield {"name": name, "in": "query", "required": required, "schema": schema} | described


def _content(shape: Shape) -> Json:
    if isinstance(shape, dict):
        return shape
    (named,), _ = msgspec.json.schema_components([shape], ref_template=_REF)
    return {"application/json": {"schema": named}}


def _refusal(code: int, refused: Reasons) -> Json:
    known = [each for each in ERROR_TABLE if each.name in refused and each.status == code]
    lines = [f"* `{each.name}`: {each.means}" for each in known]
    error = {
        "properties": {
            "code": {"enum": [code]},  # some client generators fail on a numeric const
            "reason": {"enum": [each.name for each in known]},
        }
    }
    schema = {"allOf": [{"$ref": _REF.format(name="Problem")}, {"properties": {"error": error}}]}
    return {
        "description": "\n".join([HTTPStatus(code).phrase, "", *lines]),
        "content": {"application/json": {"schema": schema}},
    }
