"""A collector that takes OTLP over HTTP, on loopback, and keeps the spans that it is sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.http_server import Handler, serving


@dataclass(frozen=True, slots=True)
class Sent:
    """One span, in plain values; ``parent`` is the parent's id, empty for the first."""

    trace: str
    span: str
    parent: str
    name: str
    start_ns: int
    facts: dict[str, Any]
    failed: bool


@dataclass(slots=True)
class Collector:
    url: str
    spans: list[Sent] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in group.scope_spans:
                for span in scope.spans:
                    facts = {each.key: _plain(each.value) for each in span.attributes}
                    self.spans.append(
                        Sent(
                            trace=span.trace_id.hex(),
                            span=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            name=span.name,
                            start_ns=span.start_time_unix_nano,
                            facts=facts,
                            failed=span.status.code == span.status.STATUS_CODE_ERROR,
                        )
                    )

    def trace(self) -> list[Sent]:
        return sorted(self.spans, key=lambda each: each.start_ns)


def _plain(value: Any) -> Any:  # noqa: ANN401  # a protobuf message without types
    return getattr(value, value.WhichOneof("value"))


@contextmanager
def collecting() -> Iterator[Collector]:
    made = Collector("")

    class Take(Handler):
        def do_POST(self) -> None:  # noqa: N802
            made.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

    with serving(Take) as made.url:
        yield made
