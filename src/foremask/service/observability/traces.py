"""One trace a job, from POST to webhook, sent by OTLP; the only home of OpenTelemetry.

Traces are off, and OpenTelemetry is not loaded, until `open_traces` gets the address of a
collector. A trace has the id that the caller's ``traceparent`` names, or else one that is made of
the request id (docs/adr/0070).
"""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine import process_setup

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

type Fact = str | int | None

_provider: "TracerProvider | None" = None
_begin: ContextVar[tuple[int, int] | None] = ContextVar("begin", default=None)
"""The trace and span ids of a request's first span, while it is made."""
_HALF = (1 << 64) - 1


class Span:
    """A span to which facts can be added; it ignores them while traces are off."""

    def __init__(self, real: "trace.Span | None" = None) -> None:
        self._real = real

    def note(self, **facts: Fact) -> None:
        """Add attributes; one that is None is left out."""
        if self._real is not None:
            self._real.set_attributes({k: v for k, v in facts.items() if v is not None})


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
    facts = {
        "service.name": "foremask",
        "service.version": version("foremask"),
        "service.instance.id": process_setup.name(),
        "foremask.process": process,
    }
    resource = Resource(facts).merge(OTELResourceDetector().detect())
    exporter = OTLPSpanExporter(endpoint=f"{otlp_url}/v1/traces")
    _provider = TracerProvider(resource=resource, id_generator=_ids())
    _provider.add_span_processor(BatchSpanProcessor(exporter))


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
    """The W3C header; None where it is invalid, and the standard ignores it, or traces are off."""
    return header if is_on() and _ids_of_caller(header) is not None else None


@contextmanager
def first_span(request_id: str, name: str, traceparent: str | None = None) -> Iterator[Span]:
    """The first span of a request and its job; an invalid ``traceparent`` is ignored."""
    caller = _ids_of_caller(traceparent) if is_on() else None
    begun = _begin.set(_ids_of(request_id, caller))
    with _span(name, {}, caller, is_first=True) as span:
        _begin.reset(begun)
        yield span


def job_span(
    request_id: str, name: str, traceparent: str | None = None, **facts: Fact
) -> AbstractContextManager[Span]:
    """A child of the job's first span, in any process at any later time."""
    if not is_on():
        return nullcontext(Span())
    return _span(name, facts, _ids_of(request_id, _ids_of_caller(traceparent)))


def span(name: str) -> AbstractContextManager[Span]:
    """A child of the span that is open here; without one, nothing."""
    return _span(name, {}, None)


@contextmanager
def _span(
    name: str, facts: dict[str, Fact], parent: tuple[int, int] | None, *, is_first: bool = False
) -> Iterator[Span]:
    """A span below another process's ``parent``, or below the span that is open here.

    It has the attributes that are bound to the logging context. Of an error it records only the
    reason.
    """
    if _provider is None:
        yield Span()
        return
    from opentelemetry import trace
    from opentelemetry.context import Context

    context = Context() if is_first else None
    if parent is not None:
        # The sampler decides by the trace id alone, so each process decides the same, whatever the
        # caller's flag.
        sampled = _provider.sampler.should_sample(None, parent[0], "").decision.is_sampled()  # type: ignore[no-untyped-call]
        above = trace.SpanContext(*parent, is_remote=True, trace_flags=trace.TraceFlags(sampled))
        context = trace.set_span_in_context(trace.NonRecordingSpan(above))
    elif not is_first and not trace.get_current_span().get_span_context().is_valid:
        yield Span()
        return
    with _provider.get_tracer("foremask", version("foremask")).start_as_current_span(
        name,
        context,
        trace.SpanKind.SERVER if is_first else trace.SpanKind.INTERNAL,
        record_exception=False,  # its message may hold an address
        set_status_on_exception=False,
    ) as real:
        made = Span(real)
        made.note(**structlog.contextvars.get_contextvars() | facts)
        try:
            yield made
        except BaseException as error:
            made.note(**{"error.type": getattr(error, "reason", type(error).__name__)})
            if not isinstance(error, ForemaskError) or error.status >= 500:
                real.set_status(trace.StatusCode.ERROR)
            raise


def _ids_of_caller(traceparent: str | None) -> tuple[int, int] | None:
    """The ids of the caller's trace and span, by OpenTelemetry's own reader of the header."""
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = {} if traceparent is None else {"traceparent": traceparent}
    found = trace.get_current_span(TraceContextTextMapPropagator().extract(headers, Context()))
    caller = found.get_span_context()
    return (caller.trace_id, caller.span_id) if caller.is_valid else None


def _ids_of(request_id: str, caller: tuple[int, int] | None) -> tuple[int, int]:
    """The ids of the request's trace and of its first span.

    A derived trace id is the request id with its halves exchanged: samplers expect randomness at
    the end.
    """
    whole = uuid.UUID(request_id).int
    return caller[0] if caller else (whole & _HALF) << 64 | whole >> 64, whole >> 64


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
