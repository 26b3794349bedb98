"""A job in the wire format; the API and the webhooks send the same bytes.

Each answer is one Struct, which encodes it and documents it. What is unset is absent.
"""

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, convert

from foremask.errors import ResultExpired
from foremask.options import ResultKind
from foremask.service.jobs.records import JobError, Record, Status
from foremask.service.jobs.steps import JobReport

LINK_S = 7 * 86400  # how long a result's link is good: the longest that every cloud signs for

type Word = Literal["IN_PROGRESS", "COMPLETED", "ERROR", "UNKNOWN"]
WORDS: dict[Status, Word] = {
    Status.QUEUED: "IN_PROGRESS",
    Status.RUNNING: "IN_PROGRESS",
    Status.COMPLETED: "COMPLETED",
    Status.FAILED: "ERROR",
    Status.CANCELLED: "ERROR",
}
RequestId = Annotated[
    str, Meta(description="Names the job, or this very request; quote it when something is wrong.")
]
Count = Annotated[int, Meta(ge=0)]


class Accepted(Struct):
    """The job exists."""

    request_id: RequestId
    status_url: Annotated[str, Meta(description="Where to read how it is going; send the token.")]


class Answer[T](Struct):
    """What was asked for."""

    request_id: RequestId
    result: T


class Problem(Struct):
    """The body of every answer that says no."""

    request_id: RequestId
    error: JobError
    status: (
        Annotated[Literal["NOT_FOUND"], Meta(description="With request_unknown.")] | UnsetType
    ) = UNSET


class Result(Struct):
    """What was made; once it is kept no longer, the status is ERROR with 410 result_expired."""

    video_url: Annotated[str, Meta(description="The video or the file, by a signed link.")]
    kind: Annotated[ResultKind, Meta(description="What it is.")]
    mask_url: Annotated[str, Meta(description="Of a mask, the same URL.")] | UnsetType = UNSET
    report: (
        Annotated[JobReport, Meta(description="Frames in and out, drift, coverage, checksum.")]
        | UnsetType
    ) = UNSET


class JobStatus(Struct, kw_only=True):
    """Where a job is. UNKNOWN: its record cannot be read."""

    request_id: RequestId
    status: Word
    progress: Annotated[int, Meta(ge=0, le=100, description="Percent.")] | UnsetType = UNSET
    stage: Annotated[str, Meta(description="What is being done.")] | UnsetType = UNSET
    frames_done: Count | UnsetType = UNSET
    frames_total: Count | UnsetType = UNSET
    queue_position: Annotated[int, Meta(ge=1, description="1 is next.")] | UnsetType = UNSET
    eta_s: (
        Annotated[float, Meta(ge=0, description="Seconds until the mask is done.")] | UnsetType
    ) = UNSET
    idle_s: (
        Annotated[float, Meta(ge=60, description="Seconds without progress, from a minute on.")]
        | UnsetType
    ) = UNSET
    result: Result | UnsetType = UNSET
    error: JobError | UnsetType = UNSET


def file_name(record: Record) -> str:
    """The file name of the result: flower.mask.mp4 of flower.mp4, "" of a nameless clip."""
    stem = (record.name or "").rpartition(".")[0] or record.name
    suffix = (record.result_key or "").rpartition(".")[2]
    return f"{stem}.{record.kind.value}.{suffix}" if stem else ""


def status_body(
    record: Record, link: Callable[[str, int, str], str], link_s: int = LINK_S
) -> JobStatus:
    """The status; ``link`` makes a URL of a key, seconds and a file name.

    A completed job whose result is gone reads as ERROR 410: a client that is told COMPLETED reads
    the URL.
    """
    url = link(record.result_key, link_s, file_name(record)) if record.result_key else None
    mask_url = url if url and record.kind is ResultKind.MASK else UNSET  # clients read either name
    is_done = record.status is Status.COMPLETED
    error = record.error
    if is_done and url is None:
        gone = ResultExpired("The result was kept for its time, and is deleted; submit it again.")
        error = convert(gone.facts(), JobError)
    return JobStatus(
        request_id=record.request_id,
        status="ERROR" if is_done and url is None else WORDS[record.status],
        progress=record.progress,
        stage=record.stage,
        frames_done=record.frames_done,
        frames_total=_set(record.frames_total),
        queue_position=_set(record.queue_position),
        eta_s=_set(record.eta_s),
        idle_s=_set(record.idle_s),
        result=UNSET if url is None else Result(url, record.kind, mask_url, _set(record.report)),
        error=_set(error),
    )


def _set[T](value: T | None) -> T | UnsetType:
    return UNSET if value is None else value
