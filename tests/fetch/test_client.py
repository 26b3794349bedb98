import asyncio
import gc
import io
import ipaddress
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
import trustme

from foremask.errors import ERROR_TABLE, ForemaskError, UrlRefused
from foremask.fetch import client, connections
from foremask.fetch.client import Outbound, Resolve, is_public
from foremask.fetch.connections import RangeUnavailable
from foremask.fetch.fairness import FairSemaphore
from tests.support.origin import Answer, Origin, Request, gives, head, listening, redirects, says
from tests.support.patience import PATIENCE_S, running
from tests.support.refusals import refused

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
CLIP = bytes(range(256)) * 4096  # 1 MiB
GIB = 1 << 30


@pytest.fixture
async def origin() -> AsyncGenerator[Origin]:
    async with listening() as opened:
        yield opened


@pytest.fixture
async def outbound() -> AsyncGenerator[Outbound]:
    async with Outbound(allow_private=[LOOPBACK]) as opened:
        yield opened


async def fetched(
    outbound: Outbound, url: str, max_bytes: int = GIB, deadline_s: float = PATIENCE_S
) -> bytes:
    sink = io.BytesIO()
    await outbound.download(url, sink.write, max_bytes=max_bytes, deadline_s=deadline_s)
    return sink.getvalue()


async def test_a_download_is_the_file(outbound: Outbound, origin: Origin) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP, Content_Type="video/mp4", ETag='"v1"')
    sink, reported = io.BytesIO(), []
    await outbound.download(
        origin.url(),
        sink.write,
        max_bytes=GIB,
        deadline_s=PATIENCE_S,
        on_bytes=lambda *facts: reported.append(facts),
    )
    assert sink.getvalue() == CLIP
    assert reported[-1] == (len(CLIP), len(CLIP))
    assert set(origin.requests[0].headers) == {"host", "user-agent", "accept"}


async def test_ranges_bring_little_more_than_was_asked_for(
    outbound: Outbound, origin: Origin
) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP, ETag='"v1"')
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        assert reader.size == len(CLIP)
        assert await reader.read_at(0, 100) == CLIP[:100]
        assert await reader.read_at(len(CLIP) - 100, 1000) == CLIP[-100:]
        assert await reader.read_at(len(CLIP), 10) == b""
        assert (len(origin.requests), reader.bytes_read) == (2, 128 << 10)
    assert origin.connections == 1


async def test_reading_straight_on_takes_longer_strides(outbound: Outbound, origin: Origin) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP * 4)
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        pieces = [await reader.read_at(at, 32 << 10) for at in range(0, 4 << 20, 32 << 10)]
        assert b"".join(pieces) == CLIP * 4
        assert len(origin.requests) < 10


async def test_a_budget_limits_what_is_read_and_not_what_is_streamed(
    outbound: Outbound, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP * 4)
    monkeypatch.setattr(connections, "BUDGET_BYTES", 150 << 10)
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        await reader.read_at(500_000, 100)
        with pytest.raises(RangeUnavailable):
            await reader.read_at(900_000, 100)
        blocks = [block async for block in reader.stream()]
        assert b"".join(blocks) == CLIP * 4
        assert max(map(len, blocks)) == 1 << 20


@pytest.mark.parametrize("size", ["9" * 5000, "\u00b2", "-1"])
async def test_a_size_that_is_no_number_is_the_origins_fault(
    outbound: Outbound, origin: Origin, size: str
) -> None:
    sent = head("206 Part", Content_Range=f"bytes 0-9/{size}", Content_Length=10)
    origin.answers["/clip.mp4"] = says(sent, CLIP[:10])
    with refused("url_status"):
        await opened_at(outbound, origin.url())


@pytest.mark.parametrize("declared", [{"Content_Length": 4 + len(CLIP)}, {"Connection": "close"}])
async def test_without_ranges_the_end_is_read_with_the_whole_file(
    outbound: Outbound, origin: Origin, declared: dict[str, str | int]
) -> None:
    origin.answers["/clip.mp4"] = says(head(**declared), CLIP + b"more")
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        assert not reader.ranged
        size = await reader.read_whole() if reader.size is None else reader.size
        assert size == len(CLIP) + 4
        assert await reader.read_at(1000, 5) == CLIP[1000:1005]
        assert await reader.read_at(len(CLIP), 4) == b"more"
        assert len(origin.requests) == 2
        assert b"".join([block async for block in reader.stream()]) == CLIP + b"more"


async def test_without_ranges_a_large_file_is_streamed_and_its_end_is_not_read(
    outbound: Outbound, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BUDGET_BYTES", len(CLIP))
    origin.answers["/clip.mp4"] = says(head(Content_Length=4 + len(CLIP)), CLIP + b"more")
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        assert await reader.read_at(1000, 5) == CLIP[1000:1005]
        with pytest.raises(RangeUnavailable, match="serves no ranges of the file"):
            await reader.read_at(len(CLIP), 4)
        assert b"".join([block async for block in reader.stream()]) == CLIP + b"more"


async def test_a_short_file_without_ranges_can_be_read_whole(
    outbound: Outbound, origin: Origin
) -> None:
    origin.answers["/clip.mp4"] = says(head(Connection="close"), CLIP[:5000])
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        assert reader.size == 5000
        assert await reader.read_at(4990, 100) == CLIP[4990:5000]
        assert [block async for block in reader.stream()] == [CLIP[:5000]]


# Origins that cannot be used

LIES = {
    "it answers 304 unasked": (says(head("304 No", Content_Length=0)), "url_status"),
    "it redirects nowhere": (says(head("302 No", Content_Length=0)), "url_status"),
    "it redirects to no URL": (redirects("http://["), "url_status"),
    "it calls itself HTML": (gives(CLIP, Content_Type="text/html; charset=utf-8"), "not_a_video"),
    "it calls itself an error": (
        gives(CLIP, Content_Type="application/problem+json"),
        "not_a_video",
    ),
    "it is HTML, called a video": (
        gives(b"\n <!DOCTYPE html><p>Log in", Content_Type="video/mp4"),
        "not_a_video",
    ),
    "it is JSON, called a video": (gives(b'{"error": 1}', Content_Type="video/mp4"), "not_a_video"),
    "it is compressed": (gives(CLIP, Content_Encoding="gzip"), "not_a_video"),
    "it is empty and has no length": (says(head(Connection="close")), "empty_file"),
    "it breaks off": (says(head(Content_Length=len(CLIP)), CLIP[:1000]), "url_unreachable"),
    "it breaks off in chunks": (
        says(head(Transfer_Encoding="chunked"), b"10\r\n0123"),
        "url_unreachable",
    ),
    "it closes at once": (says(), "url_unreachable"),
    "it speaks no HTTP": (says(b"220 mail.example ESMTP\r\n"), "url_unreachable"),
    "its head has no end": (says(head()[:-2] + b"X-Long: " + b"a" * 200_000), "url_unreachable"),
    "it declares too much": (gives(CLIP * 2), "file_too_large"),
    "it sends too much undeclared": (says(head(Connection="close"), CLIP, CLIP), "file_too_large"),
    "it sends too much in chunks": (
        says(head(Transfer_Encoding="chunked"), b"200001\r\n" + CLIP * 2 + b"0\r\n"),
        "file_too_large",
    ),
}

NOT_IN_ITS_FIRST_RANGE = (
    *("breaks off", "breaks off in chunks"),
    *("sends too much undeclared", "sends too much in chunks"),
)


@pytest.mark.parametrize("lie", LIES)
async def test_a_bad_origin_has_a_name(outbound: Outbound, origin: Origin, lie: str) -> None:
    origin.answers["/clip.mp4"], reason = LIES[lie]
    with refused(reason) as caught:
        await fetched(outbound, origin.url(), max_bytes=3 << 19)
    assert caught.value.param == "video"
    assert "127.0.0.1" not in str(caught.value)
    if lie.partition(" ")[2] not in NOT_IN_ITS_FIRST_RANGE:
        with refused(reason):
            await opened_at(outbound, origin.url(), 3 << 19)


async def test_a_silent_or_slow_origin_has_an_end(
    outbound: Outbound, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.answers["/silent"] = says(head(Content_Length=10), pause_s=2)
    origin.answers["/slow"] = says(head(Content_Length=50), *[b"a"] * 50, pause_s=0.05)
    for path, idle_s, deadline_s in (("/silent", 0.2, PATIENCE_S), ("/slow", PATIENCE_S, 0.3)):
        monkeypatch.setattr(connections, "IDLE_S", idle_s)
        with refused("url_unreachable") as caught:
            await fetched(outbound, origin.url(path), deadline_s=deadline_s)
        assert caught.value.limit == min(idle_s, deadline_s)


async def test_an_origin_below_the_least_speed_is_too_slow(
    outbound: Outbound, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SPEED_WINDOW_S", 0.4)
    monkeypatch.setattr(client, "MIN_BYTES_PER_S", 1000)
    origin.answers["/slow"] = says(head(Content_Length=500), *[b"a"] * 500, pause_s=0.05)
    with refused("url_too_slow") as caught:
        await fetched(outbound, origin.url("/slow"))
    assert caught.value.limit == 1000
    assert 0 <= (caught.value.actual or 0) < 30


CHUNKED = head(Transfer_Encoding="chunked")


async def test_tiny_chunks_are_refused_and_do_not_stop_others(
    outbound: Outbound, origin: Origin
) -> None:
    """A chunk costs the event loop some 13 µs; 64 KiB of chunks of 8 bytes stopped it for 65 ms."""
    sent = CHUNKED + (1 << 17) * b"8\r\n01234567\r\n" + b"0\r\n\r\n"
    origin.answers["/clip.mp4"] = says(sent)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running(take_turns()):
        with refused("url_status", match="in chunks of 8 bytes; at least 512") as caught:
            await fetched(outbound, origin.url())
        assert caught.value.param == "video"
        before = turns
        with refused("url_status", match="in chunks of 8 bytes"):
            async with outbound.open_range_reader(origin.url(), max_bytes=GIB):
                pass
    assert before > 8
    assert turns > before + 8


async def test_small_chunks_are_no_tiny_ones(outbound: Outbound, origin: Origin) -> None:
    body = b"".join(b"400\r\n" + CLIP[at : at + 1024] + b"\r\n" for at in range(0, 1 << 20, 1024))
    origin.answers["/clip.mp4"] = says(CHUNKED + body + b"0\r\n\r\n")
    assert await fetched(outbound, origin.url()) == CLIP


ENDLESS = {
    "announcements": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "chunk extensions": (CHUNKED, b"200;" + b"a" * 10_000 + b"\r\n" + bytes(512) + b"\r\n"),
}


@pytest.mark.parametrize(("lead", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_framing_has_an_end(
    outbound: Outbound, origin: Origin, lead: bytes, again: bytes
) -> None:
    async def endless(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(lead)
        while True:
            writer.write(again * 16)
            await writer.drain()

    origin.answers["/clip.mp4"] = endless
    with refused("url_status"):
        await fetched(outbound, origin.url())


async def test_a_full_disk_is_not_the_origins_fault(outbound: Outbound, origin: Origin) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP * 3)

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await outbound.download(origin.url(), full, max_bytes=GIB, deadline_s=PATIENCE_S)


AT_FIRST, LATER = (f"{day} Jan 2024 00:00:00 GMT" for day in ("Mon, 01", "Tue, 02"))

OTHER_RANGE = head("206 Part", Content_Range="bytes 0-65535/1048576", Content_Length=65536)
CHANGES = {
    "ETag": (gives(CLIP, ETag='"v1"'), gives(CLIP[::-1], ETag='"v2"'), "changed"),
    "date": (gives(CLIP, Last_Modified=AT_FIRST), gives(CLIP, Last_Modified=LATER), "changed"),
    "size": (gives(CLIP), gives(CLIP + b"!"), "changed"),
    "range": (gives(CLIP), says(OTHER_RANGE, CLIP), "another range"),
}


@pytest.mark.parametrize("changed", CHANGES)
async def test_a_file_that_changes_between_two_ranges_is_noticed(
    outbound: Outbound, origin: Origin, changed: str
) -> None:
    origin.answers["/clip.mp4"], later, reason = CHANGES[changed]
    async with outbound.open_range_reader(origin.url(), max_bytes=GIB) as reader:
        origin.answers["/clip.mp4"] = later
        with refused("url_status", match=reason):
            await reader.read_at(500_000, 100)


# Webhooks


async def test_a_webhook_is_not_redirected(outbound: Outbound, origin: Origin) -> None:
    origin.answers["/hook"] = redirects("/other")
    with refused("url_status") as caught:
        await outbound.post(origin.url("/hook"), b"{}", {}, timeout_s=PATIENCE_S)
    assert (caught.value.actual, caught.value.param) == (302, "webhook_url")
    assert len(origin.requests) == 1


async def test_a_webhooks_answer_is_not_waited_for(outbound: Outbound, origin: Origin) -> None:
    origin.answers["/endless"] = says(head(Connection="close"), *[CLIP] * 100, pause_s=0.1)
    assert await outbound.post(origin.url("/endless"), b"{}", {}, timeout_s=PATIENCE_S) == 200
    origin.answers["/never"] = says(b"", pause_s=5)
    with refused("url_unreachable"):
        await outbound.post(origin.url("/never"), b"{}", {}, timeout_s=0.3)


async def floods(_: Request, writer: asyncio.StreamWriter) -> None:
    """One header that does not end."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"a" * 65_536)
        await writer.drain()


async def announces(_: Request, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 64)
        await writer.drain()


async def is_silent(_: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(PATIENCE_S)


POST_S = 1.0
ANY_OF_URLS = tuple(each.name for each in ERROR_TABLE if issubclass(each.kind, UrlRefused))
RECEIVERS: dict[str, tuple[Answer, *tuple[str, ...]]] = {
    "redirects to another machine": (redirects("http://169.254.169.254/"), "url_status"),
    "never answers": (is_silent, "url_unreachable"),
    "sends its head slowly": (says(*[b"H"] * 1000, pause_s=0.01), "url_unreachable"),
    "sends a head without end": (floods, *ANY_OF_URLS),
    "announces an answer without end": (announces, "url_status"),
    "says that the file is empty": (says(head("416 No", Content_Range="bytes */0")), "empty_file"),
    "switches protocols": (says(head("101 Switching Protocols", Upgrade="x")), "url_unreachable"),
    "does not speak HTTP": (says(b"220 mail.example ESMTP\r\n"), "url_unreachable"),
}


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_an_attempt_at_a_webhook_ends_whatever_the_receiver_does(
    outbound: Outbound, origin: Origin, receiver: str
) -> None:
    origin.answers["/hook"], *reasons = RECEIVERS[receiver]
    timeout_s = PATIENCE_S  # what is refused for its content is refused before
    if reasons == ["url_unreachable"]:
        timeout_s = POST_S
    began = asyncio.get_running_loop().time()
    with refused(*reasons) as caught:
        await outbound.post(origin.url("/hook"), bytes(100_000), {}, timeout_s=timeout_s)
    assert caught.value.param == "webhook_url"
    assert asyncio.get_running_loop().time() - began < PATIENCE_S
    assert len(origin.requests) <= 1


# Where we do not go


def resolving(*answers: Sequence[str]) -> Resolve:
    """A resolver that gives each of these answers in turn, and the last one from then on."""
    left = [*answers]

    async def resolve(_: str, __: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_tls_is_for_the_host_that_was_named() -> None:
    certificates, at_loopback = trustme.CA(), resolving(["127.0.0.1"])
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificates.issue_cert("good.example").configure_cert(server)
    asked: list[str | None] = []
    server.sni_callback = lambda _, name, __: asked.append(name)
    client = ssl.create_default_context()
    certificates.configure_trust(client)
    async with (
        listening(tls=server) as origin,
        Outbound(allow_private=[LOOPBACK], resolve=at_loopback, tls=client) as outbound,
    ):
        origin.answers["/clip.mp4"] = gives(CLIP)
        assert await fetched(outbound, origin.url(host="good.example")) == CLIP
        assert await fetched(outbound, origin.url(host="good.example.")) == CLIP
        assert asked == ["good.example", "good.example"]
        assert origin.requests[0].headers["host"] == f"good.example:{origin.port}"
        with refused("url_unreachable", match="TLS"):
            await fetched(outbound, origin.url(host="bad.example"))
    async with (
        listening(tls=server) as origin,
        Outbound(allow_private=[LOOPBACK], resolve=at_loopback) as trusting_the_system,
    ):
        with refused("url_unreachable", match="TLS"):
            await fetched(trusting_the_system, origin.url(host="good.example"))
        assert origin.requests == []


async def test_a_name_may_not_move_between_two_look_ups(origin: Origin) -> None:
    """DNS rebinding: what was public when it was checked is private when it is connected to."""
    async with Outbound(resolve=resolving(["93.184.215.14"], ["127.0.0.1"])) as outbound:
        await outbound.check_webhook("http://moving.example/hook")
        with refused("url_private"):
            await outbound.post("http://moving.example/hook", b"{}", {}, timeout_s=PATIENCE_S)
        with refused("url_private"):
            await fetched(outbound, "http://moving.example/clip.mp4")
    assert origin.connections == 0


async def test_connections_are_made_to_the_addresses_that_were_checked(origin: Origin) -> None:
    once = resolving(["127.0.0.9", "127.0.0.1"], ["10.0.0.1"])
    origin.answers["/clip.mp4"] = gives(CLIP)
    async with Outbound(allow_private=[LOOPBACK], resolve=once) as outbound:
        assert await fetched(outbound, origin.url(host="moving.example")) == CLIP
    assert await once("", 0) == ["10.0.0.1"]


async def test_an_address_is_reached_while_no_name_is_looked_up(origin: Origin) -> None:
    """A busy machine once had no thread for look-ups within 5 s, and a webhook was refused."""
    origin.answers["/clip.mp4"] = gives(CLIP)
    async with Outbound(allow_private=[LOOPBACK], resolve=resolving([])) as outbound:
        assert await fetched(outbound, origin.url()) == CLIP
        with refused("webhook_invalid"):
            await outbound.check_webhook(origin.url(host="named.example"))


async def test_names_of_a_dead_zone_leave_look_ups_for_others(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RESOLVE_S", 0.3)
    monkeypatch.setattr(client, "SLOT_S", 0.2)
    real, over = socket.getaddrinfo, threading.Event()

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if host.endswith(".dead.example"):
            over.wait(PATIENCE_S)
            raise socket.gaierror
        return real("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: complaints.append(about))
    async with Outbound(allow_private=[LOOPBACK]) as outbound:
        asked = [
            asyncio.create_task(outbound.check_webhook(f"http://{n}.dead.example/", owner="a"))
            for n in range(50)
        ]
        await asyncio.sleep(0.05)
        monkeypatch.setattr(client, "RESOLVE_S", PATIENCE_S)
        monkeypatch.setattr(client, "SLOT_S", PATIENCE_S)
        for _ in range(20):
            await outbound.check_webhook(origin.url(host="alive.example"), owner="b")
        reported = await asyncio.gather(*asked, return_exceptions=True)
        over.set()
        await asyncio.sleep(0.2)
    reasons = [each.reason for each in reported if isinstance(each, ForemaskError)]
    del reported, asked
    gc.collect()
    assert complaints == []  # nobody is left to hear of what the threads find too late
    assert reasons.count("webhook_invalid") == client.MAX_RESOLUTIONS_PER_OWNER
    assert reasons.count("overloaded") == 50 - client.MAX_RESOLUTIONS_PER_OWNER


async def test_who_gives_up_waiting_takes_no_place_along() -> None:
    waits = list[str]()
    fair = FairSemaphore(1, 1, lambda: waits.append("waited"))
    for give_first in (False, True):
        await fair.acquire("x")
        gone = asyncio.create_task(fair.acquire("a"))
        await asyncio.sleep(0)
        if give_first:
            fair.release("x")
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if not give_first:
            fair.release("x")
        await asyncio.wait_for(fair.acquire("b"), PATIENCE_S)
        fair.release("b")
    assert waits == ["waited", "waited"]


async def test_an_open_network_opens_its_ports_and_nothing_else(origin: Origin) -> None:
    origin.answers["/clip.mp4"] = gives(CLIP)
    async with Outbound(allow_private=[LOOPBACK]) as outbound:
        assert await fetched(outbound, origin.url()) == CLIP
        with refused("url_private"):
            await fetched(outbound, "http://10.0.0.1/")
    async with Outbound(allow_private=[LOOPBACK], resolve=resolving(["93.184.215.14"])) as outbound:
        with refused("url_not_allowed"):
            await fetched(outbound, "http://far.example:8080/")


async def test_the_environments_proxies_are_not_used(
    outbound: Outbound, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        origin.answers["/clip.mp4"] = gives(CLIP)
        assert await fetched(outbound, origin.url()) == CLIP
        assert proxy.connections == 0


NAMES = {  # what our own resolver says in these tests, as a hostile name server would
    "localhost": ["127.0.0.1", "::1"],
    "localhost.": ["127.0.0.1"],
    "127.0.0.1.": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "xn--lcalhost-nbh.example": ["127.0.0.1"],
    "half.example": ["93.184.215.14", "10.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "zoned.example": ["fe80::1%lo"],
    "none.example": [],
}

PRIVATE = [
    # IPv4 in all its spellings
    *("127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1"),
    *("0x7f.0.0.0x1", "017700000001", "0177.1", "0x7F.0x0.0x0.0x1", "127.0.0.1.", "0"),
    "0.0.0.0",  # noqa: S104
    *("127\u30020\u30020\u30021", "127\uff610\uff610\uff611", "0x0.0x0", "0.0.0.1"),
    # what else is not public
    *("10.0.0.1", "10.255.255.255", "167772161", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("192.168.1.1", "3232235777", "169.254.169.254", "2852039166", "0xa9fea9fe", "169.254.0.1"),
    *("100.64.0.1", "100.127.255.255", "100.100.100.200", "192.0.0.192", "192.0.0.9", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "0.1.2.3", "198.19.255.255"),
    # IPv6
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[::ffff:169.254.169.254]", "[::ffff:8.8.8.8]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]"),
    *("[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]"),
    *("[2002:a9fe:a9fe::1]", "[2001:0:53aa:64c::]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]"),
    *("[fe80::1]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[100::1]"),
    *("[4000::1]", "[fd12::1]", "[2001:20::1]", "[2001:2::1]", "[::8.8.8.8]"),
    *("[2002:808:808::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[64:ff9b:1::808:808]"),
    # names that lead there
    *("localhost", "LOCALHOST", "localhost.", "127.0.0.1.nip.example", "zoned.example"),
    *("metadata.google.internal", "l\u043ecalhost.example", "half.example", "mapped.example"),
]

PUBLIC = [
    *("8.8.8.8", "93.184.215.14", "172.15.255.255", "172.32.0.1", "100.63.255.255"),
    *("100.128.0.1", "168.63.129.17", "2606:4700:4700::1111", "2a00:1450:4001::1"),
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


FORMS = {
    "url_not_allowed": (
        "http://user@HOST/", "http://user:secret@HOST/", "http://@HOST/",
        "http://example.com@HOST/", "http://example.com:80@HOST/", "http://example.com\\@HOST/",
        "http://1.1.1.1 &@HOST# @3.3.3.3/", "http://HOST:22/", "http://HOST:5432/",
        "http://HOST:8000/", "https://HOST:6443/", "http://HOST:00022/",
        "http://HOST%2f@example.com/",
    ),
    "video_invalid": (
        "http://HOST:0/", "http://HOST:65536/", "http://HOST:80:80/", "http://HOST:-80/",
        "http:///HOST/", "http:HOST/", "http:/HOST/", "//HOST/", "HOST/clip.mp4", "",
        " http://HOST/", "http://HOST\t/", "http://HO\nST/", "http://HOST\r\nX-Header: 1/",
        "http://HOST\x00.example.com/", "http://%31%32%37.0.0.1/", "http://HOST%00.example.com/",
        "http://HOST .example.com/", "http://HOST\\.example.com/",
        "http://\uff11\uff12\uff17.0.0.1/", "http://①②⑦.⓪.⓪.①/", "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
        "http://0177.0.0.01/", "http://127.0.0.256/", "http://[::1/", "http://[::1]x/",
        "http://[::1%25lo]/", "http://[fe80::1%lo]/", "http://[v1.127.0.0.1]/",
        "http://" + "a." * 130 + "example/", "http://HOST/" + "a" * 8192,
    ),
    "url_private": ("http://HOST:\uff18\uff10/",),
    "url_unreachable": (
        "http://a..b.example/", "http://none.example/", "http://" + "a" * 64 + ".example/",
    ),
    "url_scheme": (
        "file:///etc/passwd", "ftp://HOST/", "gopher://HOST:6379/_INFO",
        "unix:///var/run/docker.sock", "http+unix://%2fvar%2frun%2fdocker.sock/",
        "data:video/mp4;base64,AAAA", "concat:http://HOST/a|http://HOST/b", "javascript:alert(1)",
        "ws://HOST/", "hTTpx://HOST/",
    ),
}  # fmt: skip
REFUSED_FORMS = {form: reason for reason, forms in FORMS.items() for form in forms}


async def named(host: str, port: int) -> Sequence[str]:
    return NAMES.get(host) or [
        str(answer[4][0])
        for answer in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    ]


@pytest.fixture
async def strict(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Outbound]:
    monkeypatch.setattr(client, "PORTS", (80, 443, origin.port))
    async with Outbound(resolve=named) as opened:
        yield opened


async def opened_at(outbound: Outbound, url: str, max_bytes: int = GIB) -> None:
    async with outbound.open_range_reader(url, max_bytes=max_bytes):
        pass


async def refusals(outbound: Outbound, url: str) -> list[ForemaskError]:
    found = []
    for attempt in (
        lambda: opened_at(outbound, url),
        lambda: fetched(outbound, url),
        lambda: outbound.post(url, b"{}", {}, timeout_s=PATIENCE_S),
        lambda: outbound.check_webhook(url),
    ):
        with pytest.raises(ForemaskError) as caught:
            await attempt()
        found.append(caught.value)
    return found


@pytest.mark.parametrize("host", PRIVATE)
async def test_a_private_address_is_refused_in_every_spelling(
    strict: Outbound, origin: Origin, host: str
) -> None:
    for url in (f"http://{host}/clip.mp4", f"https://{host}:{origin.port}/clip.mp4"):
        *direct, checked = await refusals(strict, url)
        assert [error.reason for error in direct] == ["url_private"] * 3
        assert [error.param for error in direct] == ["video", "video", "webhook_url"]
        assert (checked.reason, checked.param) == ("webhook_invalid", "webhook_url")
        for error in (*direct, checked):
            assert not any(part in error.details for part in ("127", "169.254", "10.0", "::", host))
    assert origin.connections == 0


@pytest.mark.parametrize("form", REFUSED_FORMS)
async def test_a_trick_in_the_url_has_its_own_reason(
    strict: Outbound, origin: Origin, form: str
) -> None:
    url = form.replace("HOST", "127.0.0.1")
    *direct, checked = await refusals(strict, url)
    assert {error.reason for error in direct} == {REFUSED_FORMS[form]}
    assert (checked.reason, checked.param) == ("webhook_invalid", "webhook_url")
    assert origin.connections == 0


@pytest.mark.parametrize(
    ("target", "reasons"),
    [
        ("http://127.0.0.1:{port}/", ("url_private",)),
        ("http://localhost:{port}/", ("url_private",)),
        ("http://169.254.169.254/latest/meta-data/", ("url_private",)),
        ("//127.0.0.1:{port}/", ("url_private",)),
        ("http://user@127.0.0.1:{port}/", ("url_not_allowed",)),
        ("http://127.0.0.1:22/", ("url_not_allowed",)),
        ("file:///etc/passwd", ("url_scheme",)),
        ("http://127.0.0.1:{port}\\@example.com/", ANY_OF_URLS),
    ],
)
async def test_a_redirect_is_a_new_address_to_check(
    monkeypatch: pytest.MonkeyPatch, target: str, reasons: tuple[str, ...]
) -> None:
    here = ipaddress.ip_network("127.0.0.2/32")
    async with (
        listening("127.0.0.1") as secret,
        listening("127.0.0.2") as origin,
        Outbound(allow_private=[here], resolve=named) as outbound,
    ):
        monkeypatch.setattr(client, "PORTS", (80, 443, secret.port))
        origin.answers |= {"/1": redirects("/2"), "/2": redirects("/3")}
        origin.answers["/3"] = redirects(target.format(port=secret.port))
        with refused(*reasons):
            await fetched(outbound, origin.url("/1"))
        with refused(*reasons):
            await opened_at(outbound, origin.url("/1"))
        assert secret.connections == 0
