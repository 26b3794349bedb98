"""One trace tells a job's whole way, and nothing that is secret."""

import asyncio
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from foremask.service.observability import metrics
from foremask.service.observability.traces import close_traces, open_traces, span
from foremask.service.worker.job_stages import WorkerContext
from tests.service.api.conftest import PATH
from tests.service.api.test_operations import api_over
from tests.service.observability.test_logs import lines
from tests.service.worker import stand_in
from tests.service.worker.conftest import Caller, Site, working
from tests.support.http_server import Handler, serving
from tests.support.patience import until_so
from tests.support.programs import fresh

__all__ = ["lines"]  # a fixture

SECRET = "hush-this-is-a-secret"
PENDING = ("foremask_webhook_attempts_total", (("outcome", "pending"),))
DELIVERED = ("foremask_webhook_attempts_total", (("outcome", "delivered"),))


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
                for each in scope.spans:
                    facts = {one.key: _plain(one.value) for one in each.attributes}
                    self.spans.append(
                        Sent(
                            trace=each.trace_id.hex(),
                            span=each.span_id.hex(),
                            parent=each.parent_span_id.hex(),
                            name=each.name,
                            start_ns=each.start_time_unix_nano,
                            facts=facts,
                            failed=each.status.code == each.status.STATUS_CODE_ERROR,
                        )
                    )

    def trace(self) -> list[Sent]:
        return sorted(self.spans, key=lambda each: each.start_ns)


def _plain(value: Any) -> Any:  # noqa: ANN401  # a protobuf message without types
    return getattr(value, value.WhichOneof("value"))


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that takes OTLP over HTTP, on loopback; traces go there."""
    made = Collector("")

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


def tree(spans: list[Sent]) -> list[tuple[str, str]]:
    """The names of each span and its parent, in the order in which the spans began."""
    names = {each.span: each.name for each in spans}
    return [(each.name, names.get(each.parent, "")) for each in spans]


async def posted(
    work: WorkerContext, data_dir: Path, body: dict[str, str], headers: dict[str, str]
) -> str:
    async with api_over(work.database, work.objects, work.outbound, data_dir) as client:
        answer = await client.post(PATH, json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["request_id"])


async def test_a_job_is_one_trace_from_post_to_webhook(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path, collector: Collector
) -> None:
    """The worker's spans are below the API's first, which the job's row names."""
    site.files[f"/a.mp4?signature={SECRET}"] = stand_in.clip(17)
    site.statuses[:] = [500]
    video, hook_url = f"{site.url}/a.mp4?signature={SECRET}", f"{site.url}/hook?key={SECRET}"
    body, headers = {"video": video, "webhook_url": hook_url}, {"api_token": caller.secret}
    job = await posted(work, tmp_path, body, headers)
    before = metrics.counted()[PENDING]
    async with working(work):
        await caller.ended(job)
        await until_so(lambda: metrics.counted()[PENDING] > before)
    await asyncio.to_thread(close_traces)

    spans = collector.trace()
    assert len({each.trace for each in spans}) == 1
    root = "POST foreground_mask"
    assert tree(spans)[:6] == [
        (root, ""),
        ("probe", root),
        ("admit", root),
        ("ingest", root),
        ("fetch", "ingest"),
        ("probe", "ingest"),
    ]
    into_store, segment = [("store", "ingest")] * 3, [("load", "segment"), ("mask", "segment")]
    concurrent = [("plan", "ingest"), ("cut", "ingest"), ("cut", "ingest"), *into_store]
    segment += [("segment", root), ("store", "segment")]
    ends = [("join", root), *[("load", "join")] * 3, ("join", "join"), ("store", "join")]
    later = [*concurrent, *segment, *segment, *ends, ("webhook", root)]
    assert sorted(tree(spans)[6:]) == sorted(later)
    assert {each.facts["request_id"] for each in spans} == {job}
    assert {each.facts.get("attempt") for each in spans} == {None, 1}
    hook = spans[-1]
    assert (hook.facts["http.response.status_code"], hook.facts["outcome"]) == (500, "pending")
    attributes = {each.name: each.facts.keys() - {"request_id", "attempt"} for each in spans[::-1]}
    assert attributes == {
        root: {"preset"},
        **{
            name: set()
            for name in ("probe", "admit", "fetch", "load", "plan", "cut", "mask", "store")
        },
        **{name: {"number", "outcome"} for name in ("ingest", "segment", "join")},
        "webhook": {"http.response.status_code", "outcome"},
    }
    reported = b"".join(collector.bodies)
    for hidden in (SECRET, caller.secret, site.url.removeprefix("http://")):
        assert hidden.encode() not in reported


async def test_a_worker_s_lines_name_the_job_and_the_attempt(
    work: WorkerContext, caller: Caller, site: Site, lines: io.StringIO
) -> None:
    site.files["/page.mp4"] = b"<html>"
    job = await caller.submit(site.url + "/page.mp4", site.url + "/hook")
    before = metrics.counted()[DELIVERED]
    async with working(work):
        await until_so(lambda: metrics.counted()[DELIVERED] > before)
    logged = {line["event"]: line for line in map(json.loads, lines.getvalue().splitlines())}
    for event in ("step.failed", "webhook.attempted"):
        assert (logged[event]["request_id"], logged[event]["attempt"]) == (job, 1)


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("header", [f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}", None])
def test_a_traceparent_that_opentelemetry_does_not_read_is_ignored(
    collector: Collector, header: str | None
) -> None:
    with span("first", header, is_first=True):
        pass
    close_traces()
    (sent,) = collector.spans
    assert (sent.trace != TRACE, sent.parent) == (True, "")


async def test_a_job_joins_the_trace_of_its_caller(
    work: WorkerContext, caller: Caller, site: Site, tmp_path: Path, collector: Collector
) -> None:
    headers = {"api_token": caller.secret, "traceparent": f"00-{TRACE}-{PARENT}-01"}
    job = await posted(work, tmp_path, {"video": site.clip(3)}, headers)
    async with working(work):
        await caller.ended(job)
    await asyncio.to_thread(close_traces)
    first, *rest = (each for each in collector.trace() if each.trace == TRACE)
    assert (first.name, first.parent) == ("POST foreground_mask", PARENT)
    steps = {each.name: each.parent for each in rest if each.name in ("ingest", "segment")}
    assert steps == {"ingest": first.span, "segment": first.span}


def test_an_error_is_told_by_its_reason(collector: Collector) -> None:
    """A crash is an error of the span; its words, which may hold anything, are not sent."""
    with pytest.raises(ValueError, match=SECRET), span("ingest", f"00-{TRACE}-{PARENT}-01"):
        raise ValueError(SECRET)
    close_traces()
    (sent,) = collector.spans
    assert (sent.facts["error.type"], sent.failed) == ("ValueError", True)
    assert SECRET.encode() not in collector.bodies[0]


def test_a_sampler_of_a_tenth_keeps_whole_traces(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    close_traces()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    open_traces(collector.url, "test")
    for _ in range(400):
        with span("first", is_first=True) as first, span("within"):
            pass
        with span("later", first.traceparent):
            pass
    close_traces()
    names: dict[str, list[str]] = {}
    for sent in collector.spans:
        names.setdefault(sent.trace, []).append(sent.name)
    assert 10 < len(names) < 90
    assert {tuple(sorted(each)) for each in names.values()} == {("first", "later", "within")}


@pytest.mark.slow
def test_nothing_of_opentelemetry_is_loaded_while_traces_are_off() -> None:
    code = """
import json, sys
import foremask.cli.service_commands
from foremask.service.observability.traces import open_traces, span
open_traces(None, "api")
with span("a", is_first=True) as first, span("b") as told:
    told.note(job=1)
with span("c", first.traceparent):
    pass
print(json.dumps([each for each in sys.modules if each.startswith(("opentelemetry", "google"))]))
"""
    assert json.loads(fresh(code).stdout) == []
