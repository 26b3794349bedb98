"""The OpenAPI 3.1 document.

What `operation_docs` says of each route, under its path, method and status.
"""

import re
from collections.abc import Iterable
from importlib.metadata import version

import msgspec
from litestar.handlers import HTTPRouteHandler

from foremask.errors import ERROR_TABLE
from foremask.service.api.answer_examples import example_components
from foremask.service.api.operation_docs import ALIASES, OPERATIONS, PAGES, Operation
from foremask.service.api.response_docs import REF, SHAPES, Json, bodiless, refusals

_INFO = {
    "title": "foremask",
    "version": version("foremask"),
    "summary": "Foreground masks for video.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_ABOUT = """Send the URL of a clip. The service makes a video of the same size, frames, timing
and sound, in which white is the foreground.

Press *Authorize* and enter your token; *Try it out* then sends real requests to this service.
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
_PATH_PARAMETER = re.compile(r"\{(\w+):\w+\}")


def build(handlers: Iterable[HTTPRouteHandler]) -> Json:
    """The whole document. Raises KeyError where `OPERATIONS` names a handler that is not there."""
    _, components = msgspec.json.schema_components(SHAPES, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": _INFO | {"description": f"{_ABOUT}\n\n{_errors()}"},
        "x-reasons": {
            kind.reason: {"code": kind.status, "means": kind.__doc__, "remedy": kind.remedy}
            for kind in sorted(ERROR_TABLE, key=lambda each: each.reason)
        },
        "security": [{name: []} for name in _TOKEN_HEADERS],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(handlers),
        "components": {
            "schemas": components,
            "examples": example_components(),
            "securitySchemes": _TOKEN_HEADERS,
        },
    }


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


def _paths(handlers: Iterable[HTTPRouteHandler]) -> Json:
    """Each operation by path and method, in the order of `OPERATIONS`."""
    routes = {handler.handler_name: handler for handler in handlers}
    paths: Json = {}
    for (method, name), operation in OPERATIONS.items():
        route = routes[name]
        for path in sorted(route.paths - PAGES, key=lambda path: (path in ALIASES, path)):
            methods = paths.setdefault(_PATH_PARAMETER.sub(r"{\1}", path), {})
            described = _operation(operation, ALIASES.get(path), route.status_code)
            methods[method.lower()] = described
            if method == "GET" and "HEAD" in route.http_methods:
                methods["head"] = _head(described)
    return paths


def _operation(operation: Operation, alias: str | None, status: int) -> Json:
    """One operation, under its own id or that of its alias.

    ``status`` is that of its usual answer.
    """
    answers = {status: operation.answer, **operation.other_answers}
    described: Json = {
        "operationId": alias or operation.operation_id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {str(code): answer for code, answer in answers.items()}
        | refusals(*operation.refused),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        described["requestBody"] = operation.body
    if not operation.needs_token:
        described["security"] = []
    return described


def _head(get: Json) -> Json:
    """The HEAD of a GET: the same answers without their bodies."""
    return {
        **get,
        "operationId": f"head_{get['operationId']}",
        "summary": f"{get['summary'].rstrip('?')}: only the headers",
        "responses": {code: bodiless(answer) for code, answer in get["responses"].items()},
    }
