"""The table of the API's routes; one of them serves the document that describes them all."""

from functools import cache

import msgspec
from litestar.response.base import ASGIResponse

from foremask.service.api import (
    downloads,
    health,
    hint_routes,
    job_list,
    job_routes,
    openapi,
    pages,
    playground_routes,
    uploads,
)
from foremask.service.api.operation_docs import documented
from foremask.service.api.request_context import ApiRequest, readable


@readable(
    "/openapi.json",
    opt=documented(
        "operations",
        "The OpenAPI document.",
        content={"application/json": {"schema": {"type": "object"}}},
        needs_token=False,
        operation_id="openapi",
    ),
)
async def document(request: ApiRequest) -> ASGIResponse:
    """Read this document.

    /reference shows it to people.
    """
    return _document().answer(request)


@cache
def _document() -> pages.Page:
    return pages.page_of(msgspec.json.encode(openapi.build(HANDLERS)), ".json")


HANDLERS = (
    job_routes.submit,
    job_routes.remove_background,
    job_routes.green_screen,
    job_routes.replace_background,
    job_routes.mask_by_key_points,
    hint_routes.refine,
    hint_routes.preview,
    job_routes.probe,
    job_routes.status,
    job_list.jobs,
    job_list.job,
    uploads.start_upload,
    uploads.receive_upload,
    downloads.download,
    health.healthz,
    health.readyz,
    health.metrics_page,
    document,
    playground_routes.strip,
    playground_routes.newest_mask,
    playground_routes.convert,
    playground_routes.clip,
    pages.named,
    pages.static,
    pages.documentation,
    pages.documentation_page,
)
