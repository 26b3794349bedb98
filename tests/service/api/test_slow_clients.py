"""Clients that send or take files slowly: the API holds little for each, and gives it back."""

import dataclasses
import socket
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from foremask.service.api.context import DOWNLOADS_PER_LINK
from foremask.service.jobs.tokens import token_hash
from tests.service.api.conftest import Running, http, serves
from tests.service.api.test_bad_clients import crowd_of, dial, hear
from tests.service.api.test_files import form, packed, send
from tests.support.patience import wait_until

pytestmark = pytest.mark.slow

MIB = 1 << 20
LARGE_BODIES = 40
few_slots = serves({"api.context.LARGE_BODIES": LARGE_BODIES, "api.calls.SLOT_S": 0.5})


def begun_upload(given: dict[str, Any], sent_bytes: int) -> bytes:
    """A request that uploads a clip of some 64 MiB, up to its first ``sent_bytes``."""
    body, headers = packed(given, bytes(sent_bytes))
    head = (
        f"POST /v2/uploads HTTP/1.1\r\nHost: a\r\nContent-Type: {headers['content-type']}\r\n"
        f"Content-Length: {64 * MIB}\r\n\r\n"
    )
    return head.encode() + body[: body.rindex(b"\r\n--")]


def begun_json(token: str) -> bytes:
    head = (
        f"POST /v2/video/probe HTTP/1.1\r\nHost: a\r\napi_token: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {MIB}\r\n\r\n"
    )
    return head.encode() + b" " * (MIB // 2)


def begun_download(url: str) -> bytes:
    parts = urlsplit(url)
    return f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def first_answer(raw: socket.socket) -> bytes:
    """Read an answer that says `overloaded`, on a connection that stays open."""
    heard = b""
    while b'"overloaded"' not in heard:
        heard += raw.recv(65_536)
    return heard


def small_window(service: Running) -> socket.socket:
    """A connection whose kernel takes little of an answer that nobody reads."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(120)
    raw.connect(("127.0.0.1", service.settings.port))
    return raw


def test_slow_uploads_hold_little_memory_and_leave_none_behind(service: Running) -> None:
    """Each has sent 1 MiB of 64: the API once held 8 MiB of each, and kept 142 MiB of 200."""
    tokens = [service.new_token()["api_token"] for _ in range(4)]
    senders = [dataclasses.replace(service, token=token) for token in tokens]
    assert send(form(service), bytes(8 * MIB)).status_code == 204
    before = service.memory_bytes
    forms = [form(sender) for sender in senders for _ in range(50)]
    with crowd_of(service, len(forms)) as crowd:  # a connection that is silent for 10 s is closed
        for each, given in zip(crowd, forms, strict=True):
            each.sendall(begun_upload(given, MIB))
        time.sleep(1.0)
        held = service.memory_bytes - before
    assert held < 60 * MIB
    wait_until(lambda: service.memory_bytes < 1.1 * before)


def test_many_header_lines_of_requests_at_once_leave_no_memory_behind(service: Running) -> None:
    """Connections kept their requests' lines until Python looked for cycles: 200 MiB of 36."""
    lines = b"GET /healthz HTTP/1.1\r\nHost: a\r\n" + 12_000 * b"a:\r\n" + b"\r\n"

    def ask(count: int) -> None:
        for _ in range(count):
            with dial(service) as raw:
                raw.sendall(20 * lines)
                with suppress(ConnectionError):
                    raw.recv(100)

    ask(2)
    before = service.memory_bytes
    ask(30)
    wait_until(lambda: service.memory_bytes < 1.1 * before)


def test_large_bodies_of_one_token_leave_slots_to_another(few_slots: Running) -> None:
    mine = dataclasses.replace(few_slots, token=few_slots.new_token()["api_token"])
    most = LARGE_BODIES // 4
    reserved = """select 1 as one from uploads u join tokens t on t.id = u.token
        where t.hash = %s and bytes > 1"""
    forms = [form(mine) for _ in range(most + 1)]
    with crowd_of(few_slots, most) as crowd:
        for each, given in zip(crowd, forms, strict=False):
            each.sendall(begun_upload(given, MIB))
        wait_until(lambda: len(few_slots.sql(reserved, token_hash(mine.token))) == most)
        for late in (begun_upload(forms[-1], MIB), begun_json(mine.token)):
            with dial(few_slots) as raw:
                raw.sendall(late)
                assert first_answer(raw).startswith(b"HTTP/1.1 503")
        assert send(form(few_slots), bytes(MIB)).status_code == 204
    wait_until(lambda: send(form(mine), b"x").status_code == 204)


def test_readers_of_one_link_are_bounded_and_hold_little_memory(few_slots: Running) -> None:
    given = form(few_slots)
    assert send(given, bytes(32 * MIB)).status_code == 204
    asked = begun_download(given["file_url"])
    assert len(http.get(given["file_url"]).content) == 32 * MIB
    before = few_slots.memory_bytes
    crowd = [small_window(few_slots) for _ in range(DOWNLOADS_PER_LINK)]
    try:
        for each in crowd:
            each.sendall(asked)
        for each in crowd:
            assert each.recv(100).startswith(b"HTTP/1.1 200 OK")
        with dial(few_slots) as late:
            late.sendall(asked)
            assert first_answer(late).startswith(b"HTTP/1.1 503")
        assert few_slots.memory_bytes - before < DOWNLOADS_PER_LINK * MIB // 2
    finally:
        for each in crowd:
            each.close()
    wait_until(lambda: http.get(given["file_url"]).status_code == 200)
    wait_until(lambda: few_slots.memory_bytes < 1.1 * before)


hasty = serves({"api.connection.STALLED_S": 0.5})


def test_who_takes_a_file_too_slowly_is_closed(hasty: Running) -> None:
    """A byte now and then does not keep a connection: 64 KiB are due in each `STALLED_S`."""
    given = form(hasty)
    assert send(given, bytes(32 * MIB)).status_code == 204
    with small_window(hasty) as raw:
        raw.sendall(begun_download(given["file_url"]))
        for _ in range(60):
            assert raw.recv(1024)
            time.sleep(0.1)
        assert len(hear(raw)) < 16 * MIB  # what the kernel had taken
