"""How long the API waits, for callers and for origins: its own constants, made shorter."""

import select
import socket
from collections.abc import Generator

import pytest

from foremask.service.api.connection import BODY_WINDOW_S, HEAD_S
from foremask.service.api.job_routes import HOLD_S
from foremask.service.api.probing import BUDGET_S
from tests.service.api.clip_server import SLOW_S
from tests.service.api.conftest import Running, running
from tests.service.api.patient import http
from tests.service.api.test_bad_clients import dial, hear, refused

PATH = "/v2/video/segment/foreground_mask"


@pytest.fixture(scope="module")
def hurried(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    waits = ("api.connection.HEAD_S", "api.connection.BODY_WINDOW_S", "api.job_routes.HOLD_S")
    constants = dict.fromkeys((*waits, "api.probing.BUDGET_S"), 1.0)
    with running(database_url, tmp_path_factory.mktemp("hurried"), constants) as service:
        yield service


def test_the_waits_are_shorter_than_a_client_s() -> None:
    """The vendor's SDK waits for 30 s; our slow origin takes longer than a probe's budget."""
    assert (HEAD_S, BODY_WINDOW_S, HOLD_S, BUDGET_S) == (10, 10, 25, 8)
    assert BUDGET_S < SLOW_S


def test_sync_gives_up_before_the_client_does(hurried: Running, clip_origin: str) -> None:
    body = {"video": f"{clip_origin}/good.mp4", "sync": True}
    answer = http.post(hurried.url + PATH, json=body, headers=hurried.headers)
    assert answer.status_code == 202
    assert answer.elapsed.total_seconds() > 0.5
    assert set(answer.json()) == {"request_id", "status_url"}


def test_a_slow_origin_is_judged_later(hurried: Running, clip_origin: str) -> None:
    body = {"video": f"{clip_origin}/slow/long.mp4"}
    answer = http.post(hurried.url + PATH, json=body, headers=hurried.headers)
    assert answer.status_code == 202
    status = http.get(answer.json()["status_url"], headers=hurried.headers)
    assert "frames_total" not in status.json()


def test_who_dribbles_headers_is_refused_and_who_is_silent_is_closed(hurried: Running) -> None:
    with dial(hurried) as silent, dial(hurried) as slow, dial(hurried) as body:
        body.sendall(b"POST /v2/uploads HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; "
                     b"boundary=b\r\nContent-Length: 100000\r\n\r\n--b")  # fmt: skip
        slow.sendall(b"GET /healthz HTTP/1.1\r\nCookie: ")
        dribble(slow)
        assert hear(silent) == b""
        refused(hear(slow), 408, "request_too_slow")
        refused(hear(body), 408, "request_too_slow")


def dribble(raw: socket.socket) -> None:
    while not select.select([raw], [], [], 0.1)[0]:  # until it is answered
        raw.sendall(b"c")
