"""Examples for the OpenAPI document: bodies and answers of each shape, one for each error."""

from http import HTTPStatus
from typing import Any, Final

from foremask.errors import ERROR_TABLE

type Json = dict[str, Any]

_ID: Final = "0b1f6e0c5d2a4f6e9a3b7c8d9e0f1a2b"
_FAILED_ID: Final = "5c2a8f7b1e3d4a6c8b9f0a1b2c3d4e5f"
_HOST: Final = "https://masks.example.com"
_UPLOADED: Final = f"{_HOST}/v2/files/uploads/6c1d.mp4?expires=1764201600&signature=c2ln"
_MASK: Final = f"{_HOST}/v2/files/results/{_ID}.mp4?expires=1764115200&signature=M2Yx"
_PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)
_AUDIO: Final = {"codec": "aac", "channels": 2, "sample_rate": 48000}
_REPORT: Final[Json] = {
    "frames_in": 240,
    "frames_out": 240,
    "duration_s": 10.0,
    "fps": 24.0,
    "duration_drift_ms": 0.0,
    "coverage": 0.31,
    "flicker": 0.004,
    "sha256": "9f2c4d1b7a6e8f3059c1d2e4b6a7980f1e2d3c4b5a69788796a5b4c3d2e1f00f",
    "bytes": 812_344,
}
_LISTED: Final[Json] = {
    "request_id": _ID,
    "status": "COMPLETED",
    "output_container_and_codec": "mp4_h264",
    "quality": "balanced",
    "name": "clip.mp4",
    "created_at": "2026-11-25T20:15:00Z",
    "ended_at": "2026-11-25T20:15:41Z",
    "result": {"video_url": _MASK, "mask_url": _MASK, "kind": "mask"},
}


def _error(reason: str, code: int, details: str, **more: object) -> Json:
    message = HTTPStatus(code).phrase
    return {"code": code, "message": message, "details": details, "reason": reason, **more}


def _cancelled() -> Json:
    return _error("cancelled", 410, "The job was cancelled.")


def _too_long() -> Json:
    details = "The clip is 61.0 s long; at most 60 s are taken."
    return _error("duration_too_long", 400, details, param="video", limit=60, actual=61)


EXAMPLES: Final[dict[str, dict[str, tuple[str, Json]]]] = {
    "JobRequest": {
        "shortest": ("Only the clip", {"video": "https://example.com/clip.mp4"}),
        "everything": (
            "Another format, the best quality, a callback",
            {
                "video": "https://example.com/clip.mp4",
                "output_container_and_codec": "webm_vp9",
                "quality": "best",
                "webhook_url": "https://example.com/hooks/foremask",
                "sync": False,
            },
        ),
    },
    "RemoveBackgroundRequest": {
        "transparent": ("A transparent background", {"video": "https://example.com/clip.mp4"}),
        "white": (
            "A white background",
            {
                "video": "https://example.com/clip.mp4",
                "background_color": "White",
                "output_container_and_codec": "mp4_h264",
            },
        ),
    },
    "GreenScreenRequest": {
        "blue": (
            "A blue screen",
            {"video": "https://example.com/clip.mp4", "green_shade": "blue_screen"},
        )
    },
    "ReplaceBackgroundRequest": {
        "picture": (
            "A picture behind the subject",
            {
                "video": "https://example.com/clip.mp4",
                "background_url": "https://example.com/beach.jpg",
            },
        ),
        "blurred": (
            "The clip itself, blurred",
            {"video": "https://example.com/clip.mp4", "background": "blur:30"},
        ),
    },
    "MaskByKeyPointsRequest": {
        "points": (
            "This thing, and not that one",
            {
                "video": "https://example.com/clip.mp4",
                "key_points": [
                    {"x": 640, "y": 360, "type": "positive"},
                    {"x": 900, "y": 420, "type": "negative"},
                ],
                "frame_index": 12,
            },
        )
    },
    "RefineRequest": {
        "point": (
            "One point on a later frame",
            {"hints": [{"type": "point", "x": 640, "y": 360, "frame": 48}]},
        )
    },
    "ConvertRequest": {
        "prores": ("ProRes", {"output_container_and_codec": "mov_proresks"}),
        "softer": ("A mask with a softer outline", {"feather_px": 2}),
        "cutout": (
            "The clip cut out, half a pixel tighter",
            {"kind": "cutout", "video": "https://example.com/clip.mp4", "grow_px": -0.5},
        ),
        "composite": (
            "The clip before white, from an upload that is still kept",
            {"kind": "composite", "background": "white"},
        ),
    },
    "UploadRequest": {"mp4": ("An MP4 file", {"media_type": "video/mp4"})},
    "Accepted": {
        "accepted": (
            "The job is queued",
            {"request_id": _ID, "status_url": f"{_HOST}/v2/status/{_ID}"},
        )
    },
    "JobStatus": {
        "completed": (
            "The mask is ready",
            {
                "request_id": _ID,
                "status": "COMPLETED",
                "result": {
                    "video_url": _MASK,
                    "mask_url": _MASK,
                    "kind": "mask",
                    "report": _REPORT,
                },
            },
        ),
        "waiting": (
            "The job waits for its turn",
            {"request_id": _ID, "status": "IN_PROGRESS", "progress": 0, "queue_position": 3},
        ),
        "working": (
            "The job runs",
            {
                "request_id": _ID,
                "status": "IN_PROGRESS",
                "progress": 40,
                "stage": "masking",
                "frames_done": 96,
                "frames_total": 240,
                "eta_s": 14.5,
            },
        ),
        "failed": (
            "The clip cannot be masked",
            {"request_id": _ID, "status": "ERROR", "error": _too_long()},
        ),
        "cancelled": (
            "The job was cancelled",
            {"request_id": _ID, "status": "ERROR", "error": _cancelled()},
        ),
    },
    "Strip": {
        "frames": (
            "Time, coverage and change of three frames",
            {
                "request_id": _ID,
                "result": {"frames": [[0, 0.31, 0], [0.0417, 0.312, 0.004], [0.0833, 0.31, 0.003]]},
            },
        )
    },
    "NewestMask": {
        "working": ("A job that is being masked", {"request_id": _ID, "result": {"mask": _PNG}}),
        "early": ("No frame has a mask yet", {"request_id": _ID, "result": {"mask": None}}),
    },
    "ListedJob": {"completed": ("A job that is done", _LISTED)},
    "JobList": {
        "page": (
            "One page, and the name of the next",
            {"request_id": _FAILED_ID, "result": {"jobs": [_LISTED], "next": _ID}},
        )
    },
    "Probed": {
        "clip": (
            "A clip that a job would accept",
            {
                "request_id": _ID,
                "result": {
                    "container": "mp4",
                    "codec": "h264",
                    "width": 1920,
                    "height": 1080,
                    "rotation": 0,
                    "fps": 24.0,
                    "vfr": False,
                    "frames": 240,
                    "duration_s": 10.0,
                    "audio": [_AUDIO],
                },
            },
        )
    },
    "UploadStarted": {
        "form": (
            "The form for one file",
            {
                "request_id": _ID,
                "result": {
                    "upload_url": f"{_HOST}/v2/uploads",
                    "upload_fields": {
                        "key": "uploads/6c1d.mp4",
                        "expires": "1764115200",
                        "max_bytes": "1073741824",
                        "media_type": "video/mp4",
                        "signature": "ZmFrZQ",
                    },
                    "file_url": _UPLOADED,
                },
            },
        )
    },
    "Readiness": {
        "ready": (
            "Every check passes",
            {
                "status": "ready",
                "checks": {"database": "ok", "objects": "ok"},
                "sandbox": "namespaces, landlock, seccomp",
            },
        )
    },
    "Health": {"ok": ("The process answers", {"status": "ok"})},
}
"""By shape and name: a title, and the JSON."""


def example_components() -> Json:
    """All examples as OpenAPI components, those of shapes first and then one for each reason."""
    shapes = {
        f"{shape}.{name}": {"summary": title, "value": value}
        for shape, named in EXAMPLES.items()
        for name, (title, value) in named.items()
    }
    errors = {}
    for kind in ERROR_TABLE:
        param = {"param": kind.usual_param} if kind.usual_param else {}
        details = " ".join((kind.__doc__ or "").split())
        value: Json = {
            "request_id": _FAILED_ID,
            "error": _error(kind.reason, kind.status, details, **param),
        }
        if kind.reason == "request_unknown":
            value["status"] = "NOT_FOUND"
        errors[kind.reason] = {"summary": kind.reason, "description": kind.remedy, "value": value}
    return shapes | errors


def of_shape(shape: str) -> Json:
    """References to the examples of a shape; empty where it has none."""
    named = {name: _reference(f"{shape}.{name}") for name in EXAMPLES.get(shape, {})}
    return {"examples": named} if named else {}


def of_reasons(*reasons: str) -> Json:
    """References to the examples of errors."""
    return {"examples": {reason: _reference(reason) for reason in reasons}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/examples/{name}"}
