"""The OpenAPI 3.1 document, made of the shapes, the presets and the error tree: exact for every status."""

from collections import defaultdict
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from litestar.response.base import ASGIResponse

from foremask import errors
from foremask.errors import ForemaskError
from foremask.service.api import schemas
from foremask.service.api.job_routes import SUBMIT_PATHS
from foremask.service.api.remedies import REMEDIES
from foremask.service.api.request_context import readable
from foremask.service.jobs.webhook_inbox import RECEIVER_PATH
from foremask.service.storage.objects import FILES_PATH, FORM_PATH

type Json = dict[str, Any]
type Reasons = tuple[type[ForemaskError], ...]

TOKEN: Reasons = (errors.TokenMissing, errors.TokenInvalid)
CHARGED: Reasons = (*TOKEN, errors.QuotaExhausted, errors.RateLimited)
BODY: Reasons = (errors.BodyTooLarge, errors.ContentTypeWrong, errors.BadJson)
ALWAYS: Reasons = (
    errors.Internal,
    errors.ServiceUnavailable,
    errors.Overloaded,
    errors.StorageFull,
)
SUBMISSION: Reasons = (
    errors.VideoMissing,
    errors.VideoInvalid,
    errors.PresetUnknown,
    errors.FieldInvalid,
    errors.WebhookInvalid,
    *errors.UrlRefused.__subclasses__(),
    *errors.ClipRefused.__subclasses__(),
)
ADMISSION: Reasons = (
    errors.IdempotencyMismatch,
    errors.TooManyJobs,
    errors.QueueFull,
    errors.StorageQuota,
)

_SHAPES = (
    schemas.JobRequest,
    schemas.Accepted,
    schemas.JobStatus,
    schemas.Problem,
    schemas.Strip,
    schemas.ConvertRequest,
    schemas.MaskLink,
    schemas.ReceiverAnswer,
    schemas.Probed,
    schemas.UploadRequest,
    schemas.UploadStarted,
    schemas.Readiness,
    schemas.Health,
)
_REF = "#/components/schemas/{name}"
_RATE = {
    "RateLimit-Limit": "Requests that may come at once.",
    "RateLimit-Remaining": "How many of them are left.",
    "RateLimit-Reset": "Seconds until all of them are back.",
}


@readable("/openapi.json")
async def document() -> ASGIResponse:
    """The document, for machines; /docs shows it to people."""
    return ASGIResponse(
        body=_encoded(), media_type="application/json", headers={"Cache-Control": "no-cache"}
    )


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(build())


def build() -> Json:
    """The whole document."""
    _, components = msgspec.json.schema_components(_SHAPES, ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "foremask",
            "version": version("foremask"),
            "summary": "Foreground masks for video.",
            "description": "Send the URL of a clip, get a video of the same size, frames, timing and "
            "sound in which white is the foreground.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "x-reasons": {
            reason: {"code": kind.code, "means": kind.__doc__, "remedy": REMEDIES[reason]}
            for reason, kind in sorted(errors.BY_REASON.items())
            if reason in REMEDIES
        },
        "security": [{"api_token": []}, {"bearer": []}, {"x_api_key": []}],
        "tags": [
            {"name": "jobs", "description": "Submit a clip, follow the job, fetch the mask."},
            {"name": "uploads", "description": "For a clip that no server has."},
            {"name": "playground", "description": "What the page at / needs besides."},
            {"name": "operations", "description": "For whoever runs the service."},
        ],
        "paths": _with_heads(
            {
                SUBMIT_PATHS[0]: {"post": _submit("submit")},
                **{path: {"post": _submit(_alias(path))} for path in SUBMIT_PATHS[1:]},
                "/v2/status/{request_id}": {"get": _status(), "delete": _cancel()},
                "/v2/status/{request_id}/strip": {"get": _strip()},
                "/v2/status/{request_id}/convert": {"post": _convert()},
                "/v2/video/probe": {"post": _probe()},
                "/v2/video/upload": {"post": _upload()},
                FORM_PATH: {"post": _form()},
                FILES_PATH + "{key}": {"get": _file()},
                "/v2/playground/masks/{request_id}": {"get": _mask()},
                RECEIVER_PATH: {"get": _deliveries()},
                RECEIVER_PATH + "/{token}": {"post": _receive()},
                "/v2/playground/clip": {"post": _clip()},
                "/healthz": {"get": _open("healthz", "Alive?", {"200": _json("Yes.", "Health")})},
                "/readyz": {
                    "get": _open(
                        "readyz",
                        "Ready for a job?",
                        {
                            "200": _json("Yes.", "Readiness"),
                            "503": _json("No; the checks say why.", "Readiness"),
                        },
                    )
                },
                "/metrics": {
                    "get": _open(
                        "metrics", "Counters for Prometheus", {"200": _text("text/plain")}, ALWAYS
                    )
                },
                "/openapi.json": {
                    "get": _open(
                        "openapi", "This document", {"200": _any_json("The OpenAPI document.")}
                    )
                },
                "/docs": {
                    "get": _open("docs", "This document for people", {"200": _text("text/html")})
                },
            }
        ),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "api_token": {"type": "apiKey", "in": "header", "name": "api_token"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _alias(path: str) -> str:
    """The operation id of the same call under another path."""
    return "submit_by_" + (path.strip("/").removeprefix("v2/video/").partition("/")[0])


def _with_heads(paths: Json) -> Json:
    """The same paths with a HEAD wherever there is a GET: the same answers, without their bodies."""
    for methods in paths.values():
        if (descriptions := methods.get("get")) and "head" not in methods:
            answers = {
                code: {name: part for name, part in answer.items() if name != "content"}
                for code, answer in descriptions["responses"].items()
            }
            methods["head"] = {
                **descriptions,
                "operationId": f"head_{descriptions['operationId']}",
                "summary": f"{descriptions['summary'].rstrip('?')}: only the headers",
                "responses": answers,
            }
    return paths


def _submit(operation_id: str) -> Json:
    return {
        "operationId": operation_id,
        "tags": ["jobs"],
        "summary": "Start a job",
        "description": "The clip is looked at for up to 8 s before the answer: what is wrong with it is "
        "the answer. A slower origin gets 202, and the same error later as the job's status.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Makes the request safe to send again: same key and body, same job.",
                "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
            }
        ],
        "requestBody": _body("JobRequest"),
        "responses": {
            "200": _json("With sync, the job has ended.", "JobStatus", _RATE),
            "202": _json("The job exists.", "Accepted", _RATE),
            **_refusals(*CHARGED, *BODY, *SUBMISSION, *ADMISSION, *ALWAYS),
        },
    }


def _status() -> Json:
    return {
        "operationId": "read_status",
        "tags": ["jobs"],
        "summary": "Where a job is",
        "parameters": [_REQUEST_ID],
        "responses": {
            "200": _json("Every known job, failed ones too.", "JobStatus"),
            **_refusals(*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS),
        },
    }


def _cancel() -> Json:
    return {
        "operationId": "cancel",
        "tags": ["jobs"],
        "summary": "Cancel a job",
        "description": "It then reads as status ERROR, code 410, reason cancelled; one that has ended "
        "stays as it is.",
        "parameters": [_REQUEST_ID],
        "responses": {
            "200": _json("What the job is now.", "JobStatus"),
            **_refusals(*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS),
        },
    }


_REQUEST_ID: Json = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}


def _probe() -> Json:
    return {
        "operationId": "probe",
        "tags": ["jobs"],
        "summary": "Ask what a job would be told",
        "description": "The same body as a job's; nothing is started.",
        "requestBody": _body("JobRequest"),
        "responses": {
            "200": _json("What the clip is.", "Probed", _RATE),
            **_refusals(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
        },
    }


def _strip() -> Json:
    return {
        "operationId": "read_strip",
        "tags": ["jobs"],
        "summary": "Coverage and change, frame by frame",
        "description": "For each frame of a completed job: its time in seconds, how much of it is "
        "foreground, and how much the mask changed since the frame before, both from 0 to 1.",
        "parameters": [_REQUEST_ID],
        "responses": {
            "200": _json("The strip.", "Strip"),
            **_refusals(*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS),
        },
    }


def _convert() -> Json:
    return {
        "operationId": "convert",
        "tags": ["jobs"],
        "summary": "Have a mask in another preset",
        "description": "Starts a job that encodes the stored mask again and asks the network nothing: it "
        "takes seconds. Frames, times and sound are those of the mask that there is.",
        "parameters": [_REQUEST_ID],
        "requestBody": _body("ConvertRequest"),
        "responses": {
            "202": _json("The job exists.", "Accepted", _RATE),
            **_refusals(
                *CHARGED,
                *BODY,
                errors.PresetUnknown,
                errors.RequestUnknown,
                errors.TooManyJobs,
                errors.QueueFull,
                *ALWAYS,
            ),
        },
    }


def _mask() -> Json:
    return {
        "operationId": "show_mask",
        "tags": ["playground"],
        "summary": "A link to a mask at this address",
        "description": "Where results lie in a cloud's store, result.video_url leads there; this one does not.",
        "parameters": [_REQUEST_ID],
        "responses": {
            "200": _json("The link, good for a day.", "MaskLink"),
            **_refusals(*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS),
        },
    }


def _deliveries() -> Json:
    return {
        "operationId": "read_deliveries",
        "tags": ["playground"],
        "summary": "The playground's webhook receiver",
        "description": "The URL to send as webhook_url, and the last 20 callbacks of this token that came "
        "within the hour.",
        "responses": {
            "200": _json("URL and callbacks.", "ReceiverAnswer"),
            **_refusals(*TOKEN, errors.RateLimited, *ALWAYS),
        },
    }


def _receive() -> Json:
    headers = ("Id", "Timestamp", "Signature")
    return {
        "operationId": "receive_callback",
        "tags": ["playground"],
        "summary": "Where the service calls itself back",
        "description": "Takes only what this service has signed for the token in the last five minutes.",
        "security": [],
        "parameters": [
            {
                "name": "token",
                "in": "path",
                "required": True,
                "description": "The token's id, not the token.",
                "schema": {"type": "string", "minLength": 1},
            },
            *(
                {"name": f"Bria-Webhook-{name}", "in": "header", "schema": {"type": "string"}}
                for name in headers
            ),
        ],
        "responses": {
            "204": {"description": "Kept for an hour."},
            **_refusals(errors.LinkInvalid, errors.BodyTooLarge, *ALWAYS),
        },
    }


def _clip() -> Json:
    return {
        "operationId": "show_clip",
        "tags": ["playground"],
        "summary": "The bytes of a clip, for the page to show",
        "description": "The clip must be one that a job would accept, of at most 128 MiB.",
        "requestBody": _body("JobRequest"),
        "responses": {
            "200": {
                "description": "The clip as it is.",
                "headers": _headers(_RATE),
                "content": {"application/octet-stream": {}},
            },
            **_refusals(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
        },
    }


def _upload() -> Json:
    return {
        "operationId": "start_upload",
        "tags": ["uploads"],
        "summary": "Get a form for an upload",
        "requestBody": {**_body("UploadRequest"), "required": False},
        "responses": {
            "200": _json("The form.", "UploadStarted", _RATE),
            **_refusals(*CHARGED, *BODY, errors.FieldInvalid, *ALWAYS),
        },
    }


def _form() -> Json:
    fields = {name: {"type": "string"} for name in ("key", "expires", "max_bytes", "media_type")}
    return {
        "operationId": "receive_upload",
        "tags": ["uploads"],
        "summary": "Upload a file by its form",
        "description": "The form's signature is the permission. All fields come before the file.",
        "security": [],
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": [*fields, "signature", "file"],
                        "properties": {
                            **fields,
                            "signature": {"type": "string"},
                            "Content-Type": {"type": "string"},
                            "file": {"type": "string", "contentMediaType": "video/*"},
                        },
                    }
                }
            },
        },
        "responses": {
            "204": {"description": "Stored."},
            **_refusals(
                errors.LinkInvalid,
                errors.ContentTypeWrong,
                errors.FormInvalid,
                errors.FieldInvalid,
                errors.FileTooLarge,
                *ALWAYS,
            ),
        },
    }


def _file() -> Json:
    content: Json = {"video/*": {}, "image/gif": {}, "application/octet-stream": {}}
    body: Json = {"content": content}
    refused = _refusals(
        errors.LinkInvalid,
        errors.RequestUnknown,
        errors.PreconditionFailed,
        errors.RangeInvalid,
        *ALWAYS,
    )
    return {
        "operationId": "get_file",
        "tags": ["jobs"],
        "summary": "Fetch a mask by its signed link",
        "security": [],
        "parameters": [
            {
                "name": "key",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            },
            {"name": "expires", "in": "query", "required": True, "schema": {"type": "string"}},
            {"name": "signature", "in": "query", "required": True, "schema": {"type": "string"}},
            {"name": "Range", "in": "header", "schema": {"type": "string"}},
            {"name": "If-Match", "in": "header", "schema": {"type": "string"}},
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            {"name": "If-Range", "in": "header", "schema": {"type": "string"}},
        ],
        "responses": {
            "200": {"description": "The whole file.", **body},
            "206": {"description": "The bytes of the range.", **body},
            "304": {"description": "The caller has it already."},
            **refused,
        },
    }


def _open(operation_id: str, summary: str, responses: Json, refused: Reasons = ()) -> Json:
    return {
        "operationId": operation_id,
        "tags": ["operations"],
        "summary": summary,
        "security": [],
        "responses": {**responses, **_refusals(*refused)},
    }


def _body(name: str) -> Json:
    return {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=name)}}},
    }


def _json(description: str, name: str, headers: dict[str, str] | None = None) -> Json:
    answer = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name=name)}}},
    }
    return answer | ({"headers": _headers(headers)} if headers else {})


def _any_json(description: str) -> Json:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }


def _text(media_type: str) -> Json:
    return {"description": "As text.", "content": {media_type: {"schema": {"type": "string"}}}}


def _headers(descriptions: dict[str, str]) -> Json:
    return {
        name: {
            "description": description,
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        }
        for name, description in descriptions.items()
    }


def _refusals(*kinds: type[ForemaskError]) -> Json:
    """An answer for each status among ``kinds``, with the reasons that it can have."""
    by_code: defaultdict[int, list[type[ForemaskError]]] = defaultdict(list)
    for kind in dict.fromkeys(kinds):
        by_code[kind.code].append(kind)
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
                        {"$ref": _REF.format(name="Problem")},
                        {"properties": {"error": error}},
                    ]
                }
            }
        },
    }
    if code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        answer["headers"] = _headers({"Retry-After": "Seconds to wait."})
    return answer
