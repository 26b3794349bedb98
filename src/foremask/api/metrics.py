"""What the API process counts, and the page on which Prometheus reads it."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

REQUESTS = Counter(
    "foremask_http_requests_total", "HTTP requests answered", ("method", "route", "status")
)
SECONDS = Histogram(
    "foremask_http_request_seconds",
    "Time from request to the end of the answer",
    ("route",),
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
SANDBOX = Gauge(
    "foremask_sandbox_full", "1 where the kernel confines the children that read untrusted files"
)
JOBS = Gauge("foremask_jobs", "Jobs on record, by status", ("status",))

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answer; what a caller can choose freely never becomes a label."""
    REQUESTS.labels(method if method in _METHODS else "other", route, str(status)).inc()
    SECONDS.labels(route).observe(seconds)


def page(jobs: dict[str, int]) -> tuple[bytes, str]:
    """The metrics of this process as text, and its media type."""
    for status, count in jobs.items():
        JOBS.labels(status).set(count)
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
