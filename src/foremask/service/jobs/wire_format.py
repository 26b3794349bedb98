"""A job in the wire format; the API and the webhooks send the same bytes."""

from collections.abc import Callable

import msgspec

from foremask.errors import ResultExpired
from foremask.options import ResultKind
from foremask.service.jobs.records import Record, Status

LINK_S = 7 * 86400  # how long a result's link is good: the longest that every cloud signs for

WORDS = {
    Status.QUEUED: "IN_PROGRESS",
    Status.RUNNING: "IN_PROGRESS",
    Status.COMPLETED: "COMPLETED",
    Status.FAILED: "ERROR",
    Status.CANCELLED: "ERROR",
}


def status_json(record: Record, link: Callable[[str, int, str], str]) -> bytes:
    """The status body as it is sent; ``link`` makes a URL of a key, seconds and a file name."""
    key = record.result_key
    url = link(key, LINK_S, file_name(record)) if key else None
    return msgspec.json.encode(status_body(record, url))


def file_name(record: Record) -> str:
    """The file name of the result: flower.mask.mp4 of flower.mp4, "" of a nameless clip."""
    stem = (record.name or "").rpartition(".")[0] or record.name
    suffix = (record.result_key or "").rpartition(".")[2]
    return f"{stem}.{record.kind.value}.{suffix}" if stem else ""


def status_body(record: Record, result_url: str | None) -> dict[str, object]:
    """The status body; ``result_url`` is the link to a completed job's result.

    Without it a completed job reads as ERROR 410, since clients read the URL of any COMPLETED.
    """
    expired = record.status is Status.COMPLETED and result_url is None
    body: dict[str, object] = {
        "request_id": record.request_id,
        "status": "ERROR" if expired else WORDS[record.status],
        "progress": record.progress,
        "stage": record.stage,
        "frames_done": record.frames_done,
    }
    if record.frames_total is not None:
        body["frames_total"] = record.frames_total
    if record.queue_position is not None:
        body["queue_position"] = record.queue_position
    if record.eta_s is not None:
        body["eta_s"] = record.eta_s
    if record.idle_s is not None:
        body["idle_s"] = record.idle_s
    if expired:
        body["error"] = ResultExpired(
            "The result was kept for its time, and is deleted; submit it again."
        ).facts()
    elif record.status is Status.COMPLETED:
        body["result"] = {**links(record, result_url or ""), "report": record.report or {}}
    if record.error is not None:
        body["error"] = msgspec.to_builtins(record.error)
    return body


def links(record: Record, url: str) -> dict[str, object]:
    """The links to the result.

    Public sources of the hosted service use two names for a mask: the same URL is under each.
    """
    as_mask = {"mask_url": url} if record.kind is ResultKind.MASK else {}
    return {"video_url": url, **as_mask, "kind": record.kind.value}
