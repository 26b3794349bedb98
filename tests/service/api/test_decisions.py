"""Every row of the contract's decision table, and clauses that clients rely on, over real HTTP."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from foremask.hints.decoding import MAX_ITEMS
from foremask.options import Preset
from foremask.service.api.job_routes import SUBMIT_PATHS
from foremask.service.jobs.admission import QUEUE_LIMIT
from foremask.service.jobs.tokens import TokenLimits, create_token, revoke_token, token_hash
from tests.service.api import clips
from tests.service.api.conftest import PATH, Running, assert_refused, http, post
from tests.service.api.test_files import form, send
from tests.service.api.worker import completed, upload
from tests.support.http_server import serving_files

JSON = {"Content-Type": "application/json"}
CLIPS = [
    ("http://{origin}/status/401", 422, "url_forbidden"),
    ("http://{origin}/status/403", 422, "url_forbidden"),
    ("http://{origin}/status/404", 422, "url_status"),
    ("http://{origin}/status/500", 422, "url_status"),
    ("http://{origin}/page.mp4", 422, "not_a_video"),
    ("http://{origin}/data.mp4", 422, "not_a_video"),
    ("http://{origin}/huge.mp4", 413, "file_too_large"),
    ("http://{origin}/wide.mp4", 413, "resolution_too_large"),
    ("http://{origin}/long.mp4", 400, "duration_too_long"),
    ("http://{origin}/many.mp4", 400, "too_many_frames"),
    ("http://{origin}/empty.mp4", 422, "empty_file"),
    ("http://{origin}/matroska.mkv", 415, "container_unsupported"),
    ("http://{origin}/named-mp4.mp4", 415, "container_unsupported"),
    ("http://{origin}/flash.flv", 415, "container_unsupported"),
    ("http://{origin}/stream.ts", 415, "container_unsupported"),
    ("http://{origin}/playlist.m3u8", 415, "container_unsupported"),
    ("http://{origin}/mpeg4.mp4", 415, "codec_unsupported"),
    ("http://{origin}/sound.mp4", 422, "no_video_stream"),
    ("http://{origin}/no-moov.mp4", 422, "corrupt"),
    ("http://{origin}/encrypted.mp4", 422, "encrypted"),
    ("http://{origin}/hop/3", 422, "url_unreachable"),
    ("http://{origin}/private", 422, "url_private"),
    ("http://127.0.0.1:1/clip.mp4", 422, "url_unreachable"),
    ("http://no-such-host.invalid/clip.mp4", 422, "url_unreachable"),
    ("https://{origin}/good.mp4", 422, "url_unreachable"),
    ("ftp://example.com/clip.mp4", 422, "url_scheme"),
    ("file:///etc/passwd", 422, "url_scheme"),
    ("http://user:secret@example.com/clip.mp4", 422, "url_not_allowed"),
    ("http://93.184.215.14:22/clip.mp4", 422, "url_not_allowed"),
    ("http://10.0.0.1/clip.mp4", 422, "url_private"),
    ("http://169.254.169.254/latest/meta-data", 422, "url_private"),
]


@pytest.mark.parametrize(("video", "code", "reason"), CLIPS, ids=lambda each: str(each)[-40:])
def test_a_clip_that_cannot_be_masked_is_refused_at_once(
    client: httpx.Client, clip_origin: str, video: str, code: int, reason: str
) -> None:
    url = video.replace("{origin}", clip_origin.removeprefix("http://"))
    error = assert_refused(client.post(PATH, json={"video": url}), code, reason, "video")
    assert "10." not in error["details"] or reason != "url_private", "never print the address"
    assert "secret" not in error["details"]


@pytest.mark.parametrize("name", ["good.mp4", "one-frame.mp4", "just-60-s.mp4", "hop/2"], ids=str)
def test_a_clip_that_can_be_masked_is_accepted(
    client: httpx.Client, service: Running, clip_origin: str, name: str
) -> None:
    answer = client.post(PATH, json={"video": f"{clip_origin}/{name}", "unknown": [1, {"a": None}]})
    assert answer.status_code == 202, answer.text
    job, url = answer.headers["x-request-id"], answer.json()["status_url"]
    assert answer.json() == {"request_id": job, "status_url": url}
    assert url == f"{service.url}/v2/status/{job}"
    status = client.get(url).json()
    assert (status["request_id"], status["status"]) == (job, "IN_PROGRESS")


DEEP = b"[" * 9900 + b"]" * 9900
BODIES: list[tuple[bytes, int, str]] = [
    (b"", 400, "bad_json"),
    (b"{", 400, "bad_json"),
    (b"[]", 400, "bad_json"),
    (b"null", 400, "bad_json"),
    (b'{"video": "\xff"}', 400, "bad_json"),
    (b"\xef\xbb\xbf{}", 400, "bad_json"),
    (b'{"video": "a", "video": "b"}', 400, "bad_json"),
    (b'{"x": {"a": 1, "a": 2}}', 400, "bad_json"),
    (b'{"x": NaN}', 400, "bad_json"),
    (b'{"x": ' + b"9" * 5000 + b"}", 400, "bad_json"),
    (b'{"x": ' + b"[" * 100_000, 400, "bad_json"),
    (b"[" * 500_000, 400, "bad_json"),
    (b'{"a":[' + b"0," * MAX_ITEMS + b"0,0]}", 400, "bad_json"),
    (b"{" + b",".join(b'"%d":0' % n for n in range(32_000)) + b"}", 400, "bad_json"),
    (b'{"video": "\\"' + b"," * 2 * MAX_ITEMS + b'"}', 422, "video_invalid"),
    (b"{}", 422, "video_missing"),
    (b'{"video": null}', 422, "video_missing"),
    (b'{"video": 7}', 422, "video_invalid"),
    (b'{"video": ""}', 422, "video_invalid"),
    (b'{"video": "clip.mp4"}', 422, "video_invalid"),
    (b'{"video": "http://example.com/a b.mp4"}', 422, "video_invalid"),
    (b'{"video": "http://example.com/\\u0000.mp4"}', 422, "video_invalid"),
    (b'{"video": "http://example.com/\\ud800.mp4"}', 422, "video_invalid"),
    (b'{"video": "GOOD", "output_container_and_codec": "avi"}', 422, "preset_unknown"),
    (b'{"video": "GOOD", "output_container_and_codec": 5}', 422, "preset_unknown"),
    (b'{"video": "GOOD", "webhook_url": "ftp://example.com/hook"}', 422, "webhook_invalid"),
    (b'{"video": "GOOD", "webhook_url": "http://10.0.0.1/hook"}', 422, "webhook_invalid"),
    (b'{"video": "GOOD", "webhook_url": "http://a.invalid/"}', 422, "webhook_invalid"),
    (b'{"video": "GOOD", "sync": "yes"}', 422, "field_invalid"),
    (b'{"video": "GOOD", "quality": "x - at `$.no`"}', 422, "field_invalid"),
    (b'{"video": "GOOD", "quality": "\\ud800", "x": ' + DEEP + b"}", 422, "field_invalid"),
]


@pytest.mark.parametrize(
    ("body", "code", "reason"), BODIES, ids=lambda each: repr(each)[2:40] + repr(each)[-16:]
)
@pytest.mark.parametrize("path", [PATH, "/v2/video/probe"], ids=["submit", "probe"])
def test_a_body_that_is_wrong_is_told_what_is_wrong(
    client: httpx.Client, good: str, path: str, body: bytes, code: int, reason: str
) -> None:
    answer = client.post(path, content=body.replace(b"GOOD", good.encode()), headers=JSON)
    error = assert_refused(answer, code, reason)
    if reason == "preset_unknown":
        assert all(preset.value in error["details"] for preset in Preset)


def test_the_id_of_a_refused_submit_is_known_as_refused(client: httpx.Client) -> None:
    refused = client.post(PATH, json={"video": "http://10.0.0.1/clip.mp4"})
    assert_refused(refused, 422, "url_private")
    asked = client.get(f"/v2/status/{refused.json()['request_id']}")
    details = assert_refused(asked, 410, "request_refused", "request_id")["details"]
    assert details.startswith("This request was refused, and there is no job: ")
    assert details.endswith("[url_private]")


@pytest.mark.parametrize("free_mib", [2, 17])
def test_where_a_host_serves_no_ranges_the_whole_clip_is_read_or_the_reason_is_true(
    client: httpx.Client, tmp_path: Path, free_mib: int
) -> None:
    """As `python -m http.server` does; the index is at the clip's end."""
    clip = clips.write(tmp_path / "clip.mp4").read_bytes()
    index = clip.rindex(b"moov") - 4
    free = (free_mib << 20).to_bytes(4) + b"free" + bytes((free_mib << 20) - 8)
    (tmp_path / "clip.mp4").write_bytes(clip[:index] + free + clip[index:])
    with serving_files(tmp_path) as url:
        answer = client.post("/v2/video/probe", json={"video": f"{url}/clip.mp4"})
        if free_mib == 2:
            assert (answer.status_code, answer.json()["result"]["frames"]) == (200, 10)
        else:
            error = assert_refused(answer, 422, "url_unreachable", "video")
            no_ranges = "The host serves no ranges of the file, and the file has over 16 MiB."
            assert error["details"] == f"{no_ranges} A job would be accepted."
            assert client.post(PATH, json={"video": f"{url}/clip.mp4"}).status_code == 202


def test_the_length_of_a_url_is_that_of_its_bytes(client: httpx.Client, good: str) -> None:
    url = good + 5000 * "é"
    for field, reason in (("video", "video_invalid"), ("webhook_url", "webhook_invalid")):
        answer = client.post(PATH, json={"video": good, field: url})
        error = assert_refused(answer, 422, reason, field)
        assert "characters" not in error["details"]
        if field == "video":
            assert (error["limit"], error["actual"]) == (8192, len(url.encode()))


def test_a_long_body_is_refused_before_its_type_is_rechecked(client: httpx.Client) -> None:
    declared = client.post(PATH, content=b" " * ((1 << 20) + 1))
    assert assert_refused(declared, 413, "body_too_large")["limit"] == 1 << 20
    counted = client.post(PATH, content=iter([b" " * 65_536] * 20), headers=JSON)
    assert assert_refused(counted, 413, "body_too_large")["actual"] > 1 << 20
    at_most = client.post(PATH, content=b"{}" + b" " * ((1 << 20) - 2), headers=JSON)
    assert_refused(at_most, 422, "video_missing")


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "json"])
def test_a_body_of_another_type_is_refused_before_it_is_parsed(
    client: httpx.Client, kind: str | None
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert_refused(client.post(PATH, content=b"{nonsense", headers=headers), 415, "content_type")
    headers = {"Content-Type": 'Application/JSON; charset="utf-8"'}
    assert_refused(client.post(PATH, content=b"{}", headers=headers), 422, "video_missing")


@pytest.mark.parametrize(
    "path", ["/nothing", "/v2", "/v2/status", "/v2/video/segment", "/%00", "/v2/files"]
)
def test_an_unknown_path_comes_before_everything(service: Running, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert_refused(http.request(method, service.url + path, content=b"{"), 404, "path_unknown")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PATH, {"POST"}),
        ("PUT", "/v2/video/upload", {"POST"}),
        ("POST", "/v2/status/any", {"GET", "HEAD", "DELETE"}),
        ("TRACE", "/v2/status/any", {"GET", "HEAD", "DELETE"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/v2/files/a/b.mp4", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_comes_before_the_token(
    service: Running, method: str, path: str, allowed: set[str]
) -> None:
    answer = http.request(method, service.url + path)
    assert_refused(answer, 405, "method_not_allowed")
    assert {each.strip() for each in answer.headers["allow"].split(",")} - {"OPTIONS"} == allowed


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", PATH), ("POST", "/v2/video/upload"), ("GET", "/v2/status/a"), ("GET", "/v2/jobs")],
)
def test_the_token_comes_before_the_body(service: Running, method: str, path: str) -> None:
    url = service.url + path
    assert_refused(http.request(method, url, content=b"{"), 403, "token_missing", "api_token")
    for wrong in (b"unknown", b"x" * 10_000, b"\xe9"):
        answer = http.request(method, url, content=b"{", headers={b"api_token": wrong})
        assert_refused(answer, 403, "token_invalid")


async def test_a_revoked_token_is_shut_out_at_once(service: Running) -> None:
    async with service.database() as database, httpx.AsyncClient(base_url=service.url) as client:
        client.headers["api_token"], token = await create_token(database, "gone")
        assert_refused(await client.get("/v2/status/none"), 404, "request_unknown")
        await revoke_token(database, str(token.id))
        assert_refused(await client.get("/v2/status/none"), 403, "token_invalid")
        assert_refused(await client.post(PATH), 403, "token_invalid")


@pytest.mark.parametrize(
    "job", ["7a2e48c4-0000-4000-8000-b8bda88c031f", "a" * 500, "%00", "%F0%9F%98%80"]
)
def test_an_unknown_request_is_404(client: httpx.Client, job: str) -> None:
    assert_refused(client.get(f"/v2/status/{job}"), 404, "request_unknown")


def test_the_job_of_another_token_is_unknown(service: Running, job: dict[str, str]) -> None:
    other = service.new_token()
    assert_refused(http.get(job["status_url"], headers=other), 404, "request_unknown")
    assert_refused(http.delete(job["status_url"], headers=other), 404, "request_unknown")


def test_a_key_used_for_another_body_is_refused(client: httpx.Client, good: str) -> None:
    headers = {"Idempotency-Key": "order-17", **JSON}
    body = {"video": good}
    first = client.post(PATH, json=body, headers=headers).json()["request_id"]
    spelled = json.dumps({"sync": False, **body}, indent=3)
    again = client.post("/foreground_mask", content=spelled, headers=headers)
    assert again.json()["request_id"] == first
    other = client.post(PATH, json={**body, "output_container_and_codec": "gif"}, headers=headers)
    assert_refused(other, 422, "idempotency_mismatch", "Idempotency-Key")
    another_call = client.post("/v2/video/edit/green_screen", json=body, headers=headers)
    assert_refused(another_call, 422, "idempotency_mismatch", "Idempotency-Key")
    for wrong in ("", "a b", "x" * 300):
        answer = client.post(PATH, json=body, headers={"Idempotency-Key": wrong})
        assert_refused(answer, 422, "field_invalid", "Idempotency-Key")


def test_the_rate_is_told_and_kept(service: Running) -> None:
    headers = service.new_token(TokenLimits(rate_per_minute=1, burst=2))
    for left in ("1", "0"):
        answer = post(service, PATH, headers)
        assert_refused(answer, 422, "video_missing")
        assert answer.headers["ratelimit-limit"] == "2"
        assert answer.headers["ratelimit-remaining"] == left
    answer = http.post(service.url + PATH, content=b"x" * (2 << 20), headers=headers)
    assert_refused(answer, 429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit-remaining"] == "0"
    assert 60 <= int(answer.headers["ratelimit-reset"]) <= 120


def test_a_full_queue_is_429(service: Running, client: httpx.Client, good: str) -> None:
    filler = token_hash(service.new_token()["api_token"])
    count = "update tokens set unfinished = %s where hash = %s"
    service.sql(count, QUEUE_LIMIT, filler)
    try:
        answer = client.post(PATH, json={"video": good})
    finally:
        service.sql(count, 0, filler)
    assert assert_refused(answer, 429, "queue_full")["limit"] == QUEUE_LIMIT


def test_a_cancelled_job_reads_410(client: httpx.Client, job: dict[str, str]) -> None:
    for method in ("DELETE", "DELETE", "GET"):
        answer = client.request(method, job["status_url"])
        body = answer.json()
        assert (answer.status_code, body["status"]) == (200, "ERROR")
        assert (body["error"]["code"], body["error"]["reason"]) == (410, "cancelled")


def test_a_record_that_cannot_be_read_is_unknown(
    service: Running, client: httpx.Client, job: dict[str, str]
) -> None:
    service.sql(
        'update jobs set spec = spec || \'{"form": "none"}\' where id = %s', job["request_id"]
    )
    answer = client.get(job["status_url"])
    body = answer.json()
    error = body.pop("error")
    assert (answer.status_code, error["reason"]) == (200, "internal")
    assert body == {"request_id": job["request_id"], "status": "UNKNOWN"}
    assert job["request_id"] in error["details"]


def test_what_is_unforeseen_says_nothing_of_the_inside(
    service: Running, client: httpx.Client
) -> None:
    broken = "create function charge_rate(bytea, text) returns int language sql as 'select 1 / 0'"
    service.sql("alter function charge_rate rename to charge_rate_away")
    service.sql(broken)
    try:
        answer = client.post(PATH, json={"video": "http://example.com/a.mp4"})
    finally:
        service.sql("drop function charge_rate")
        service.sql("alter function charge_rate_away rename to charge_rate")
    error = assert_refused(answer, 500, "internal")
    assert answer.json()["request_id"] in error["details"]
    assert "charge_rate" not in answer.text
    assert "Traceback" not in answer.text


def test_fifty_identical_posts_make_one_job(service: Running, good: str) -> None:
    headers = {**service.headers, "Idempotency-Key": "fifty"}
    with ThreadPoolExecutor(50) as threads:
        asked = [threads.submit(post, service, PATH, headers, video=good) for _ in range(50)]
    answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["request_id"] for answer in answers}) == 1


# Clauses that clients of the hosted service silently rely on


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


def test_a_result_that_the_store_has_lost_is_gone(
    service: Running, uploaded: str, drawn: Path
) -> None:
    made = completed(service, uploaded, drawn / "good.mp4")
    assert http.get(made["status_url"], headers=service.headers).json()["status"] == "COMPLETED"
    asyncio.run(delete_under(service, f"results/{made['request_id']}"))
    body = http.get(made["status_url"], headers=service.headers).json()
    assert (body["status"], body["error"]["reason"]) == ("ERROR", "result_expired")
    answer = post(service, f"/v2/status/{made['request_id']}/convert")
    assert_refused(answer, 404, "request_unknown", "request_id")


async def delete_under(service: Running, prefix: str) -> None:
    await (await service.objects()).delete_under(prefix)


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
        assert head.headers.get("content-type") == get.headers.get("content-type")
        if path != "/metrics":
            assert head.headers["content-length"] == get.headers["content-length"]
