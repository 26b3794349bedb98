"""The OpenAPI 3.1 document: every route with what its handler's ``opt`` says of it."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

from foremask.errors import ERROR_TABLE, ForemaskError
from foremask.service.api.operation_docs import SHOWN_PATTERN, Json, Operation
from foremask.service.jobs.wire_format import Problem

_REF = "#/components/schemas/{name}"
_INFO = {
    "title": "foremask",
    "version": version("foremask"),
    "summary": "Foreground masks for video.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_ABOUT = """Send the URL of a clip. The service makes a video of the same size, frames, timing
and sound, in which white is the foreground.

A refused request has the same body everywhere. `reason` is a stable word for programs."""
_TAGS = {
    "jobs": "Submit a clip, follow the job, fetch the mask.",
    "uploads": "For a clip that no server has.",
    "playground": "What the page at / needs besides.",
    "operations": "For whoever runs the service.",
}
_TOKEN_HEADERS = {
    "api_token": {"type": "apiKey", "in": "header", "name": "api_token"},
    "bearer": {"type": "http", "scheme": "bearer"},
    "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_RATE_HEADERS = {
    "RateLimit-Limit": "Requests that may come at once.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until all of them are back.",
}
_ID = "5c2a8f7b1e3d4a6c8b9f0a1b2c3d4e5f"
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")


def build(handlers: Iterable[HTTPRouteHandler]) -> Json:
    """The whole document; routes whose handlers say nothing are for people."""
    found = list(_operations(handlers))
    paths: Json = {}
    for path, method, alias, handler, operation in found:
        described = _described(operation, handler, alias)
        names = _PATH_PARAMETER.findall(path)
        in_path = [
            {"name": name, "in": "path", "required": True, "schema": _NOT_EMPTY} for name in names
        ]
        if in_path:
            described["parameters"] = in_path + described.get("parameters", [])
        methods = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", path), {})
        methods[method.lower()] = described
        if method == "GET" and "HEAD" in handler.http_methods:
            methods["head"] = _head(described)
    return {
        "openapi": "3.1.0",
        "info": _INFO | {"description": f"{_ABOUT}\n\n{_errors()}"},
        "security": [{name: []} for name in _TOKEN_HEADERS],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _shapes(operation for *_, operation in found),
            "examples": {kind.reason: _error_example(kind) for kind in ERROR_TABLE},
            "securitySchemes": _TOKEN_HEADERS,
        },
    }


_NOT_EMPTY = {"type": "string", "minLength": 1}


def _operations(
    handlers: Iterable[HTTPRouteHandler],
) -> Iterator[tuple[str, str, str | None, HTTPRouteHandler, Operation]]:
    """Each path and method, with a suffix for the aliases of one call."""
    for handler in handlers:
        documents = handler.opt.get("doc") and {
            next(iter(handler.http_methods - {"HEAD"})): handler.opt["doc"]
        }
        for method, operation in (documents or handler.opt).items():
            if isinstance(operation, Operation):
                first = handler.opt.get("first_path")
                for path in sorted(handler.paths, key=lambda path: (path != first, path)):
                    alias = None
                    if first not in (None, path):
                        alias = path.strip("/").removeprefix("v2/video/").partition("/")[0]
                    yield path, str(method), alias, handler, operation


def _shapes(operations: Iterable[Operation]) -> Json:
    """The schemas of all named shapes; optional fields may also be null."""
    sent: dict[type[Struct], None] = {}
    answered: dict[type[Struct], None] = {Problem: None}
    for each in operations:
        shapes = [each.answer, *(shape for _, shape in each.others.values())]
        answered |= {shape: None for shape in shapes if isinstance(shape, type)}
        if isinstance(each.body, type):
            sent[each.body] = None
    _, bodies = msgspec.json.schema_components(list(sent), ref_template=_REF)
    _show_patterns(bodies)
    for shape in bodies.values():
        required = shape.get("required", ())
        for name, described in shape.get("properties", {}).items():
            if name not in required and {"type": "null"} not in described.get("anyOf", ()):
                prose = {
                    key: described.pop(key)
                    for key in ("default", "description")
                    if key in described
                }
                shape["properties"][name] = {"anyOf": [described, {"type": "null"}], **prose}
    _, answers = msgspec.json.schema_components(list(answered), ref_template=_REF)
    return answers | bodies


def _show_patterns(part: object) -> None:
    """Show the intended pattern where the Struct's own is another."""
    if isinstance(part, dict):
        if SHOWN_PATTERN in part:
            part["pattern"] = part.pop(SHOWN_PATTERN)
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        _show_patterns(each)


def _errors() -> str:
    """Every reason in a table that is folded; each has an anchor, to which the playground links."""
    rows = [
        f'| <span id="reason-{kind.reason}">`{kind.reason}`</span> | {kind.status} '
        f"| {_one_line(kind.__doc__)} | {_one_line(kind.remedy)} |"
        for kind in ERROR_TABLE
    ]
    return "\n".join(
        [
            '<details id="errors"><summary>All errors</summary>',
            "",
            "| reason | status | what it means | what to do |",
            "|---|---|---|---|",
            *rows,
            "",
            "</details>",
        ]
    )


def _one_line(prose: str | None) -> str:
    return " ".join((prose or "").split()).replace("|", "\\|")


def _described(operation: Operation, handler: HTTPRouteHandler, alias: str | None) -> Json:
    summary, _, more = (handler.fn.__doc__ or "").partition("\n")
    name = operation.operation_id or handler.handler_name
    description = operation.description or _one_line(more)
    usual = _answer(operation.says, operation.answer or operation.content, operation)
    responses = {str(handler.status_code): usual}
    for status, (says, shape) in operation.others.items():
        responses[str(status)] = _answer(says, shape, operation)
    described: Json = {
        "operationId": f"{name}_by_{alias}" if alias else name,
        "tags": [operation.tag],
        "summary": (operation.summary or summary).rstrip("."),
        "responses": responses | _refusals(operation.refused),
    }
    if description:
        described["description"] = description
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body is not None:
        body = operation.body if isinstance(operation.body, dict) else _content(operation.body)
        described["requestBody"] = {"required": operation.body_required, "content": body}
    if not operation.needs_token:
        described["security"] = []
    return described


def _content(shape: type[Struct]) -> Json:
    return {"application/json": {"schema": {"$ref": _REF.format(name=shape.__name__)}}}


def _answer(says: str, shape: type[Struct] | Json, operation: Operation) -> Json:
    content = shape if isinstance(shape, dict) else _content(shape)
    answer: Json = {"description": says}
    if content:
        answer["content"] = content
    if operation.rated:
        answer["headers"] = _integer_headers(_RATE_HEADERS)
    return answer


def _integer_headers(descriptions: dict[str, str]) -> Json:
    return {
        name: {
            "description": description,
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        }
        for name, description in descriptions.items()
    }


def _refusals(kinds: Iterable[type[ForemaskError]]) -> Json:
    """An answer for each status among ``kinds``, with the reasons that it can have."""
    by_code: defaultdict[int, list[type[ForemaskError]]] = defaultdict(list)
    for kind in dict.fromkeys(kinds):
        by_code[kind.status].append(kind)
    return {str(code): _refusal(code, by_code[code]) for code in sorted(by_code)}


def _refusal(code: int, kinds: list[type[ForemaskError]]) -> Json:
    lines = [f"* `{kind.reason}`: {kind.__doc__}" for kind in kinds]
    error = {
        "properties": {
            "code": {"const": code},
            "reason": {"enum": [kind.reason for kind in kinds]},
        }
    }
    examples = {kind.reason: {"$ref": f"#/components/examples/{kind.reason}"} for kind in kinds}
    schema = {"allOf": [{"$ref": _REF.format(name="Problem")}, {"properties": {"error": error}}]}
    answer: Json = {
        "description": "\n".join([HTTPStatus(code).phrase, "", *lines]),
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        answer["headers"] = _integer_headers({"Retry-After": "Seconds to wait."})
    return answer


def _error_example(kind: type[ForemaskError]) -> Json:
    value: dict[str, Any] = {"request_id": _ID, "error": kind(_one_line(kind.__doc__)).facts()}
    if kind.reason == "request_unknown":
        value["status"] = "NOT_FOUND"
    return {"summary": kind.reason, "description": kind.remedy, "value": value}


def _head(get: Json) -> Json:
    """The HEAD of a GET: the same answers without their bodies."""
    return {
        **get,
        "operationId": f"head_{get['operationId']}",
        "summary": f"{get['summary'].rstrip('?')}: only the headers",
        "responses": {
            code: {name: part for name, part in answer.items() if name != "content"}
            for code, answer in get["responses"].items()
        },
    }
