"""The OpenAPI document: it is what the service does, tried by a machine."""

from typing import Any

import msgspec
from benchmarks.endurance.contract import examine
from litestar import Litestar

from foremask.errors import ERROR_TABLE
from foremask.options import Preset
from foremask.service.api.application import HANDLERS
from foremask.service.api.context import ApiRequest
from foremask.service.api.openapi import build
from tests.service.api.conftest import Running
from tests.service.api.patient import http

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
    assert reported.keys() >= statuses.keys() - anywhere - later - elsewhere
    assert reported.items() <= statuses.items()


def test_a_machine_that_tries_everything_finds_nothing(service: Running) -> None:
    """schemathesis, every check; ``python -m benchmarks.endurance.contract`` goes on for longer."""
    examined = examine(service.url, service.token, examples=5, seconds=30)
    assert examined.passed, examined.report[-6000:]
    assert examined.cases > 20, examined.report[-3000:]  # 374 in 25 s on two busy cores


def test_the_document_is_served(service: Running) -> None:
    built = msgspec.json.decode(msgspec.json.encode(build(HANDLERS)))
    assert http.get(f"{service.url}/openapi.json").json() == built
