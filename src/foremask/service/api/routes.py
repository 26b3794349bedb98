"""The table of the API's routes; one of them serves the document that describes them all."""

from functools import cache

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from foremask.service.api import (
    downloads,
    health,
    job_routes,
    pages,
    probe_routes,
    status_routes,
    uploads,
)
from foremask.service.api.endpoints import Operation
from foremask.service.api.openapi import build
from foremask.service.api.request_context import ApiRequest


@Operation(
    "operations",
    "The OpenAPI document.",
    {"application/json": {"schema": {"type": "object"}}},
    needs_token=False,
).reads("/openapi.json")
async def openapi(request: ApiRequest) -> ASGIResponse:
    """Read this document; /reference shows it to people."""
    return _document().answer(request)


@cache
def _document() -> pages.Page:
    return pages.page_of(msgspec.json.encode(build(HANDLERS)), ".json")


HANDLERS: tuple[HTTPRouteHandler, ...] = (
    job_routes.submit,
    job_routes.remove_background,
    job_routes.green_screen,
    job_routes.replace_background,
    job_routes.mask_by_key_points,
    job_routes.refine,
    probe_routes.preview,
    probe_routes.probe,
    status_routes.methods,
    status_routes.read_status,
    status_routes.cancel,
    status_routes.list_jobs,
    status_routes.read_job,
    status_routes.rename_job,
    status_routes.delete_job,
    uploads.start_upload,
    uploads.receive_upload,
    downloads.get_file,
    health.healthz,
    health.readyz,
    health.metrics,
    openapi,
    status_routes.read_strip,
    status_routes.read_newest_mask,
    job_routes.convert,
    probe_routes.show_clip,
    pages.named,
    pages.static,
    pages.documentation,
    pages.documentation_page,
)
