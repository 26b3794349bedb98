"""One trace a job, from POST to webhook, for whoever collects OTLP; the only home of OpenTelemetry.

Off, and nothing of OpenTelemetry loaded, until `open_traces` is told where to send spans. A trace's
id is made of the request's: a process needs to know the job and nothing else to go on with its
trace (docs/adr/0071).
"""

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
"""The ids of the span that begins a trace, while it is made."""
_HALF = (1 << 64) - 1


class Span:
    """What is told of a piece of work: nothing, while traces are off."""

    def __init__(self, real: "trace.Span | None" = None) -> None:
        self._real = real

    def note(self, **facts: Fact) -> None:
        """Add facts that are known later; a fact that is None is none."""
        if self._real is not None:
            self._real.set_attributes({k: v for k, v in facts.items() if v is not None})


_OFF = Span()


def open_traces(otlp_url: str | None, process: str) -> None:
    """From now on send this process's spans to the collector at ``otlp_url``; None leaves traces off.

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


@contextmanager
def first_span(request_id: str, name: str, **facts: Fact) -> Iterator[Span]:
    """The span that begins the trace of a request, and of the job that it makes."""
    if _provider is None:
        yield _OFF
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind

    begun = _begin.set(_ids_of(request_id))
    with _span(name, facts, Context(), SpanKind.SERVER) as span:
        _begin.reset(begun)
        yield span


@contextmanager
def job_span(request_id: str, name: str, **facts: Fact) -> Iterator[Span]:
    """A span of a job's trace, in whatever process and however much later."""
    if _provider is None:
        yield _OFF
        return
    with _span(name, facts, _first_of(_provider, request_id)) as span:
        yield span


@contextmanager
def span(name: str, **facts: Fact) -> Iterator[Span]:
    """A part of the span that is open here; outside of one, nothing."""
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
    """A span that has what a log line here has: what is bound to the context. An error is told by its reason alone."""
    from opentelemetry import trace

    assert _provider is not None  # noqa: S101  # each caller has looked
    tracer = _provider.get_tracer("foremask", version("foremask"))
    with tracer.start_as_current_span(
        name,
        context,
        kind or trace.SpanKind.INTERNAL,
        record_exception=False,  # its words may hold an address
        set_status_on_exception=False,
    ) as real:
        made = Span(real)
        made.note(**structlog.contextvars.get_contextvars())
        made.note(**facts)
        try:
            yield made
        except BaseException as error:
            made.note(**{"error.type": getattr(error, "reason", type(error).__name__)})
            if not isinstance(error, ForemaskError) or error.code >= 500:
                real.set_status(trace.StatusCode.ERROR)
            raise


def _ids_of(request_id: str) -> tuple[int, int]:
    """The ids of a request's trace and of its first span. The id's halves change places: samplers want chance at the end."""
    whole = uuid.UUID(request_id).int
    return (whole & _HALF) << 64 | whole >> 64, whole >> 64


def _first_of(provider: "TracerProvider", request_id: str) -> "Context":
    """The context in which the request's first span is the parent."""
    from opentelemetry import trace

    trace_id, span_id = _ids_of(request_id)
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
        """As told where a trace begins; by chance elsewhere."""

        def generate_trace_id(self) -> int:
            ids = _begin.get()
            return super().generate_trace_id() if ids is None else ids[0]

        def generate_span_id(self) -> int:
            ids = _begin.get()
            return super().generate_span_id() if ids is None else ids[1]

    return Ids()
