"""The OpenAPI document: a machine tries it, and generators make clients of it that work."""

import asyncio
import importlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from benchmarks.endurance.contract import examine
from litestar import Litestar

from foremask.errors import BY_REASON, ERROR_TABLE
from foremask.options import Preset
from foremask.service.api.application import HANDLERS
from foremask.service.api.context import ApiRequest
from foremask.service.api.openapi import build
from tests.service.api.conftest import Running, http
from tests.service.api.worker import complete
from tests.support.javascript import NODE, packages
from tests.support.programs import ran

PAGES = {"/", "/reference", "/static/{name}", "/docs", "/docs/{name}"}


def test_every_route_is_described() -> None:
    app = Litestar(HANDLERS, openapi_config=None, request_class=ApiRequest)
    routes = {
        (each.path_format, method.lower())
        for each in app.routes
        for method in getattr(each, "methods", ())
        if each.path_format not in PAGES and method not in ("HEAD", "OPTIONS")
    }
    assert routes == {
        (path, method) for path, methods in build(HANDLERS)["paths"].items() for method in methods
    }


def test_the_document_knows_presets_and_reasons() -> None:
    document: dict[str, Any] = build(HANDLERS)
    assert document["openapi"] == "3.1.0"
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
    anywhere = {"path_unknown", "method_not_allowed"}  # of no operation
    anywhere |= {"bad_http", "target_too_long", "headers_too_large", "request_too_slow"}
    later = {
        "cancelled",
        "result_expired",
        "timed_out",
        "worker_crashed",
        "object_lost",
    }  # of a job's status
    elsewhere = {"settings_invalid", "promise_broken", "model_unavailable", "output_failed"}
    elsewhere |= {"device_unavailable"}
    statuses = {kind.reason: kind.status for kind in ERROR_TABLE}
    answered = {kind for kind in BY_REASON.values() if "cli" not in kind.__module__}
    assert set(ERROR_TABLE) == answered
    assert reported.keys() >= statuses.keys() - anywhere - later - elsewhere
    assert reported.items() <= statuses.items()


def test_a_machine_that_tries_everything_finds_nothing(service: Running) -> None:
    """schemathesis, every check; ``python -m benchmarks.endurance.contract`` goes on for longer."""
    cases, failures = examine(service.url, service.token, examples=5, seconds=30)
    assert not failures, failures[-6000:]
    assert cases > 20  # 374 in 25 s on two busy cores


def test_the_document_is_served(service: Running) -> None:
    built = msgspec.json.decode(msgspec.json.encode(build(HANDLERS)))
    assert http.get(f"{service.url}/openapi.json").json() == built


@pytest.mark.slow
def test_openapi_python_client_makes_one(
    service: Running, clip_origin: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openapi.json").write_bytes(http.get(f"{service.url}/openapi.json").content)
    words = ["generate", "--path", "openapi.json", "--meta", "none", "--output-path", "made"]
    (tmp_path / "config.yaml").write_text("post_hooks: []\n")
    program = (sys.executable, "-m", "openapi_python_client")
    generated = ran(*program, *words, "--config", "config.yaml", cwd=tmp_path)
    assert "Warning" not in generated.stdout + generated.stderr
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("made")
    jobs = {
        name: importlib.import_module(f"made.api.jobs.{name}") for name in ("submit", "read_status")
    }
    models, types = importlib.import_module("made.models"), importlib.import_module("made.types")
    client = made.AuthenticatedClient(
        base_url=service.url, token=service.token, prefix="", auth_header_name="api_token"
    )
    with client:
        body = models.JobRequest(
            video=f"{clip_origin}/good.mp4",
            hints=[models.Point(x=3, y=4, type_=models.PointType("point"))],
        )
        accepted = jobs["submit"].sync(client=client, body=body)
        assert isinstance(accepted, models.Accepted)
        job = accepted.request_id
        assert jobs["read_status"].sync(job, client=client).status == "IN_PROGRESS"
        asyncio.run(complete(service, job, drawn / "good.mp4"))
        done = jobs["read_status"].sync(job, client=client)
        assert (done.status, done.result.report.frames_out) == ("COMPLETED", 25)
        assert httpx.get(done.result.mask_url).content == (drawn / "good.mp4").read_bytes()
        clip = types.File(io.BytesIO((drawn / "good.mp4").read_bytes()), "good.mp4")
        form = models.JobRequestForm(video=clip, hints=body.hints, sync=False)
        assert isinstance(jobs["submit"].sync(client=client, body=form), models.Accepted)
        refused = jobs["submit"].sync(client=client, body=models.JobRequest(video="ftp://x/y"))
        assert refused.error.reason == "url_scheme"


CLIENT = """
import createClient from "openapi-fetch";
import type { paths } from "./api.d.ts";
declare const process: { argv: string[] };
const [, , baseUrl, token, video] = process.argv as [string, string, string, string, string];
const client = createClient<paths>({ baseUrl, headers: { api_token: token } });
const body = { video, hints: [{ type: "point" as const, x: 3, y: 4 }] };
const { data, error } = await client.POST("/v2/video/segment/foreground_mask", { body });
if (!data) throw new Error(error.error.details);
console.log(data.request_id);
const params = { path: { request_id: data.request_id } };
for (;;) {
  const status = await client.GET("/v2/status/{request_id}", { params });
  if (status.data?.result) {
    const mask = await fetch(status.data.result.video_url);
    console.log((await mask.arrayBuffer()).byteLength);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
}
const wrong = { body: { video: "ftp://x" } };
const refused = await client.POST("/v2/video/segment/foreground_mask", wrong);
console.log(refused.error?.error.reason);
"""


@pytest.mark.slow
def test_openapi_typescript_makes_one(
    service: Running, clip_origin: str, drawn: Path, tmp_path: Path
) -> None:
    (tmp_path / "node_modules").symlink_to(packages())
    (tmp_path / "openapi.json").write_bytes(http.get(f"{service.url}/openapi.json").content)
    (tmp_path / "client.mts").write_text(CLIENT)
    for words in (
        "openapi-typescript/bin/cli.js openapi.json -o api.d.ts --default-non-nullable=false",
        "typescript/bin/tsc --noEmit --strict --noUncheckedIndexedAccess --module nodenext"
        " --target es2023 --lib es2023,dom --allowImportingTsExtensions client.mts",
    ):
        checked = ran(NODE, *f"node_modules/{words}".split(), cwd=tmp_path, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    sent = [service.url, service.token, f"{clip_origin}/good.mp4"]
    with subprocess.Popen(  # noqa: S603
        [NODE, "client.mts", *sent], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        asyncio.run(complete(service, client.stdout.readline().strip(), drawn / "good.mp4"))
        size, reason = client.stdout.read().split()
    assert (client.returncode, reason) == (0, "url_scheme")
    assert int(size) == (drawn / "good.mp4").stat().st_size


@pytest.mark.slow
def test_unknown_fields_are_named(client: httpx.Client, clip_origin: str) -> None:
    """Misspelt options are not silent; what the hosted service's SDK sends is known."""
    body = {"video": f"{clip_origin}/good.mp4", "sync": False}
    path = "/v2/video/segment/foreground_mask"
    assert "unknown-fields" not in client.post(path, json=body).headers
    answer = client.post(path, json=body | {"qualty": "best", "zoom\n": 1})
    assert answer.status_code == 202
    assert answer.headers["unknown-fields"] == r'"qualty", "zoom\n"'
