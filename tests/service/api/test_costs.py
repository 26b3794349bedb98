"""What one caller can cost the others: work is bounded, and checked before it is done."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from foremask.errors import BadJson
from foremask.service.api.calls import MAX_ITEMS, parse_object
from tests.service.api.conftest import Running
from tests.service.api.patient import http
from tests.support.http_server import Handler, serving


@pytest.mark.parametrize("body", [b'{"a":[' + b"0," * MAX_ITEMS + b"0,0]}",
                                  b"{" + b",".join(b'"%d":0' % n for n in range(32_000)) + b"}"],
                         ids=["array", "object"])  # fmt: skip
def test_a_body_of_too_many_values_is_refused_before_it_is_decoded(body: bytes) -> None:
    """Decoding goes on in the event loop: a MiB of short values would hold it for 0.2 s."""
    with pytest.raises(BadJson) as refused:
        parse_object(body)
    assert refused.value.limit == MAX_ITEMS


def test_commas_in_strings_are_no_values() -> None:
    assert parse_object(b'{"a": "\\\\", "b": "\\",' + b"," * 2 * MAX_ITEMS + b'"}')["a"] == "\\"


def test_the_second_of_two_equal_keys_is_found_by_looking_at_each_once() -> None:
    keys = [b'"%d":0' % number for number in range(MAX_ITEMS)]
    with pytest.raises(BadJson, match="'19999' twice"):
        parse_object(b"{" + b",".join([*keys, keys[-1]]) + b"}")


@contextmanager
def hanging() -> Generator[tuple[str, threading.Semaphore]]:
    asked, ended = threading.Semaphore(0), threading.Event()

    class Hanging(Handler):
        def do_GET(self) -> None:  # noqa: N802
            asked.release()
            ended.wait()

    with serving(Hanging) as url:
        yield url, asked
        ended.set()


def test_clips_of_hosts_that_hang_hold_up_no_other_tokens_clip(
    service: Running, clip_origin: str
) -> None:

    def show(url: str, headers: dict[str, str]) -> httpx.Response:
        body = {"video": f"{url}/good.mp4"}
        return http.post(f"{service.url}/v2/playground/clip", json=body, headers=headers)

    stranger = service.new_token()
    with hanging() as (origin, asked), ThreadPoolExecutor() as threads:
        hung = [threads.submit(show, origin, stranger) for _ in range(4)]
        for _ in hung:
            asked.acquire()
        assert show(clip_origin, service.headers).status_code == 200
        assert not any(each.done() for each in hung)
