"""The service's Prometheus metrics. Labels never contain text from a request."""

from functools import partial
from typing import Final

import prometheus_client as prometheus
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from foremask.options import Quality

prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]

type Series = tuple[str, tuple[tuple[str, str], ...]]  # a sample's name, and its sorted labels

LOCAL: Final[Collector] = prometheus.REGISTRY  # the metrics of one API process
SHARED: Final = prometheus.CollectorRegistry()  # summed over all processes: docs/adr/0070

_QUICK_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SLOW_S = (0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600, 7200, 14400)

_Together = partial(prometheus.Counter, registry=SHARED)
_TimeTogether = partial(prometheus.Histogram, registry=SHARED, buckets=_SLOW_S)

HTTP_REQUESTS = prometheus.Counter(
    "foremask_http_requests_total", "HTTP requests answered", ("method", "route", "status")
)
HTTP_SECONDS = prometheus.Histogram(
    "foremask_http_request_seconds",
    "Time from request to the end of the answer",
    ("route",),
    buckets=_QUICK_S,
)
DATABASE_UP = prometheus.Gauge(
    "foremask_database_up",
    "1 if the database answered; else metrics that are read from it are absent",
)
DISK_FREE = prometheus.Gauge(
    "foremask_disk_free_bytes", "Free space of the local store's disk; NaN with a bucket"
)
STREAMS = prometheus.Gauge("foremask_streams", "Live streams that hold a slot")
STREAM_FRAMES = prometheus.Counter(
    "foremask_stream_frames_total",
    "Frames of live streams: received, masked, dropped",
    ("outcome",),
)
STREAM_LATENESS = prometheus.Histogram(
    "foremask_stream_lateness_seconds",
    "From a live frame's arrival until its mask is sent",
    buckets=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2, 5),
)
STREAMS_ENDED = prometheus.Counter(
    "foremask_streams_ended_total", "Live streams that ended, by the close code", ("code",)
)
NOW: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "foremask_jobs": ("Jobs that have not ended", ("status",)),
    "foremask_queue_depth": ("Steps that wait for a worker", ("queue",)),
    "foremask_queue_oldest_wait_seconds": ("Wait of the oldest entry in the queue", ("queue",)),
    "foremask_stored_bytes": ("Bytes of uploads, sources and results that quotas count", ()),
    "foremask_processes": ("Processes seen in the last 20 s, by sandbox", ("kind", "sandbox")),
    "foremask_mask_slots": ("Segments that workers seen in the last 20 s mask at once", ()),
}
"""Gauges that `process_totals.now` reads from the database: help text and label names."""

JOBS_ENDED = _Together(
    "foremask_jobs_ended_total", "Jobs that have ended and been tidied up", ("status", "reason")
)
JOB_WAIT = _TimeTogether("foremask_job_wait_seconds", "From a job's acceptance to its first step")
JOB_SECONDS = _TimeTogether(
    "foremask_job_seconds", "From a job's acceptance to its end", ("status",)
)
STEP_SECONDS = _TimeTogether(
    "foremask_step_seconds", "One attempt at a step of a job", ("stage", "outcome")
)
FRAMES = _Together("foremask_frames_masked_total", "Frames that were masked", ("quality",))
MASKING_SECONDS = _Together(
    "foremask_masking_seconds_total", "Time that masking took", ("quality",)
)
RESCUES = _Together("foremask_rescues_total", "Steps taken back from a lost worker")
FENCED = _Together(
    "foremask_fenced_writes_total", "Results refused from workers that had lost the step"
)
WEBHOOK_ATTEMPTS = _Together(
    "foremask_webhook_attempts_total", "Webhooks sent, by outcome", ("outcome",)
)
HELD_BACK = _Together(
    "foremask_held_back_total", "Calls delayed or refused by a limit of a token", ("limit",)
)
DATABASE_ERRORS = _Together(
    "foremask_database_errors_total", "Calls that the database did not answer"
)
OBJECT_ERRORS = _Together(
    "foremask_object_store_errors_total", "Calls that the object store did not answer"
)

HELD_BACK_BY: Final = (
    "probe",
    "preview",
    "stream",
    "resolver",
    "files",
    "webhooks",
    "storage_quota",
    "storage_full",
    "too_many_frames",
    "url_too_slow",
)
"""Values of the label ``limit`` that start at 0: six limits, and the reasons of four errors."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})

# Start these series at 0: Prometheus does not count the first value of a series as an increase.
for _outcome in ("delivered", "pending", "given_up"):
    WEBHOOK_ATTEMPTS.labels(_outcome)
for _limit in HELD_BACK_BY:
    HELD_BACK.labels(_limit)
for _outcome in ("received", "masked", "dropped"):
    STREAM_FRAMES.labels(_outcome)
for _quality in Quality:
    FRAMES.labels(_quality)
    MASKING_SECONDS.labels(_quality)


def answered(method: str, route: str, status: int, seconds: float) -> None:
    """Count an HTTP response; ``route`` is the path's pattern, with parameter names."""
    HTTP_REQUESTS.labels(method if method in _METHODS else "other", route, str(status)).inc()
    HTTP_SECONDS.labels(route).observe(seconds)


def refused(reason: str) -> None:
    if reason in HELD_BACK_BY:
        HELD_BACK.labels(reason).inc()


def counted() -> dict[Series, float]:
    return {series(each): each.value for family in SHARED.collect() for each in family.samples}


def series(sample: Sample) -> Series:
    return sample.name, tuple(sorted(sample.labels.items()))
