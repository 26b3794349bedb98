"""Sends one trace per job, from POST to webhook, by OTLP (docs/adr/0070).

OpenTelemetry is used only here, and is not loaded until `open_traces` gets a collector's address.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from foremask.errors import ForemaskError, SettingsInvalid
from foremask.machine import process_setup

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

type Fact = str | int | None

_provider: "TracerProvider | None" = None


@dataclass(frozen=True, slots=True)
class TraceSpan:
    real: "trace.Span | None" = None
    traceparent: str | None = None  # the W3C header; None if there is no span

    def note(self, **facts: Fact) -> None:
        if self.real is not None:
            self.real.set_attributes({k: v for k, v in facts.items() if v is not None})


def open_traces(otlp_url: str | None, process: str) -> None:
    """Send this process's spans to the collector at ``otlp_url``; None leaves traces off.

    OpenTelemetry's own variables, such as OTEL_TRACES_SAMPLER, apply too. Raises SettingsInvalid if
    OpenTelemetry is not installed.
    """
    global _provider  # one per process, like the log
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
    _provider = TracerProvider(resource=resource)
    _provider.add_span_processor(BatchSpanProcessor(exporter))


def close_traces() -> None:
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


@contextmanager
def span(
    name: str, traceparent: str | None = None, *, is_first: bool = False, **facts: Fact
) -> Iterator[TraceSpan]:
    """Open a child of the span in ``traceparent`` or, if that is None, of the current span.

    If there is no valid parent, the span is recorded only if ``is_first``. Its attributes are
    ``facts``, structlog's context and the reason of an error, but not the error's message.
    """
    if _provider is None:
        yield TraceSpan()
        return
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above: Context | None = None
    header = TraceContextTextMapPropagator()
    headers: dict[str, str] = {}
    if is_first or traceparent is not None:
        above = header.extract({"traceparent": traceparent or ""}, Context())
    if not is_first and not trace.get_current_span(above).get_span_context().is_valid:
        yield TraceSpan()
        return
    kind = trace.SpanKind.INTERNAL
    if is_first:
        kind = trace.SpanKind.SERVER
    with _provider.get_tracer("foremask", version("foremask")).start_as_current_span(
        name,
        above,
        kind,
        record_exception=False,  # the message may hold a URL
        set_status_on_exception=False,
    ) as real:
        header.inject(headers)
        made = TraceSpan(real, headers.get("traceparent"))  # absent if OTEL_SDK_DISABLED is set
        made.note(**structlog.contextvars.get_contextvars() | facts)
        try:
            yield made
        except BaseException as error:
            made.note(**{"error.type": getattr(error, "reason", type(error).__name__)})
            if not isinstance(error, ForemaskError) or error.status >= 500:
                real.set_status(trace.StatusCode.ERROR)
            raise
