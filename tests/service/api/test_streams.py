"""Live streams over a WebSocket: what the hosted service's clients send, and what strangers do."""

import io
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed

from foremask.errors import BadRequest
from foremask.service.api.stream_messages import close_reason
from foremask.service.jobs.tokens import PREFIX_LENGTH, TokenLimits, revoke_token
from foremask.types import Rgb
from tests.service.api.conftest import TOKEN, Running, http, serves
from tests.service.api.live_client import KIND, jpeg, message, stream
from tests.support import synth
from tests.support.http_server import answers
from tests.support.patience import wait_until

WIDTH, HEIGHT = 160, 120
HANDSHAKE = (
    "GET /?api_token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
QUICK = {
    "api.streams.IDLE_S": 3.0,
    "api.streams.PLACE_S": 1.0,
    "api.streams.TOKEN_CHECK_S": 0.5,
    "api.stream_connection.STALLED_S": 2.0,
}

service = serves(QUICK, own_model=True, stream_pixels=640 * 480)
two_slots = serves(QUICK, own_model=True, streams=2)
short = serves(QUICK, own_model=True, stream_time_s=3)


def disc(at: float = 0.5) -> tuple[Rgb, np.ndarray]:
    return synth.disc(WIDTH, HEIGHT, at)


def overlap(found: np.ndarray, right: np.ndarray) -> float:
    one, other = found > 126, right > 127
    return float((one & other).sum() / (one | other).sum())


def ended(service: Running, payload: bytes | str) -> tuple[int, str]:
    """Send one message; return the close code and the reason of the error before it."""
    with stream(service.url, TOKEN) as client:
        client.socket.send(payload)
        code, _ = client.end()
        (error,) = client.said
        assert error["type"] == "error"
        assert error["code"] == code
        return code, error["reason"]


def test_each_jpeg_gets_a_grey_jpeg_of_its_size_with_its_header(service: Running) -> None:
    with stream(service.url, TOKEN) as client:
        masks = client.masks()
        for frame_id in (7, 8, 2**53 - 1, 2**64 - 1):
            picture, right = disc(frame_id % 5 / 5)
            client.send(frame_id, jpeg(picture), pts_us=-frame_id // 2)
            mask = next(masks)
            assert mask.header == (*KIND, frame_id, -frame_id // 2)
            assert mask.levels.shape == (HEIGHT, WIDTH)  # and no third axis: it is grey
            assert overlap(mask.levels, right) > 0.85
        client.say(type="stop")
        assert client.end() == (1000, "")
    assert client.said == []


def test_a_stream_that_is_ended_before_its_child_has_started_gets_its_mask(
    service: Running,
) -> None:
    with stream(service.url, TOKEN) as client:
        client.send(1, jpeg(disc()[0]))
        client.say(type="stop")
        assert next(client.masks()).frame_id == 1
        assert client.end() == (1000, "")


def test_an_error_in_what_came_before_the_end_is_told(service: Running) -> None:
    with stream(service.url, TOKEN) as client:
        client.send(1, jpeg(disc()[0])[:400])
        client.say(type="stop")
        code, reason = client.end()
    assert code == 1008
    assert client.said[0]["reason"] == "message_invalid", reason


def test_the_header_api_token_is_taken_too_and_a_wrong_token_is_1008(service: Running) -> None:
    for token, headers, wanted in (
        (None, {"api_token": TOKEN}, None),
        (None, {"Authorization": f"Bearer {TOKEN}"}, None),
        ("a-token-that-is-wrong", {}, "token_invalid"),
        (None, {}, "token_missing"),
    ):
        with stream(service.url, token, additional_headers=headers) as client:
            if wanted is None:
                client.send(1, jpeg(disc()[0]))
                assert next(client.masks()).frame_id == 1
                continue
            code, reason = client.end()
            assert (code, client.said[0]["reason"]) == (1008, wanted)
            assert reason.startswith(client.said[0]["message"][:40])


def test_the_token_is_taken_by_the_name_oauth_of_the_hosted_services_newest_example(
    service: Running,
) -> None:
    with stream(f"{service.url}/?oauth={TOKEN}", None) as client:
        client.say(type="stop")
        assert client.end() == (1000, "")
    with stream(f"{service.url}/?oauth=wrong", None) as client:
        assert client.end()[0] == 1008


def test_a_stream_ends_soon_after_its_token_is_revoked(service: Running) -> None:
    secret = service.new_token()["api_token"]
    with stream(service.url, secret) as client:
        client.send(1, jpeg(disc()[0]))
        assert next(client.masks()).frame_id == 1
        service.ask(lambda database: revoke_token(database, secret[:PREFIX_LENGTH]))
        with suppress(ConnectionClosed):
            for frame_id in range(2, 1000):
                client.send(frame_id, jpeg(disc()[0]))
                time.sleep(0.05)
        code, reason = client.end()
    assert (code, client.said[-1]["reason"]) == (1008, "token_invalid")
    assert reason == "the token was revoked, or has expired, while this stream ran"


def test_a_burst_is_answered_in_order_once_each_and_newest_first_when_behind(
    service: Running,
) -> None:
    with stream(service.url, TOKEN) as client:
        payload = jpeg(disc()[0])
        for frame_id in range(60):
            client.send(frame_id, payload)
        time.sleep(0.2)
        client.send(99, payload)
        got = []
        for mask in client.masks():
            got.append(mask.frame_id)
            if mask.frame_id == 99:
                break
    assert got == sorted(set(got))
    assert len(got) < 60
    metrics = http.get(f"{service.url}/metrics").text
    assert 'foremask_stream_frames_total{outcome="received"}' in metrics
    assert 'foremask_stream_lateness_seconds_bucket{le="0.5"}' in metrics


def test_a_camera_that_turns_sends_frames_of_another_size(service: Running) -> None:
    with stream(service.url, TOKEN) as client:
        masks = client.masks()
        for number, turned in enumerate((False, True, False)):
            picture = disc()[0]
            if turned:
                picture = np.ascontiguousarray(np.rot90(picture))
            client.send(number, jpeg(picture))
            assert next(masks).levels.shape == picture.shape[:2]


def test_debug_tells_how_long_each_mask_took(service: Running) -> None:
    with stream(service.url, TOKEN) as client:
        client.say(type="debug", enabled=True)
        client.send(5, jpeg(disc()[0]))
        next(client.masks())
        client.say(type="stop")
        client.end()
    (timing,) = client.said
    assert timing["type"] == "frame_timing"
    assert timing["frame_id"] == 5
    assert timing["server_ms"]["session_total"] > 0


def coded(picture: Rgb, mode: str = "RGB", **how: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", **how)
    return file.getvalue()


def test_progressive_grey_and_rotated_jpegs_are_masked(service: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture = disc()[0]
    with stream(service.url, TOKEN) as client:
        masks = client.masks()
        for number, (payload, shape) in enumerate(
            (
                (coded(picture, progressive=True), (HEIGHT, WIDTH)),
                (coded(picture, "L"), (HEIGHT, WIDTH)),
                (coded(picture, exif=exif), (WIDTH, HEIGHT)),
            )
        ):
            client.send(number, payload)
            assert next(masks).levels.shape == shape


def test_what_is_no_frame_is_refused_with_1008_and_its_reason(service: Running) -> None:
    picture = disc()[0]
    good = message(1, jpeg(picture))
    huge = coded(np.zeros((6000, 6000, 3), np.uint8))
    for payload, reason in (
        (b"", "message_invalid"),
        (good[:10], "message_invalid"),
        (good[:24], "message_invalid"),
        (b"NOPE" + good[4:], "message_invalid"),
        (good[:4] + b"\x02" + good[5:], "message_invalid"),
        (good[:6] + b"\x02" + good[7:], "message_invalid"),  # sound
        (good[: len(good) // 2], "message_invalid"),
        (message(1, b"\x89PNG\r\n\x1a\n" + bytes(100)), "message_invalid"),
        (message(1, coded(picture, "CMYK")), "message_invalid"),
        (message(1, jpeg(picture) + b"\xff\xda" * 1000), "message_invalid"),
        (message(1, huge), "frame_too_large"),
        ("no json", "message_invalid"),
        ("[" * 4000, "message_invalid"),
        ('{"type": "dance"}', "message_invalid"),
        (json.dumps({"type": "stop", "more": "x" * 5000}), "message_invalid"),
    ):
        assert ended(service, payload) == (1008, reason), payload[:40]
    with stream(service.url, TOKEN) as client:
        client.socket.send(bytes(5 << 20))
        assert client.end()[0] == 1009


def mutations(good: bytes, count: int) -> Iterator[bytes]:
    rng = random.Random(50)  # noqa: S311
    for _ in range(count):
        changed = bytearray(good)
        match rng.randrange(4):
            case 0:
                for _ in range(rng.randrange(1, 8)):
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            case 1:
                del changed[rng.randrange(len(changed)) :]
            case 2:
                at = rng.randrange(len(changed))
                changed[at:at] = rng.randbytes(rng.randrange(1, 64))
            case _:
                at = rng.randrange(len(changed))
                del changed[at : at + rng.randrange(1, 64)]
        yield bytes(changed)


@pytest.mark.slow
def test_a_thousand_mutated_messages_end_no_process(service: Running) -> None:
    """Each stream ends in order or with 1008, and then the next one is served."""
    seen: Counter[int] = Counter()
    waiting = list(mutations(message(3, jpeg(disc()[0])), 1000))
    while waiting:
        with stream(service.url, TOKEN) as client:
            masks = client.masks()
            while waiting:
                client.socket.send(waiting.pop())
                if next(masks, None) is None:
                    break
                seen[1000] += 1
            else:
                client.say(type="stop")
            seen[client.end()[0]] += 1
    assert set(seen) <= {1000, 1008}
    assert seen[1000] > 100
    assert seen[1008] > 300
    assert service.process.is_alive()
    assert (
        'foremask_streams_ended_total{code="1011"}' not in http.get(f"{service.url}/metrics").text
    )


def test_the_only_slot_is_taken_and_given_back(service: Running) -> None:
    with stream(service.url, TOKEN) as first:
        first.send(1, jpeg(disc()[0]))
        assert next(first.masks()).frame_id == 1
        with stream(service.url, TOKEN) as second:
            code, _ = second.end()
            assert (code, second.said[0]["reason"]) == (1013, "overloaded")
    with stream(service.url, TOKEN) as third:
        third.send(1, jpeg(disc()[0]))
        assert next(third.masks()).frame_id == 1


def test_two_slots_mask_two_streams_at_once(two_slots: Running) -> None:
    with stream(two_slots.url, TOKEN) as one, stream(two_slots.url, TOKEN) as other:
        for client in (one, other):
            client.send(1, jpeg(disc()[0]))
        for client in (one, other):
            assert next(client.masks()).frame_id == 1


def test_an_idle_stream_ends_with_4008(service: Running) -> None:
    with stream(service.url, TOKEN) as client:
        code, reason = client.end()
    assert (code, client.said[0]["reason"]) == (4008, "stream_idle")
    assert reason == "session timeout: no frame came within 3 s."


def test_a_stream_of_more_than_its_time_ends_with_4003(short: Running) -> None:
    began_s = time.monotonic()
    with stream(short.url, TOKEN) as client:
        masks = client.masks()
        number = 0
        with suppress(ConnectionClosed):
            client.send(number, jpeg(disc()[0]))
            while next(masks, None) is not None:
                time.sleep(0.05)
                number += 1
                client.send(number, jpeg(disc()[0]))
        code, reason = client.end()
    assert time.monotonic() - began_s > 3
    assert code == 4003
    assert reason.startswith("session limit reached")


def test_a_reader_that_takes_no_mask_is_ended(service: Running) -> None:
    """It sends red and grey cells, as large as the network's, whose masks are large; reads nothing.

    Of the noise of single pixels the network makes a black mask: hundreds of them fill no buffer.
    """
    is_red = np.random.default_rng(1).integers(0, 2, (48, 64, 1)) > 0
    cells = np.where(is_red, (250, 10, 10), (120, 120, 120)).astype(np.uint8)
    picture = np.repeat(np.repeat(cells, 10, axis=0), 10, axis=1)
    raw = socket.create_connection(("127.0.0.1", service.settings.port))
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with raw:
        raw.sendall(HANDSHAKE.format(token=TOKEN).encode())
        payload = message(1, jpeg(picture, 60))
        framed = b"\x82\xff" + len(payload).to_bytes(8, "big") + bytes(4) + payload
        raw.settimeout(60)
        with suppress(ConnectionError):  # the service closes it
            for _ in range(3000):
                raw.sendall(framed)
                time.sleep(0.02)
            pytest.fail("the service takes frames of a client that takes no mask")
    wait_until(lambda: "foremask_streams 0.0" in http.get(f"{service.url}/metrics").text)


def test_two_hundred_connections_that_never_speak_shut_nobody_out(service: Running) -> None:
    with ExitStack() as opened:
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", service.settings.port)))
        for _ in range(20):
            opened.enter_context(stream(service.url, None))
        assert answers(f"{service.url}/healthz")
        with stream(service.url, TOKEN) as client:
            client.send(1, jpeg(disc()[0]))
            assert next(client.masks()).frame_id == 1


def test_two_hundred_streams_with_half_a_frame_hold_little_memory_and_give_it_back(
    service: Running,
) -> None:
    """They have 64 MiB on the way. The rest of a frame never comes, and one slot is there."""
    half = b"\x82\xff" + (512 << 10).to_bytes(8) + bytes(4) + bytes(320 << 10)
    asked = HANDSHAKE.format(token=TOKEN).encode() + half

    def opened_at_once(count: int) -> int:
        with ExitStack() as opened:
            for _ in range(count):
                raw = socket.create_connection(("127.0.0.1", service.settings.port))
                opened.enter_context(raw).setblocking(False)
                raw.send(asked)  # as much as the kernel takes
            time.sleep(1.0)
            return service.memory_bytes

    opened_at_once(20)  # code and pools are loaded
    before = service.memory_bytes
    assert opened_at_once(200) - before < 16 << 20
    wait_until(lambda: service.memory_bytes < 1.1 * before)

    def is_masked() -> bool:
        """Whether the slot is free: the last of the 200 may not have left its queue yet."""
        with stream(service.url, TOKEN) as client, suppress(ConnectionClosed):
            client.send(1, jpeg(disc()[0]))
            return next(client.masks(), None) is not None
        return False

    wait_until(is_masked)


def frame(kind: int, payload: bytes, *, is_last: bool) -> bytes:
    """A frame of a client, with a mask of zeros."""
    return bytes([is_last << 7 | kind, 0x80 | len(payload)]) + bytes(4) + payload


TINY_FRAMES = {
    "pings": (b"", frame(9, b"", is_last=True)),
    "parts of a message": (frame(2, b"", is_last=False), frame(0, b"", is_last=False)),
    "commands": (b"", frame(1, b'{"type": "debug"}', is_last=True)),
}


@pytest.mark.parametrize(("first", "each"), TINY_FRAMES.values(), ids=TINY_FRAMES)
def test_frames_of_hardly_any_bytes_end_the_connection(
    service: Running, first: bytes, each: bytes
) -> None:
    """One connection kept the API from every other call for 15 s, at 5 µs a frame."""
    with socket.create_connection(("127.0.0.1", service.settings.port), 120) as raw:
        raw.sendall(HANDSHAKE.format(token=TOKEN).encode())
        heard = raw.recv(4096)
        assert heard.startswith(b"HTTP/1.1 101")
        raw.sendall(first + 2000 * each)
        with suppress(ConnectionError):
            while block := raw.recv(1 << 16):
                heard += block
    assert b"\x03\xf0The frames of this connection have " in heard  # 1008


def test_a_picture_in_small_frames_is_masked(service: Running) -> None:
    sent = message(1, jpeg(np.random.default_rng(1).integers(0, 256, (480, 640, 3), np.uint8)))
    parts = [sent[at : at + 256] for at in range(0, len(sent), 256)]
    with stream(service.url, TOKEN) as client:
        for number in range(8):
            client.socket.send(parts)
            assert next(client.masks()).frame_id == 1, number
        client.say(type="stop")
        assert client.end() == (1000, "")
    assert 8 * len(parts) > 2000


def test_a_token_over_its_rate_is_told_to_try_later(service: Running) -> None:
    headers = service.new_token(TokenLimits(rate_per_minute=1, burst=1))
    with stream(service.url, headers["api_token"]) as client:
        client.send(1, jpeg(disc()[0]))
        next(client.masks())
    with stream(service.url, headers["api_token"]) as client:
        assert client.end()[0] == 1013
    assert client.said[0]["reason"] == "rate_limited"


def test_a_close_reason_fits_into_its_frame() -> None:
    assert len(close_reason(BadRequest("é" * 100, reason="message_invalid")).encode()) <= 123
