"""The OpenAPI document: a machine tries it, and generators make clients of it that work."""

import asyncio
import importlib
import io
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from benchmarks.endurance.contract import examine

from foremask.errors import ERROR_TABLE
from foremask.options import Preset
from foremask.service.api.application import HANDLERS
from foremask.service.api.openapi import build
from foremask.service.api.routing import endpoints_of
from tests.service.api.conftest import PATH, Running, http, serves
from tests.service.api.worker import complete
from tests.support.programs import NODE, packages, ran

service = serves({"api.probing.BUDGET_S": 1.0})
"""Waits less for made-up hosts: four of them took 20 of 30 s, and 2 of 29 operations were tried."""
PAGES = {"/", "/reference", "/static/{name}", "/docs", "/docs/{name}"}


def test_every_route_is_described() -> None:
    routes = {
        (endpoint.route, method.lower())
        for endpoint in endpoints_of(HANDLERS).values()
        for method in endpoint.methods
        if endpoint.route not in PAGES and method != "HEAD"
    }
    assert routes == {
        (path, method) for path, methods in build(HANDLERS)["paths"].items() for method in methods
    }


def test_the_document_knows_presets_and_reasons() -> None:
    document: dict[str, Any] = build(HANDLERS)
    assert set(document["components"]["schemas"]["Preset"]["enum"]) == set(Preset)
    reported: dict[str, int] = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
                for part in schema.get("allOf", [])[1:]:
                    error = part["properties"]["error"]["properties"]
                    assert error["code"]["enum"] == [int(status)]
                    reported |= {reason: int(status) for reason in error["reason"]["enum"]}
    of_no_operation = {"path_unknown", "method_not_allowed", "bad_http", "target_too_long"}
    of_no_operation |= {"headers_too_large", "request_too_slow"}
    of_a_status = {"cancelled", "result_expired", "timed_out", "worker_crashed", "object_lost"}
    of_a_command = {"settings_invalid", "promise_broken", "output_failed", "device_unavailable"}
    of_a_stream = {"frame_too_large", "stream_expired", "stream_idle", "message_invalid"}
    elsewhere = of_no_operation | of_a_status | of_a_command | of_a_stream
    statuses = {each.name: each.status for each in ERROR_TABLE}
    assert reported.keys() >= statuses.keys() - elsewhere
    assert reported.items() <= statuses.items()


def test_a_machine_that_tries_everything_finds_nothing(service: Running) -> None:
    """``python -m benchmarks.endurance.contract`` tries for longer."""
    cases, failures = examine(service.url, service.token, examples=5, seconds=15)
    assert not failures, failures[-6000:]
    assert cases > 20  # 808 of all operations on two cores


@pytest.mark.slow
def test_openapi_python_client_makes_one(
    service: Running, good: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openapi.json").write_bytes(http.get(f"{service.url}/openapi.json").content)
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    words = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path", "made"]
    program = (sys.executable, "-m", "openapi_python_client")
    generated = ran(*program, *words, "--config", "config.yaml", cwd=tmp_path)
    assert "Warning" not in generated.stdout + generated.stderr
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("made")
    submit, read_status, models, types = (
        importlib.import_module(f"made.{name}")
        for name in ("api.jobs.submit", "api.jobs.read_status", "models", "types")
    )
    client = made.AuthenticatedClient(
        base_url=service.url, token=service.token, prefix="", auth_header_name="api_token"
    )
    with client:
        point = models.Point(x=3, y=4, type_=models.PointType("point"))
        body = models.JobRequest(video=good, hints=[point])
        accepted = submit.sync(client=client, body=body)
        assert isinstance(accepted, models.Accepted)
        job = accepted.request_id
        assert read_status.sync(job, client=client).status == "IN_PROGRESS"
        asyncio.run(complete(service, job, drawn / "good.mp4"))
        done = read_status.sync(job, client=client)
        assert (done.status, done.result.report.frames_out) == ("COMPLETED", 25)
        clip = types.File(io.BytesIO((drawn / "good.mp4").read_bytes()), "good.mp4")
        form = models.JobRequestForm(video=clip, hints=body.hints, sync=False)
        assert isinstance(submit.sync(client=client, body=form), models.Accepted)
        refused = submit.sync(client=client, body=models.JobRequest(video="ftp://x/y"))
        assert refused.error.reason == "url_scheme"


CLIENT = """
import createClient from "openapi-fetch";
import type { paths } from "./api.d.ts";
const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });
const body = { video: "http://a/b.mp4", hints: [{ type: "point" as const, x: 3, y: 4 }] };
const { data, error } = await client.POST("/v2/video/segment/foreground_mask", { body });
if (!data) throw new Error(error.error.details + error.error.reason);
const params = { path: { request_id: data.request_id } };
const status = await client.GET("/v2/status/{request_id}", { params });
const url: string | undefined = status.data?.result?.video_url;
"""


@pytest.mark.slow
def test_openapi_typescript_makes_types_of_a_client(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(packages())
    (tmp_path / "openapi.json").write_bytes(msgspec.json.encode(build(HANDLERS)))
    (tmp_path / "client.mts").write_text(CLIENT)
    for words in (
        "openapi-typescript/bin/cli.js openapi.json -o api.d.ts --default-non-nullable=false",
        "typescript/bin/tsc --noEmit --strict --noUncheckedIndexedAccess --module nodenext"
        " --target es2023 --lib es2023,dom --allowImportingTsExtensions client.mts",
    ):
        checked = ran(NODE, *f"node_modules/{words}".split(), cwd=tmp_path, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_unknown_fields_are_named(client: httpx.Client, good: str) -> None:
    body = {"video": good, "sync": False}
    assert "unknown-fields" not in client.post(PATH, json=body).headers
    answer = client.post(PATH, json=body | {"qualty": "best", "zoom\n": 1})
    assert answer.status_code == 202
    assert answer.headers["unknown-fields"] == r'"qualty", "zoom\n"'
