"""One trace a job, from POST to webhook, sent by OTLP; the only home of OpenTelemetry.

Traces are off, and OpenTelemetry is not loaded, until `open_traces` gets the address of a
collector. A trace has the id that the caller's ``traceparent`` names, or else one that is made of
the request id (docs/adr/0070).
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine import process_setup

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

type Fact = str | int | float | bool | None

_provider: "TracerProvider | None" = None
_begin: ContextVar[tuple[int, int] | None] = ContextVar("begin", default=None)
"""The trace and span ids of a request's first span, while it is made."""
_HALF = (1 << 64) - 1
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class Span:
    """A span to which facts can be added; it ignores them while traces are off."""

    def __init__(self, real: "trace.Span | None" = None) -> None:
        self._real = real

    def note(self, **facts: Fact) -> None:
        """Add attributes; one that is None is left out."""
        if self._real is not None:
            self._real.set_attributes({k: v for k, v in facts.items() if v is not None})


_OFF = Span()


def open_traces(otlp_url: str | None, process: str) -> None:
    """Send this process's spans to the collector at ``otlp_url``; None leaves traces off.

    OpenTelemetry reads its own variables: OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER,
    OTEL_SERVICE_NAME…. Raises SettingsInvalid when its libraries are not installed.
    """
    global _provider  # as the log is: one for the process
    if otlp_url is None:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsInvalid(
            "FOREMASK_OTLP_URL needs OpenTelemetry: install foremask[otel]",
            param="FOREMASK_OTLP_URL",
        ) from error
    ours = Resource(
        {
            "service.name": "foremask",
            "service.version": version("foremask"),
            "service.instance.id": process_setup.name(),
            "foremask.process": process,
        }
    )
    _provider = TracerProvider(
        resource=ours.merge(OTELResourceDetector().detect()), id_generator=_ids()
    )
    _provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{otlp_url}/v1/traces"))
    )


def close_traces() -> None:
    """Send what has not been sent, and turn traces off."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def is_on() -> bool:
    """Whether spans are sent."""
    return _provider is not None


def valid_traceparent(header: str | None) -> str | None:
    """The W3C header if it is valid, else None: the standard says to ignore an invalid one."""
    found = _TRACEPARENT.fullmatch(header or "")
    if found is None:
        return None
    version, trace_id, span_id, more = found.groups()
    is_known = version != "ff" and (version != "00" or more is None)
    return header if is_known and int(trace_id, 16) and int(span_id, 16) else None


@contextmanager
def first_span(
    request_id: str, name: str, traceparent: str | None = None, **facts: Fact
) -> Iterator[Span]:
    """The first span of a request and its job; ``traceparent`` is a valid header."""
    if _provider is None:
        yield _OFF
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    trace_id, span_id = _ids_of(request_id, traceparent)
    context = Context()
    if traceparent is not None:
        context = _remote(_provider, trace_id, int(traceparent.split("-")[2], 16))
    begun = _begin.set((trace_id, span_id))
    with _span(name, facts, context, SpanKind.SERVER) as span:
        _begin.reset(begun)
        yield span


@contextmanager
def job_span(
    request_id: str, name: str, traceparent: str | None = None, **facts: Fact
) -> Iterator[Span]:
    """A child of the job's first span, in any process at any later time."""
    if _provider is None:
        yield _OFF
        return
    context = _remote(_provider, *_ids_of(request_id, traceparent))
    with _span(name, facts, context) as span:
        yield span


@contextmanager
def span(name: str, **facts: Fact) -> Iterator[Span]:
    """A child of the span that is open here; without one, nothing."""
    if _provider is None:
        yield _OFF
        return
    from opentelemetry import trace

    if not trace.get_current_span().get_span_context().is_valid:
        yield _OFF
        return
    with _span(name, facts) as made:
        yield made


@contextmanager
def _span(
    name: str,
    facts: dict[str, Fact],
    context: "Context | None" = None,
    kind: "trace.SpanKind | None" = None,
) -> Iterator[Span]:
    """A span with the attributes bound to the logging context.

    Of an error it records only the reason.
    """
    from opentelemetry import trace

    assert _provider is not None  # noqa: S101  # each caller has checked
    tracer = _provider.get_tracer("foremask", version("foremask"))
    with tracer.start_as_current_span(
        name,
        context,
        kind or trace.SpanKind.INTERNAL,
        record_exception=False,  # its message may hold an address
        set_status_on_exception=False,
    ) as real:
        made = Span(real)
        made.note(**structlog.contextvars.get_contextvars())
        made.note(**facts)
        try:
            yield made
        except BaseException as error:
            made.note(**{"error.type": getattr(error, "reason", type(error).__name__)})
            if not isinstance(error, ForemaskError) or error.status >= 500:
                real.set_status(trace.StatusCode.ERROR)
            raise


def _ids_of(request_id: str, traceparent: str | None) -> tuple[int, int]:
    """The ids of the request's trace and of its first span.

    A derived trace id is the request id with its halves exchanged: samplers expect randomness at
    the end.
    """
    whole = uuid.UUID(request_id).int
    if traceparent is not None:
        return int(traceparent.split("-")[1], 16), whole >> 64
    return (whole & _HALF) << 64 | whole >> 64, whole >> 64


def _remote(provider: "TracerProvider", trace_id: int, span_id: int) -> "Context":
    """The context whose parent is a span of another process.

    The sampler decides by the trace id alone, so each process decides the same, whatever the
    caller's flag.
    """
    from opentelemetry import trace

    kept = provider.sampler.should_sample(None, trace_id, "").decision.is_sampled()  # type: ignore[no-untyped-call]
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if kept else trace.TraceFlags.DEFAULT)
    return trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        )
    )


def _ids() -> "IdGenerator":
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """A request's first span has the ids that were made for it; all others are random."""

        def generate_trace_id(self) -> int:
            ids = _begin.get()
            return super().generate_trace_id() if ids is None else ids[0]

        def generate_span_id(self) -> int:
            ids = _begin.get()
            return super().generate_span_id() if ids is None else ids[1]

    return Ids()
