"""The clauses of the wire contract that clients of the hosted service silently rely on."""

import json
from http.client import HTTPConnection
from pathlib import Path

import pytest

from foremask.service.api.job_routes import SUBMIT_PATHS
from foremask.service.jobs.tokens import TokenLimits
from tests.service.api.conftest import PATH, Running, assert_refused, http, post
from tests.service.api.test_files import form, send
from tests.service.api.worker import completed, upload


@pytest.fixture(scope="module")
def uploaded(service: Running, drawn: Path) -> str:
    return upload(service, drawn / "good.mp4")


def test_every_path_of_the_call_is_the_same_call(service: Running, uploaded: str) -> None:
    """The vendor's SDK, collection and document name different ones."""
    collections = ("/v2/video/generate", "/v2/video/edit", "/v2/video/segment", "")
    paths = {f"{each}/foreground_mask" for each in collections}
    assert paths == set(SUBMIT_PATHS)
    headers = {**service.headers, "Idempotency-Key": "any-path"}
    answers = [post(service, path, headers, video=uploaded) for path in paths]
    assert {each.status_code for each in answers} == {202}
    assert len({each.json()["request_id"] for each in answers}) == 1


@pytest.mark.parametrize(
    ("limits", "code", "reason"),
    [
        (TokenLimits(rate_per_minute=1, burst=1), 429, "rate_limited"),
        (TokenLimits(quota=1), 403, "quota_exhausted"),
        (TokenLimits(concurrent=1), 429, "too_many_jobs"),
    ],
)
def test_the_same_request_again_is_answered_by_a_token_that_has_nothing_left(
    service: Running, uploaded: str, limits: TokenLimits, code: int, reason: str
) -> None:
    headers = {**service.new_token(limits), "Idempotency-Key": "once"}
    first = post(service, PATH, headers, video=uploaded)
    assert first.status_code == 202
    for _ in range(3):
        again = post(service, PATH, headers, video=uploaded)
        assert (again.status_code, again.json()) == (202, first.json())
        assert int(again.headers["ratelimit-remaining"]) >= 0
    other = post(service, PATH, headers, video="http://a.invalid")
    assert_refused(other, 422, "idempotency_mismatch", "Idempotency-Key")
    new = post(service, PATH, headers | {"Idempotency-Key": "2"}, video=uploaded)
    assert assert_refused(new, code, reason)["limit"] == 1


def test_null_is_absence(service: Running, uploaded: str) -> None:
    headers = {**service.headers, "Idempotency-Key": "null"}
    names = ("output_container_and_codec", "quality", "webhook_url", "sync", "unknown")
    made = post(service, PATH, headers, video=uploaded, **dict.fromkeys(names))
    assert made.status_code == 202
    assert post(service, PATH, headers, video=uploaded).json() == made.json()


def test_a_result_that_is_gone_is_never_completed(
    service: Running, uploaded: str, drawn: Path
) -> None:
    """The status is ERROR 410, since clients that read COMPLETED fetch the URL."""
    made = completed(service, uploaded, drawn / "good.mp4")
    service.sql("update jobs set expired_at = now() where id = %s", made["request_id"])
    answer = http.get(made["status_url"], headers=service.headers)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "ERROR")
    assert "result" not in body
    error = body["error"]
    assert (error["code"], error["message"], error["reason"]) == (410, "Gone", "result_expired")


@pytest.mark.parametrize(
    ("asked", "sent"), [("video/", "video/"), ("image/gif", "image/gif"), (None, "image/gif")]
)
def test_uploads_take_the_types_that_the_vendors_client_sends(
    service: Running, asked: str | None, sent: str
) -> None:
    """``video/`` for an ending that it does not know, ``image/gif`` for a GIF."""
    given = form(service, asked)
    assert send(given, b"GIF89a", sent).status_code == 204
    fetched = http.get(given["file_url"])
    assert fetched.content == b"GIF89a"
    if asked == "image/gif":
        assert fetched.headers["content-type"] == "image/gif"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("api_token", "TOKEN ", "request_unknown"),
        ("x-api-key", "\tTOKEN  ", "request_unknown"),
        ("Authorization", "Bearer TOKEN ", "request_unknown"),
        ("Authorization", "bearer  TOKEN", "request_unknown"),
        ("Authorization", "Basic dDp0", "token_missing"),
        ("api_token", " ", "token_missing"),
    ],
)
def test_a_token_comes_in_three_headers_and_may_end_in_a_blank(
    service: Running, name: str, value: str, reason: str
) -> None:
    connection = HTTPConnection("127.0.0.1", service.settings.port, timeout=120)
    headers = {name: value.replace("TOKEN", service.token)}
    connection.request("GET", "/v2/status/none", headers=headers)
    assert json.loads(connection.getresponse().read())["error"]["reason"] == reason
    connection.close()


def test_head_is_answered_wherever_get_is(service: Running, uploaded: str, drawn: Path) -> None:
    job = completed(service, uploaded, drawn / "good.mp4")["request_id"]
    paths = "/ /reference /static/reference.js /docs /openapi.json /healthz /readyz /metrics"
    paths += f" /v2/status/{job} /v2/status/{job}/strip /v2/jobs/{job} /v2/jobs /v2/status/none"
    for path in paths.split():
        get, head = (
            http.request(method, service.url + path, headers=service.headers)
            for method in ("GET", "HEAD")
        )
        assert (head.status_code, head.content) == (get.status_code, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        if path != "/metrics":
            assert head.headers["content-length"] == get.headers["content-length"]
