"""How the OpenAPI document writes an answer: a shape, a text, or the errors of a status."""

from collections import defaultdict
from http import HTTPStatus
from typing import Any

from foremask.errors import ForemaskError
from foremask.service.api import answer_examples, hint_schemas, schemas

type Json = dict[str, Any]
"""A part of the document: a JSON object."""

REF = "#/components/schemas/{name}"
SHAPES = (
    schemas.JobRequest,
    schemas.RemoveBackgroundRequest,
    schemas.GreenScreenRequest,
    schemas.ReplaceBackgroundRequest,
    schemas.MaskByKeyPointsRequest,
    hint_schemas.RefineRequest,
    hint_schemas.PreviewRequest,
    hint_schemas.Preview,
    schemas.Accepted,
    schemas.JobStatus,
    schemas.JobList,
    schemas.ListedJob,
    schemas.Problem,
    schemas.Strip,
    schemas.NewestMask,
    schemas.ConvertRequest,
    schemas.Probed,
    schemas.UploadRequest,
    schemas.UploadStarted,
    schemas.Readiness,
    schemas.Health,
)
RATE_HEADERS = {
    "RateLimit-Limit": "Requests that may come at once.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until all of them are back.",
}


def json_body(name: str, *, required: bool = True) -> Json:
    """A request body in the shape ``name``."""
    return {
        "required": required,
        "content": {"application/json": _shape(name)},
    }


def _shape(name: str) -> Json:
    return {"schema": {"$ref": REF.format(name=name)}, **answer_examples.of_shape(name)}


def json_response(description: str, name: str, headers: dict[str, str] | None = None) -> Json:
    """An answer in the shape ``name``."""
    answer = {
        "description": description,
        "content": {"application/json": _shape(name)},
    }
    return answer | ({"headers": integer_headers(headers)} if headers else {})


def any_json(description: str) -> Json:
    """An answer that is some JSON object."""
    return {
        "description": description,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }


def text(media_type: str) -> Json:
    """An answer in text of that type."""
    return {"description": "As text.", "content": {media_type: {"schema": {"type": "string"}}}}


def bodiless(answer: Json) -> Json:
    """The same answer to HEAD."""
    return {name: part for name, part in answer.items() if name != "content"}


def integer_headers(descriptions: dict[str, str]) -> Json:
    """Headers that an answer always has, each a whole number."""
    return {
        name: {
            "description": description,
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        }
        for name, description in descriptions.items()
    }


def refusals(*kinds: type[ForemaskError]) -> Json:
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
    answer: Json = {
        "description": "\n".join([HTTPStatus(code).phrase, "", *lines]),
        "content": {
            "application/json": {
                "schema": {
                    "allOf": [
                        {"$ref": REF.format(name="Problem")},
                        {"properties": {"error": error}},
                    ]
                },
                **answer_examples.of_reasons(*(kind.reason for kind in kinds)),
            }
        },
    }
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        answer["headers"] = integer_headers({"Retry-After": "Seconds to wait."})
    return answer
