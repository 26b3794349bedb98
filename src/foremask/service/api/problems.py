"""Errors as answers: the one place where an exception becomes a status, a body and headers."""

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Response
from litestar.exceptions import HTTPException, InternalServerException
from litestar.types import Scope

from foremask.errors import (
    BadJson,
    Busy,
    ForemaskError,
    Internal,
    MethodNotAllowed,
    PathUnknown,
    RangeInvalid,
    RateLimited,
    RequestUnknown,
    ServiceUnavailable,
)
from foremask.service.api.pages import read_pages
from foremask.service.api.request_context import REQUEST_ID, ApiRequest
from foremask.service.observability import metrics

log = structlog.get_logger(__name__)


def problem(scope: Scope, error: ForemaskError, allow: str | None = None) -> Response[bytes]:
    """The answer of an error; ``allow`` lists the allowed methods."""
    headers: dict[str, str] = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, RateLimited):
        headers |= {
            "RateLimit-Limit": f"{error.limit or 0:.0f}",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(math.ceil(error.reset_s)),
        }
    if isinstance(error, ServiceUnavailable):
        headers["Retry-After"] = "1"
    if isinstance(error, RangeInvalid):
        headers["Content-Range"] = f"bytes */{error.limit:.0f}"
    if allow is not None:
        headers["Allow"] = allow
    accepted = dict(scope["headers"]).get(b"accept", b"")
    if isinstance(error, PathUnknown) and b"text/html" in accepted:
        page = read_pages()["missing.html"]
        headers |= {"Content-Security-Policy": page.policy}
        return Response(page.content, status_code=404, headers=headers, media_type="text/html")
    body = {"request_id": scope[REQUEST_ID], "error": error.facts()}  # type: ignore[literal-required]
    if isinstance(error, RequestUnknown):
        body["status"] = "NOT_FOUND"  # the hosted service's own word, which its clients require
    return Response(
        msgspec.json.encode(body),
        status_code=error.status,
        headers={"Cache-Control": "no-store", **headers},
        media_type="application/json",
    )


def on_foremask_error(request: ApiRequest, error: ForemaskError) -> Response[bytes]:
    """An error of foremask."""
    metrics.refused(error.reason)
    if isinstance(
        error, ServiceUnavailable
    ):  # of many calls at once: where it was raised says nothing
        log.warning("http.unavailable", details=error.details)
    elif error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Busy):
        log.error("http.failed", reason=error.reason, exc_info=error)
    return problem(request.scope, error)


def on_framework(request: ApiRequest, error: HTTPException) -> Response[bytes]:
    """An error of Litestar's router: no such path, or not this method."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(
            request.scope,
            PathUnknown("There is no such path; /reference lists those that there are."),
        )
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = (error.headers or {}).get("allow", "")
        method = request.scope["method"]
        return problem(
            request.scope,
            MethodNotAllowed(f"This path does not take {method[:16]}; it takes {allow}."),
            allow,
        )
    if isinstance(error, InternalServerException):  # so it calls a caller who hung up
        return problem(request.scope, BadJson("The connection broke off inside the body."))
    return on_crash(request, error)


def on_crash(request: ApiRequest, error: Exception) -> Response[bytes]:
    """An unforeseen error: the caller gets the request_id, the log the rest."""
    request_id = request.scope[REQUEST_ID]  # type: ignore[literal-required]
    log.error("http.crashed", request_id=request_id, exc_info=error)
    return problem(
        request.scope,
        Internal(f"Something went wrong here; when you report it, quote request {request_id}."),
    )


HANDLERS: dict[int | type[Exception], Callable[..., Any]] = {
    ForemaskError: on_foremask_error,
    HTTPException: on_framework,
    Exception: on_crash,
}
