import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from foremask.service.observability.traces import close_traces, open_traces, span
from tests.service.api.conftest import PATH
from tests.service.api.test_operations import api_over
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, Risen, working
from tests.support.http_server import Handler, serving
from tests.support.patience import until_so
from tests.support.programs import fresh

SECRET = "hush-this-is-a-secret"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@dataclass(slots=True)
class Collector:
    """The spans that were sent, as OpenTelemetry's messages, which have no types."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += [each for scope in group.scope_spans for each in scope.spans]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes OTLP over HTTP; traces go there."""
    made = Collector()

    class Take(Handler):
        def do_POST(self) -> None:  # noqa: N802
            made.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

    with serving(Take) as made.url:
        open_traces(made.url, "test")
        try:
            yield made
        finally:
            close_traces()


def facts_of(sent: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in sent.attributes
    }


async def test_a_job_is_one_trace_from_its_callers_span_to_the_webhook(
    caller: Caller, risen: Risen, tmp_path: Path, collector: Collector
) -> None:
    work, site = caller.work, caller.site
    site.files[f"/a.mp4?signature={SECRET}"] = stand_in.clip(17)
    site.statuses[:] = [500]
    video, receiver = f"{site.url}/a.mp4?signature={SECRET}", f"{site.url}/hook?key={SECRET}"
    body = {"video": video, "webhook_url": receiver}
    headers = {"api_token": caller.secret, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with api_over(work.database, work.objects, work.outbound, tmp_path) as client:
        answer = await client.post(PATH, json=body, headers=headers)
    job = answer.json()["request_id"]
    async with working(work):
        await until_so(lambda: risen("webhook_attempts_total", outcome="pending"))
    await asyncio.to_thread(close_traces)

    spans = sorted(collector.spans, key=lambda each: each.start_time_unix_nano)
    assert {each.trace_id.hex() for each in spans} == {TRACE}
    assert spans[0].parent_span_id.hex() == PARENT
    names = {each.span_id: each.name for each in spans}
    tree = [(each.name, names.get(each.parent_span_id, "")) for each in spans]
    root = "POST foreground_mask"
    segment = [("segment", root)] + [(each, "segment") for each in ("load", "make", "store")]
    ingest = ["fetch", "probe", "plan", "cut", "cut", "store", "store", "store"]
    join = ["load", "load", "load", "join", "store"]
    assert sorted(tree) == sorted(
        [(root, ""), ("probe", root), ("admit", root), ("ingest", root)]
        + [(each, "ingest") for each in ingest]
        + [*segment, *segment, ("join", root), *((each, "join") for each in join)]
        + [("webhook", root)]
    )
    facts = [facts_of(each) for each in spans]
    assert {each["request_id"] for each in facts} == {job}
    assert {each.get("attempt") for each in facts} == {None, 1}
    assert (facts[-1]["http.response.status_code"], facts[-1]["outcome"]) == (500, "pending")
    known = {"request_id", "attempt", "preset", "number", "outcome", "http.response.status_code"}
    assert set().union(*facts) == known
    reported = b"".join(collector.bodies)
    for hidden in (SECRET, caller.secret, site.url.removeprefix("http://")):
        assert hidden.encode() not in reported


@pytest.mark.parametrize("header", [f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}", None])
def test_an_invalid_traceparent_is_ignored(collector: Collector, header: str | None) -> None:
    with span("first", header, is_first=True):
        pass
    close_traces()
    (sent,) = collector.spans
    assert (sent.trace_id.hex() != TRACE, sent.parent_span_id) == (True, b"")


def test_an_error_is_sent_by_its_reason_without_its_message(collector: Collector) -> None:
    with pytest.raises(ValueError, match=SECRET), span("ingest", f"00-{TRACE}-{PARENT}-01"):
        raise ValueError(SECRET)
    close_traces()
    (sent,) = collector.spans
    assert facts_of(sent)["error.type"] == "ValueError"
    assert sent.status.code == sent.status.STATUS_CODE_ERROR
    assert SECRET.encode() not in collector.bodies[0]


def test_sampled_traces_are_whole(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    close_traces()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    open_traces(collector.url, "test")
    for traceparent in (None, f"00-{TRACE}-{PARENT}-01"):  # the second one is sampled
        with span("first", traceparent, is_first=True) as first, span("within"):
            pass
        with span("later", first.traceparent):
            pass
    close_traces()
    names = [(each.trace_id.hex(), each.name) for each in collector.spans]
    assert names == [(TRACE, name) for name in ("within", "first", "later")]


@pytest.mark.slow
def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    code = """
import json, sys
import foremask.service.api.application, foremask.service.worker.process
from foremask.service.observability.traces import open_traces, span
open_traces(None, "api")
with span("a", is_first=True) as first, span("b") as told:
    told.note(job=1)
with span("c", first.traceparent):
    pass
print(json.dumps([each for each in sys.modules if each.startswith(("opentelemetry", "google"))]))
"""
    assert json.loads(fresh(code).stdout) == []
