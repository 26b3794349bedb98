"""Errors as answers: the one place where an exception becomes a status, a body and headers."""

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, InternalServerException

from foremask import errors
from foremask.service.api.context import ApiRequest
from foremask.service.api.pages import read_pages
from foremask.service.observability import metrics

log = structlog.get_logger(__name__)


def answer_of(error: errors.ForemaskError, request_id: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body of an error's answer."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    body: dict[str, object] = {"request_id": request_id, "error": error.facts()}
    match error:
        case errors.RateLimited():
            headers["RateLimit-Limit"] = f"{error.limit or 0:.0f}"
            headers["RateLimit-Remaining"] = "0"
            headers["RateLimit-Reset"] = str(math.ceil(error.reset_s))
        case errors.ServiceUnavailable():
            headers["Retry-After"] = "1"
        case errors.RangeInvalid():
            headers["Content-Range"] = f"bytes */{error.limit:.0f}"
        case errors.MethodNotAllowed():
            headers["Allow"] = error.allow
        case errors.RequestUnknown():
            body["status"] = "NOT_FOUND"  # the hosted service's word, which its clients require
        case _:
            pass
    if isinstance(error, errors.Busy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return headers, msgspec.json.encode(body)


def problem(request: ApiRequest, error: errors.ForemaskError) -> Response[bytes]:
    """The answer of an error; a browser gets a page where there is no such path."""
    headers, body = answer_of(error, request.id)
    if isinstance(error, errors.PathUnknown) and "text/html" in request.headers.get("accept", ""):
        page = read_pages()["missing.html"]
        headers = {"Content-Type": page.media_type, "Content-Security-Policy": page.policy}
        body = page.content
    return Response(body, status_code=error.status, headers=headers)


def on_foremask_error(request: ApiRequest, error: errors.ForemaskError) -> Response[bytes]:
    """An error of foremask."""
    metrics.refused(error.reason)
    if isinstance(
        error, errors.ServiceUnavailable
    ):  # of many calls: where it was raised says nothing
        log.warning("http.unavailable", details=error.details)
    elif error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.Busy):
        log.error("http.failed", reason=error.reason, exc_info=error)
    return problem(request, error)


_HOSTED_ONLY = {
    "/v2/video/segment/mask_by_prompt": "foremask takes no text",
    "/v2/video/edit/increase_resolution": "foremask does not enlarge videos",
    "/v2/video/edit/erase": "foremask does not erase things",
}
"""Endpoints of the hosted service that its MCP server calls."""
_INSTEAD = "POST /v2/video/segment/foreground_mask masks what `hints` point at"


def on_framework(request: ApiRequest, error: HTTPException) -> Response[bytes]:
    """An error of Litestar's router: no such path, or not this method."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        lacking = _HOSTED_ONLY.get(request.scope["path"])
        lead = f"{lacking}: {_INSTEAD}" if lacking else "There is no such path"
        return problem(
            request, errors.PathUnknown(f"{lead}; /reference lists those that there are.")
        )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow, method = (error.headers or {}).get("allow", ""), request.scope["method"]
        wrong = errors.MethodNotAllowed(f"This path does not take {method[:16]}; it takes {allow}.")
        wrong.allow = allow
        return problem(request, wrong)
    if isinstance(error, InternalServerException):  # so it calls a caller who hung up
        return problem(request, errors.BadJson("The connection broke off inside the body."))
    return on_crash(request, error)


def on_crash(request: ApiRequest, error: Exception) -> Response[bytes]:
    """An unforeseen error: the caller gets the request_id, the log the rest."""
    own = request.id
    log.error("http.crashed", request_id=own, exc_info=error)
    crash = errors.Internal(f"Something went wrong here; when you report it, quote request {own}.")
    return problem(request, crash)


HANDLERS: dict[int | type[Exception], Callable[..., Any]] = {
    errors.ForemaskError: on_foremask_error,
    HTTPException: on_framework,
    Exception: on_crash,
}
