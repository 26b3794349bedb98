"""Clients that send what no client should, or too much, or nothing, and keep nobody out."""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Generator
from functools import partial
from pathlib import Path

import httpx
import pytest

from foremask.service.api.connection import BODY_WINDOW_S, GRACE_S, HEAD_S, least_body_bytes
from foremask.service.api.job_routes import HOLD_S
from foremask.service.api.probing import BUDGET_S, SHOWS_PER_OWNER
from tests.service.api import clips
from tests.service.api.conftest import PATH, Running, assert_refused, http, post, running, serves
from tests.service.api.test_files import form, packed
from tests.support.origin import Answer, Request, gives, listening
from tests.support.patience import PATIENCE_S

LIMIT = 40
few = serves(  # none of its waits ends by itself, however slow the machine
    {"api.connection.HEAD_S": PATIENCE_S, "api.connection.BODY_WINDOW_S": PATIENCE_S},
    connections=LIMIT,
)


def dial(service: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.settings.port), timeout=120)


@contextlib.contextmanager
def crowd_of(service: Running, count: int) -> Generator[list[socket.socket]]:
    crowd = [dial(service) for _ in range(count)]
    try:
        yield crowd
    finally:
        for each in crowd:
            each.close()


def hear(raw: socket.socket) -> bytes:
    heard = b""
    with contextlib.suppress(ConnectionError):
        while block := raw.recv(65_536):
            heard += block
    return heard


def reply_to(service: Running, *sent: bytes) -> bytes:
    with dial(service) as raw:
        for each in sent:
            raw.sendall(each)
            time.sleep(0.1)
        return hear(raw)


def refused(answer: bytes, code: int, reason: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert headers["Connection"] == "close"
    parsed = httpx.Response(int(status.split()[1]), headers=headers, content=body)
    assert_refused(parsed, code, reason)


HEALTH, CLOSE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"Connection: close\r\n\r\n"
SENT = b"POST /v2/video/probe HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
NONSENSE = {
    "zeros": (b"\0" * 64, 400, "bad_http"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60), 400, "bad_http"),
    "unknown method": (b"FROBNICATE /a HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
    "two lengths": (SENT + b"Content-Length: 3\r\n\r\n{}", 400, "bad_http"),
    "length and chunks": (SENT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_http"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_http"),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_http"),
    "a bare CONNECT": (b"CONNECT example.com:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_http"),
    "an umlaut in the path": ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400, "bad_http"),
    "a long line": (b"GET /" + b"a" * (16 << 10) + b" HTTP/1.1\r\n\r\n", 414, "target_too_long"),
    "a long header": (b"GET /a HTTP/1.1\r\nb: " + b"c" * (64 << 10), 431, "headers_too_large"),
    "many headers": (b"GET /a HTTP/1.1\r\n" + b"b: c\r\n" * 12_000, 431, "headers_too_large"),
}


@pytest.mark.parametrize(("sent", "code", "reason"), NONSENSE.values(), ids=NONSENSE)
def test_what_the_parser_refuses_is_answered_as_everything_else(
    few: Running, sent: bytes, code: int, reason: str
) -> None:
    refused(reply_to(few, sent), code, reason)
    assert http.get(f"{few.url}/healthz").status_code == 200


def test_a_bad_chunk_is_the_answer_to_its_own_request(few: Running) -> None:
    head = (
        f"POST /v2/video/probe HTTP/1.1\r\nHost: a\r\napi_token: {few.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    refused(reply_to(few, head.encode() + b"1\r\n{\r\n", b"zz\r\n}\r\n"), 400, "bad_http")


def test_nonsense_behind_a_request_is_answered_behind_its_answer(few: Running) -> None:
    first, _, rest = reply_to(few, HEALTH + b"\0\0\0\0").partition(b'{"status":"ok"}')
    assert first.startswith(b"HTTP/1.1 200 OK")
    refused(rest, 400, "bad_http")
    heard = reply_to(few, HEALTH * 100)
    assert 1 <= heard.count(b"HTTP/1.1 200 OK") <= 20
    refused(heard[heard.rindex(b"HTTP/1.1 ") :], 400, "bad_http")


def test_http_1_0_needs_no_host(few: Running) -> None:
    assert reply_to(few, b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_headers_that_fit_are_taken(few: Running) -> None:
    path = "/healthz?" + "a" * ((16 << 10) - 9)
    assert http.get(few.url + path, headers={"cookie": "b" * 48_000}).status_code == 200
    heard = reply_to(few, HEALTH * 2 + HEALTH[:-2] + CLOSE)
    assert heard.count(b'{"status":"ok"}') == 3


CHUNK = b"POST /v2/video/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;"


@pytest.mark.parametrize("sent", [b"GET /healthz HTTP/1.1\r\nCookie: ", b"GET /", CHUNK])
def test_an_endless_line_ends_soon(few: Running, sent: bytes) -> None:
    with dial(few) as raw:
        raw.sendall(sent)
        count = 0
        with contextlib.suppress(ConnectionError):
            while count < 64 << 20:
                count += raw.send(b"a" * 65_536)
        assert count < 32 << 20
    assert http.get(f"{few.url}/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v2/uploads", "/v2/video/probe", "/nowhere"])
def test_chunks_of_hardly_any_bytes_end_the_connection(few: Running, path: str) -> None:
    """Four bodies of them kept the API from all other calls for 8 s, also without a token."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\napi_token: {few.token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    heard = reply_to(few, head.encode(), 6000 * b"1\r\n \r\n")
    assert b'"details":"The chunks of this body have 1 bytes; at least 64 are needed."' in heard


def test_a_body_in_small_chunks_is_read(few: Running) -> None:
    body = b"{" + b" " * 400_000 + b"}"
    parts = (body[at : at + 64] for at in range(0, len(body), 64))
    headers = few.headers | {"content-type": "application/json"}
    answer = http.post(f"{few.url}/v2/video/probe", content=parts, headers=headers)
    assert_refused(answer, 422, "video_missing", "video")


def test_the_silent_make_room(few: Running) -> None:
    with crowd_of(few, 3 * LIMIT):
        for _ in range(5):
            assert http.get(f"{few.url}/healthz").status_code == 200
        reported = http.get(f"{few.url}/v2/status/none", headers=few.headers)
        assert reported.json()["error"]["reason"] == "request_unknown"


def test_a_request_that_is_on_its_way_is_not_taken_for_silence(few: Running) -> None:
    with crowd_of(few, LIMIT + LIMIT // 2) as (first, *_):
        first.sendall(HEALTH[:-2] + CLOSE)
        assert hear(first).startswith(b"HTTP/1.1 200 OK")


def test_health_is_answered_though_every_connection_is_at_work(few: Running) -> None:
    tokens = [few.new_token()["api_token"] for _ in range(5)]
    with crowd_of(few, LIMIT) as crowd:
        for each, token in zip(crowd, tokens * LIMIT, strict=False):
            each.sendall(slow_body("/v2/video/probe", token))
        time.sleep(2 * GRACE_S)
        for path in ("/healthz", "/readyz"):
            assert http.get(few.url + path).status_code == 200
        busy = http.get(f"{few.url}/v2/status/none", headers=few.headers)
        assert (busy.status_code, busy.json()["error"]["reason"]) == (503, "unavailable")
        assert busy.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v2/uploads", "/v2/video/probe"])
def test_slow_bodies_of_one_caller_keep_nobody_out(few: Running, path: str) -> None:
    token = few.new_token()["api_token"]
    with crowd_of(few, LIMIT) as crowd:
        for each in crowd:
            each.sendall(slow_body(path, token))
        time.sleep(2 * GRACE_S)
        for _ in range(2 * LIMIT):
            crowd.append(dial(few))
            with contextlib.suppress(ConnectionError):
                crowd[-1].sendall(slow_body(path, token))
        for _ in range(5):
            answer = http.get(f"{few.url}/v2/jobs", headers=few.headers)
            assert answer.status_code == 200, answer.text


def slow_body(path: str, token: str) -> bytes:
    kind, body = "application/json", "{"
    if path == "/v2/uploads":
        kind, body, token = "multipart/form-data; boundary=b", "--b\r\n", ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: a\r\napi_token: {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: 100000\r\n\r\n{body}"
    ).encode()


def test_the_least_rate_of_a_whole_body_falls_with_its_time() -> None:
    rates = [least_body_bytes(seconds) / seconds for seconds in (10, 20, 40, 400)]
    assert rates == [4096, 2048, 1024, 1024]


def test_an_upgrade_that_nobody_knows_is_ignored(few: Running) -> None:
    """curl --http2 asks for one: the answer is the usual one, and the connection ends."""
    upgrade = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
    heard = reply_to(few, HEALTH[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\n" + upgrade)
    assert heard.startswith(b"HTTP/1.1 200 OK")
    assert heard.endswith(b'{"status":"ok"}')


# How long the API waits, for callers and for origins: its own constants, made shorter.

WAITS = ("connection.HEAD_S", "connection.BODY_WINDOW_S", "job_routes.HOLD_S", "probing.BUDGET_S")
hurried = serves({f"api.{name}": 1.0 for name in WAITS})


def test_the_waits_are_shorter_than_the_30_s_of_the_vendors_sdk() -> None:
    assert (HEAD_S, BODY_WINDOW_S, HOLD_S, BUDGET_S) == (10, 10, 25, 8)


def test_sync_gives_up_before_the_client_does(hurried: Running, good: str) -> None:
    answer = post(hurried, PATH, video=good, sync=True)
    assert answer.status_code == 202
    assert answer.elapsed.total_seconds() > 0.5
    assert set(answer.json()) == {"request_id", "status_url"}


def test_a_slow_origin_is_judged_later(hurried: Running, clip_origin: str) -> None:
    answer = post(hurried, PATH, video=f"{clip_origin}/slow/long.mp4")
    status = http.get(answer.json()["status_url"], headers=hurried.headers)
    assert "frames_total" not in status.json()


def test_who_dribbles_headers_is_refused_and_who_is_silent_is_closed(hurried: Running) -> None:
    with dial(hurried) as silent, dial(hurried) as slow, dial(hurried) as body:
        body.sendall(slow_body("/v2/uploads", ""))
        slow.sendall(b"GET /healthz HTTP/1.1\r\nCookie: ")
        while not select.select([slow], [], [], 0.1)[0]:  # until it is answered
            slow.sendall(b"c")
        assert hear(silent) == b""
        refused(hear(slow), 408, "request_too_slow")
        refused(hear(body), 408, "request_too_slow")


# What one token may take of disks and origins

# A disk whose reserve is larger than the disk.
FULL_DISK = {"storage.objects.RESERVE_SHARE": 2, "storage.objects.RESERVE_BYTES": 1 << 60}


def waits(data: bytes, released: asyncio.Event, quick_start: int) -> Answer:
    """Serve ``data``; ranges that start after ``quick_start`` wait until ``released``."""
    quick = gives(data)

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        wanted = request.headers.get("range", "bytes=0-").removeprefix("bytes=")
        if int(wanted.partition("-")[0]) > quick_start:
            await released.wait()
        await quick(request, writer)

    return answer


async def test_a_caller_who_hangs_up_gives_the_place_of_a_shown_clip_back(
    service: Running, tmp_path: Path
) -> None:
    token = await asyncio.to_thread(service.new_token)
    small = clips.write(tmp_path / "small.mp4").read_bytes()
    data = small + (2 << 20).to_bytes(4) + b"free" + bytes((2 << 20) - 8)
    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S, headers=token) as client,
    ):
        origin.answers["/half.mp4"] = waits(data, asyncio.Event(), (1 << 20) - 1)
        body = {"video": origin.url("/half.mp4")}
        for _ in range(SHOWS_PER_OWNER + 1):
            async with client.stream("POST", "/v2/playground/clip", json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                assert await anext(answer.aiter_bytes())


patient = serves({"api.probing.BUDGET_S": PATIENCE_S})


async def test_slow_ranged_origins_of_one_token_leave_probes_for_another(
    patient: Running, tmp_path: Path
) -> None:
    token = await asyncio.to_thread(patient.new_token)
    released = asyncio.Event()
    large = clips.write(
        tmp_path / "large.mp4", codec="mjpeg", frames=30, size=(640, 480), pixel_format="yuvj420p"
    ).read_bytes()
    assert len(large) > 100_000
    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=patient.url, timeout=PATIENCE_S) as client,
    ):
        origin.answers["/slow.mp4"] = waits(large, released, 0)
        origin.answers["/good.mp4"] = gives(large)
        slow = {"video": origin.url("/slow.mp4")}
        asked = [asyncio.create_task(client.post(PATH, json=slow, headers=token)) for _ in range(8)]
        await asyncio.sleep(1.0)
        body = {"video": origin.url("/good.mp4")}
        for _ in range(3):
            answer = await client.post("/v2/video/probe", json=body, headers=patient.headers)
            assert answer.status_code == 200, answer.text
        assert not all(task.done() for task in asked)
        released.set()
        assert [(await task).status_code for task in asked] == [202] * 8


def test_uploads_stop_at_the_tokens_quota_and_at_the_disks_reserve(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url, tmp_path / "a", storage_per_token=1000) as service:
        given = form(service)
        body, own = packed(given, b"x" * 5000)
        for content in (body, iter([body])):  # with its size declared, and without
            kind = {"Content-Type": own["content-type"]}
            answer = http.post(given["upload_url"], content=content, headers=kind)
            assert assert_refused(answer, 429, "storage_quota")["limit"] == 1000
            assert int(answer.headers["retry-after"]) >= 1
        assert not list((tmp_path / "a").rglob("uploads/*/*"))
    with running(database_url, tmp_path / "b", FULL_DISK) as service:
        answer = post(service, "/v2/video/upload")
        assert_refused(answer, 503, "storage_full")
        assert int(answer.headers["retry-after"]) >= 1


async def test_clips_of_hosts_that_hang_hold_up_no_other_tokens_clip(
    service: Running, good: str
) -> None:
    stranger = await asyncio.to_thread(service.new_token)
    asked, ended = asyncio.Semaphore(0), asyncio.Event()

    async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await ended.wait()
        writer.close()

    async with (
        listening() as origin,
        httpx.AsyncClient(base_url=f"{service.url}/v2", timeout=PATIENCE_S) as client,
    ):
        origin.answers["/clip.mp4"] = hang
        shown = partial(client.post, "/playground/clip")
        body = {"video": origin.url()}
        hung = [asyncio.create_task(shown(json=body, headers=stranger)) for _ in range(4)]
        for _ in hung:
            await asked.acquire()
        answer = await shown(json={"video": good}, headers=service.headers)
        assert answer.status_code == 200
        assert not any(each.done() for each in hung)
        ended.set()
        await asyncio.wait(hung)
