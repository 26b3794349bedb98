"""Signed webhooks: the status body, POSTed with the wire contract's three headers."""

import time

import msgspec
import structlog

from foremask.errors import ForemaskError, UrlForbidden, UrlStatus
from foremask.service.jobs import deliveries, records
from foremask.service.jobs.deliveries import Delivery, sign
from foremask.service.jobs.wire_format import status_body
from foremask.service.observability import metrics
from foremask.service.observability.traces import Span, job_span
from foremask.service.worker.worker_context import WorkerContext

TIMEOUT_S = 10.0

log = structlog.get_logger(__name__)


async def deliver_next(work: WorkerContext) -> None:
    """Make the next attempt that is due, if there is one, and record its result."""
    delivery = await deliveries.begin(work.database)
    if delivery is None:
        return
    traceparent = await work.traceparent_of(delivery.request_id)
    with (
        structlog.contextvars.bound_contextvars(
            request_id=delivery.request_id, attempt=delivery.attempt
        ),
        job_span(delivery.request_id, "webhook", traceparent) as span,
    ):
        await _attempt(work, delivery, span)


async def _attempt(work: WorkerContext, delivery: Delivery, span: Span) -> None:
    body = delivery.payload or await _freeze(work, delivery)
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "Bria-Webhook-Id": delivery.request_id,
        "Bria-Webhook-Timestamp": timestamp,
        "Bria-Webhook-Signature": sign(delivery.webhook_key, delivery.request_id, timestamp, body),
    }
    status: int | None = None
    problem: str | None = None
    began = time.monotonic()
    try:
        status = await work.outbound.post(delivery.url, body, headers, timeout_s=TIMEOUT_S)
    except (UrlForbidden, UrlStatus) as error:
        status, problem = int(error.actual) if error.actual else None, error.details
    except ForemaskError as error:
        problem = error.details
    seconds = time.monotonic() - began
    outcome = await deliveries.record(work.database, delivery, status)
    metrics.WEBHOOK_ATTEMPTS.labels(outcome).inc()
    span.note(**{"http.response.status_code": status, "outcome": outcome})
    log.info(
        "webhook.attempted", http_status=status, outcome=outcome, error=problem, seconds=seconds
    )


async def _freeze(work: WorkerContext, delivery: Delivery) -> bytes:
    record = await records.read_any(work.database, delivery.request_id)
    body = msgspec.json.encode(status_body(record, work.objects.link))
    return await deliveries.freeze(work.database, delivery.id, body)
