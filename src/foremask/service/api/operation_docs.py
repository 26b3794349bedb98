"""What the OpenAPI document says of each operation, by method and handler."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from foremask import errors
from foremask.errors import ForemaskError
from foremask.service.api.job_routes import SUBMIT_PATHS
from foremask.service.api.response_docs import (
    RATE_HEADERS,
    Json,
    any_json,
    integer_headers,
    json_body,
    json_response,
    text,
)

type Reasons = tuple[type[ForemaskError], ...]

TOKEN: Reasons = (errors.TokenMissing, errors.TokenInvalid)
CHARGED: Reasons = (*TOKEN, errors.QuotaExhausted, errors.RateLimited)
BODY: Reasons = (
    errors.BodyTooLarge,
    errors.ContentTypeWrong,
    errors.BadJson,
)
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
READ: Reasons = (*TOKEN, errors.RequestUnknown, errors.RateLimited, *ALWAYS)

PAGES = frozenset({"/", "/reference", "/static/{name:path}", "/docs", "/docs/{name:path}"})
"""Routes that are for people: no operations."""

ALIASES = {
    path: "submit_by_" + path.strip("/").removeprefix("v2/video/").partition("/")[0]
    for path in SUBMIT_PATHS[1:]
}
"""Operation ids of one call under its other paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a reader should know of one operation besides its path, method and status.

    ``answer`` is the one under the route's own status; ``refused`` are the errors that it can give.
    """

    operation_id: str
    tag: str
    summary: str
    answer: Json
    other_answers: Mapping[int, Json] = field(default_factory=dict)
    refused: Reasons = ()
    description: str = ""
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    needs_token: bool = True


def _in_path(name: str, description: str | None = None) -> Json:
    schema = {"type": "string", "minLength": 1}
    prose = {"description": description} if description else {}
    return {"name": name, "in": "path", "required": True, "schema": schema, **prose}


def _in_header(name: str) -> Json:
    return {"name": name, "in": "header", "schema": {"type": "string"}}


def _in_query(name: str) -> Json:
    return {"name": name, "in": "query", "required": True, "schema": {"type": "string"}}


def _optional(name: str, schema: Json, description: str = "") -> Json:
    prose = {"description": description} if description else {}
    return {"name": name, "in": "query", "schema": schema, **prose}


_REQUEST_ID = _in_path("request_id")
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes the request safe to send again: same key and body, same job.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
_FORM_FIELDS = {name: {"type": "string"} for name in ("key", "expires", "max_bytes", "media_type")}
_FORM: Json = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [*_FORM_FIELDS, "signature", "file"],
                "properties": {
                    **_FORM_FIELDS,
                    "signature": {"type": "string"},
                    "Content-Type": {"type": "string"},
                    "file": {"type": "string", "contentMediaType": "video/*, image/*"},
                },
            }
        }
    },
}
_FILE: Json = {
    "content": {
        "video/*": {},
        "image/gif": {},
        "image/apng": {},
        "image/webp": {},
        "application/zip": {},
        "application/octet-stream": {},
    }
}


def _sibling(
    name: str, body: str, summary: str, description: str = "", more: Reasons = ()
) -> Operation:
    """A call that starts a job as `submit` does, and makes something else than a mask."""
    return Operation(
        operation_id=name,
        tag="jobs",
        summary=summary,
        description=description + "Status, errors, webhooks and limits are those of a mask's job.",
        parameters=(_IDEMPOTENCY_KEY,),
        body=json_body(body),
        answer=json_response("The job exists.", "Accepted", RATE_HEADERS),
        other_answers={
            200: json_response("With sync, the job has ended.", "JobStatus", RATE_HEADERS)
        },
        refused=(*CHARGED, *BODY, *SUBMISSION, *more, *ADMISSION, *ALWAYS),
    )


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("POST", "submit"): Operation(
        operation_id="submit",
        tag="jobs",
        summary="Start a job",
        description="The service probes the clip for up to 8 s before it answers, and refuses a "
        "clip that it cannot mask. Where the origin is slower, the answer is 202, and the job's "
        "status reports the same error later.",
        parameters=(_IDEMPOTENCY_KEY,),
        body=json_body("JobRequest"),
        answer=json_response("The job exists.", "Accepted", RATE_HEADERS),
        other_answers={
            200: json_response("With sync, the job has ended.", "JobStatus", RATE_HEADERS)
        },
        refused=(*CHARGED, *BODY, *SUBMISSION, *ADMISSION, *ALWAYS),
    ),
    ("POST", "remove_background"): _sibling(
        "remove_background",
        "RemoveBackgroundRequest",
        "Cut the subject out",
        "Onto nothing, with straight alpha, or onto a colour. ",
    ),
    ("POST", "green_screen"): _sibling(
        "green_screen", "GreenScreenRequest", "Put the subject before a green or blue screen"
    ),
    ("POST", "replace_background"): _sibling(
        "replace_background",
        "ReplaceBackgroundRequest",
        "Put the subject before a picture or a video",
        "One of background_url and background is required. ",
        (errors.BackgroundInvalid,),
    ),
    ("GET", "status"): Operation(
        operation_id="read_status",
        tag="jobs",
        summary="Read the status of a job",
        parameters=(_REQUEST_ID,),
        answer=json_response("The job is known; it may have failed.", "JobStatus"),
        refused=READ,
    ),
    ("GET", "jobs"): Operation(
        operation_id="list_jobs",
        tag="jobs",
        summary="List the jobs of this token",
        description="Returns the newest jobs first, a page at a time.",
        parameters=(
            _optional("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
            _optional(
                "before",
                {"type": "string", "minLength": 1},
                "The next of the page before: jobs that are older than this one.",
            ),
            _optional(
                "conversions",
                {"type": "boolean", "default": True},
                "Whether to list jobs that only encoded a mask in another preset.",
            ),
        ),
        answer=json_response("A page of jobs.", "JobList"),
        refused=(*READ, errors.FieldInvalid),
    ),
    ("GET", "job"): Operation(
        operation_id="read_job",
        tag="jobs",
        summary="Read one job of the list",
        description="Returns the entry of the list, with source_url while the clip is stored. Both "
        "links lead to this service and are good for a day.",
        parameters=(_REQUEST_ID,),
        answer=json_response("The job.", "ListedJob"),
        refused=READ,
    ),
    ("DELETE", "status"): Operation(
        operation_id="cancel",
        tag="jobs",
        summary="Cancel a job",
        description="The job's status becomes ERROR with code 410 and reason cancelled. A job that "
        "has ended stays as it is.",
        parameters=(_REQUEST_ID,),
        answer=json_response("The status of the job.", "JobStatus"),
        refused=READ,
    ),
    ("GET", "strip"): Operation(
        operation_id="read_strip",
        tag="jobs",
        summary="Read coverage and change of each frame",
        description="For each frame of a completed job: its time in seconds, how much of it is "
        "foreground, and how much the mask changed since the frame before, both from 0 to 1.",
        parameters=(_REQUEST_ID,),
        answer=json_response("The strip.", "Strip"),
        refused=READ,
    ),
    ("GET", "newest_mask"): Operation(
        operation_id="read_newest_mask",
        tag="jobs",
        summary="See the newest mask of a job under way",
        description="A small picture of the newest frame's mask, before its edges are refined; "
        "null before the first one and when the job has ended. It is renewed every two seconds.",
        parameters=(_REQUEST_ID,),
        answer=json_response("The picture, or null.", "NewestMask"),
        refused=READ,
    ),
    ("POST", "convert"): Operation(
        operation_id="convert",
        tag="jobs",
        summary="Make something else of a mask or a cut-out",
        description="Starts a job that works on the stored mask and does not run the network: it "
        "takes seconds. A mask in another preset, or worked on with the matte tools; or its clip "
        "cut out by it. The mask of a cut-out is stored beside it, before any matte tool.",
        parameters=(_REQUEST_ID,),
        body=json_body("ConvertRequest"),
        answer=json_response("The job exists.", "Accepted", RATE_HEADERS),
        refused=(
            *CHARGED,
            *BODY,
            *SUBMISSION,
            errors.BackgroundInvalid,
            errors.RequestUnknown,
            errors.TooManyJobs,
            errors.QueueFull,
            errors.StorageQuota,
            *ALWAYS,
        ),
    ),
    ("POST", "mask_by_key_points"): _sibling(
        "mask_by_key_points",
        "MaskByKeyPointsRequest",
        "Mask the thing at some points",
        "In all frames, from points on one of them. ",
    ),
    ("POST", "refine"): Operation(
        operation_id="refine",
        tag="jobs",
        summary="The same again, with more hints",
        description="Starts a job that makes the same of the same clip as one that has completed.",
        parameters=(_REQUEST_ID,),
        body=json_body("RefineRequest"),
        answer=json_response("The job exists.", "Accepted", RATE_HEADERS),
        refused=(
            *CHARGED,
            *BODY,
            *SUBMISSION,
            errors.RequestUnknown,
            errors.TooManyJobs,
            errors.QueueFull,
            errors.StorageQuota,
            *ALWAYS,
        ),
    ),
    ("POST", "preview"): Operation(
        operation_id="preview",
        tag="jobs",
        summary="The mask of one picture, at once",
        description="What hints do on their frame, before a job is started. All hints are on the "
        "picture, whatever their moment, and at most 16. A token has one picture in work and one "
        "that waits; the newest waits, and the older one is cancelled.",
        body=json_body("PreviewRequest"),
        answer=json_response("The mask.", "Preview", RATE_HEADERS),
        refused=(
            *CHARGED,
            *BODY,
            errors.FieldInvalid,
            errors.ModelUnavailable,
            errors.JobCancelled,
            *ALWAYS,
        ),
    ),
    ("POST", "probe"): Operation(
        operation_id="probe",
        tag="jobs",
        summary="Check a clip without starting a job",
        description="Takes the same body as a job. The answer has the facts of the clip, or the "
        "error that a job would get.",
        body=json_body("JobRequest"),
        answer=json_response("The facts of the clip.", "Probed", RATE_HEADERS),
        refused=(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
    ),
    ("POST", "start_upload"): Operation(
        operation_id="start_upload",
        tag="uploads",
        summary="Get a form for an upload",
        body=json_body("UploadRequest", required=False),
        answer=json_response("The form.", "UploadStarted", RATE_HEADERS),
        refused=(*CHARGED, *BODY, errors.FieldInvalid, *ALWAYS),
    ),
    ("POST", "receive_upload"): Operation(
        operation_id="receive_upload",
        tag="uploads",
        summary="Upload a file by its form",
        description="The form's signature is the permission: no token is needed. Send all fields "
        "before the file.",
        needs_token=False,
        body=_FORM,
        answer={"description": "Stored."},
        refused=(
            errors.LinkInvalid,
            errors.ContentTypeWrong,
            errors.FormInvalid,
            errors.FieldInvalid,
            errors.FileTooLarge,
            *ALWAYS,
        ),
    ),
    ("GET", "download"): Operation(
        operation_id="get_file",
        tag="jobs",
        summary="Fetch a result by its signed link",
        needs_token=False,
        parameters=(
            _in_path("key"),
            _in_query("expires"),
            _in_query("signature"),
            _optional(
                "name",
                {"type": "string"},
                "What a browser saves the file as; its suffix must be the file's own.",
            ),
            *map(_in_header, ("Range", "If-Match", "If-None-Match", "If-Range")),
        ),
        answer={"description": "The whole file.", **_FILE},
        other_answers={
            206: {"description": "The bytes of the range.", **_FILE},
            304: {"description": "The caller's copy is current."},
        },
        refused=(
            errors.LinkInvalid,
            errors.RequestUnknown,
            errors.PreconditionFailed,
            errors.RangeInvalid,
            *ALWAYS,
        ),
    ),
    ("POST", "clip"): Operation(
        operation_id="show_clip",
        tag="playground",
        summary="Download a clip through the service",
        description="The playground shows clips with it. A job must accept the clip, which "
        "may have at most 128 MiB.",
        body=json_body("JobRequest"),
        answer={
            "description": "The clip as it is.",
            "headers": integer_headers(RATE_HEADERS),
            "content": {"application/octet-stream": {}},
        },
        refused=(*CHARGED, *BODY, *SUBMISSION, *ALWAYS),
    ),
    ("GET", "healthz"): Operation(
        operation_id="healthz",
        tag="operations",
        summary="Check that the process answers",
        needs_token=False,
        answer=json_response("The process answers.", "Health"),
    ),
    ("GET", "readyz"): Operation(
        operation_id="readyz",
        tag="operations",
        summary="Check that the service can accept a job",
        needs_token=False,
        answer=json_response("The service is ready.", "Readiness"),
        other_answers={
            503: json_response("The service is not ready; the checks say why.", "Readiness")
        },
    ),
    ("GET", "metrics_page"): Operation(
        operation_id="metrics",
        tag="operations",
        summary="Read the metrics for Prometheus",
        needs_token=False,
        answer=text("text/plain"),
        refused=ALWAYS,
    ),
    ("GET", "document"): Operation(
        operation_id="openapi",
        tag="operations",
        summary="Read this document",
        needs_token=False,
        answer=any_json("The OpenAPI document."),
    ),
}
