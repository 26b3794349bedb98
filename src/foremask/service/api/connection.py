"""Limits HTTP connections in number, bytes and time (docs/adr/0094)."""

import asyncio
import re
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from foremask import errors
from foremask.service.api.context import FACTS, RequestFacts, answer_of
from foremask.service.observability.metrics import answered, refused

MAX_TARGET_BYTES = 16 << 10
MAX_HEAD_BYTES = 64 << 10
MAX_PIPELINED = 16
FRAMING_PER_BODY_BYTE = 8  # a chunk of one byte has 5 bytes of framing
CHUNKS = 4096  # of a body; each costs the event loop some 3 µs, however small it is
LEAST_CHUNK_BYTES = 64  # mean size of all further chunks
HEAD_S = 10.0
BODY_WINDOW_S = 10.0
BODY_BYTES_PER_S = 256  # minimum rate within each window
FIRST_BODY_BYTES = 40 << 10
LASTING_BODY_BYTES_PER_S = 1 << 10
STOPPING_S = 7.0  # from the stop signal: the rest of the 10 s is for deleting what came
STALLED_S = 30.0  # a client that takes less than 64 KiB of a file in this time is disconnected
LINGER_S = 1.0  # unread bytes at a close would reset the connection and lose the response
LINGER_BYTES = 1 << 20
GRACE_S = 1.0  # connections idle for less are evicted last: a request may be in transit
RESERVE = 32  # additional connections for the paths in HEALTH
HEALTH = frozenset({b"/healthz", b"/readyz", b"/metrics"})
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} [/*h]")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Gate:
    """Chooses a connection to close when there are more than ``limit`` connections."""

    limit: int
    idle_s: float
    burst: int
    idle_since: dict["Connection", float] = field(default_factory=dict)
    body_since: dict["Connection", float] = field(default_factory=dict)

    def evicted(self, now: float, connections: int) -> "Connection | None":
        if connections <= self.limit:
            return None
        oldest = next(iter(self.idle_since), None)
        if oldest is not None and now - self.idle_since[oldest] >= GRACE_S:
            return oldest
        slowest = self._slowest_body(now)
        if slowest is None and connections > self.limit + self.burst:
            return oldest
        return slowest

    def _slowest_body(self, now: float) -> "Connection | None":
        """Return the connection whose request body arrives slowest, or None.

        Compares the connections whose `owner` is None. If there are none, compares those of the
        owner that sends the most bodies, if they are more than ``limit // 4``.
        """
        by_owner: defaultdict[str | None, list[Connection]] = defaultdict(list)
        for each, began in self.body_since.items():
            if each.owner is None or now - began >= GRACE_S:
                by_owner[each.owner].append(each)
        bodies = by_owner.get(None) or max(by_owner.values(), key=len, default=[])
        if not bodies or (bodies[0].owner is not None and len(bodies) <= self.limit // 4):
            return None
        old = [each for each in bodies if now - self.body_since[each] >= GRACE_S]
        return min(
            old, key=lambda each: each.body_bytes / (now - self.body_since[each]), default=bodies[0]
        )


def least_body_bytes(seconds: float) -> float:
    """Return how many bytes of a body must have arrived after ``seconds``."""
    return max(FIRST_BODY_BYTES, LASTING_BODY_BYTES_PER_S * seconds)


class Connection(HttpToolsProtocol):
    body_bytes = 0
    _head_bytes = _framing_bytes = _window_bytes = _lingered_bytes = 0
    _requests = _hosts = _chunks = 0
    _body_s = 0.0
    _over_limit = _refused = _heard = False
    _refusal: errors.ForemaskError | None = None
    _timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def __init__(self, gate: Gate, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        evicted = self._gate.evicted(self.loop.time(), len(self.connections))
        if evicted is not None:
            evicted.leave()
        elif len(self.connections) > self._gate.limit + self._gate.burst + RESERVE:
            self.transport.abort()
            return
        elif len(self.connections) > self._gate.limit and not self._gate.idle_since:
            self._over_limit = True
        self._await_request(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._set_timer(0.0)
        self.resume_writing()
        super().connection_lost(exc)
        # A cycle holds its request's head and this connection.
        self.cycle = None  # type: ignore[assignment]
        self.pipeline.clear()

    def shutdown(self) -> None:
        super().shutdown()
        if self._owes_body():
            self.loop.call_later(STOPPING_S, self._refuse_body)

    def _refuse_body(self) -> None:
        if self._owes_body() and not self._refused and not self.transport.is_closing():
            self._refuse(
                errors.ServiceUnavailable("The service is stopping; send the same request again.")
            )

    def leave(self) -> None:
        self._forget()
        self.connections.discard(self)  # uvicorn does this only in connection_lost
        self.transport.abort()

    def _forget(self) -> None:
        self._gate.idle_since.pop(self, None)
        self._gate.body_since.pop(self, None)

    @property
    def owner(self) -> str | None:
        """The id of the request's token, or None until the token or upload form is verified."""
        facts: RequestFacts | None = self.scope["state"].get(FACTS)
        if facts is None:
            return None
        return facts.owner

    def _await_request(self, seconds: float) -> None:
        self._gate.idle_since[self] = self.loop.time()
        self._heard = False
        self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        """Call `_late` after ``seconds``; with 0, cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if seconds:
            self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self in self._gate.idle_since:
            if self._heard and not self._owes_body():
                details = f"The headers were not complete after {HEAD_S:g} s."
                self._refuse(errors.BadRequest(details, reason="request_too_slow", limit=HEAD_S))
            else:
                self.transport.close()
        elif self._owes_body():
            if not self.flow.read_paused and (problem := self._slowness()):
                self._refuse(problem)
                return
            self._window_bytes = 0
            self._set_timer(BODY_WINDOW_S)

    def _slowness(self) -> errors.BadRequest | None:
        self._body_s += BODY_WINDOW_S
        for came, least, seconds in (
            (self._window_bytes, BODY_BYTES_PER_S * BODY_WINDOW_S, BODY_WINDOW_S),
            (self.body_bytes, least_body_bytes(self._body_s), self._body_s),
        ):
            if came < least:
                return errors.BadRequest(
                    f"{came} bytes of the body came in {seconds:g} s; at least {least:.0f} must.",
                    reason="request_too_slow",
                    limit=least,
                    actual=came,
                )
        if self.owner is None:
            return errors.BadRequest(
                f"After {self._body_s:g} s the form's fields have not come, which are its first.",
                reason="request_too_slow",
                limit=self._body_s,
            )
        return None

    def _owes_body(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and cycle.more_body

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALLED_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self.flow is not None:
            super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES:
                self.transport.abort()
            return
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if not self._heard and self in self._gate.idle_since:
            self._heard = True
            self._set_timer(HEAD_S)
        self._framing_bytes += len(data)
        before = self._requests
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self._forget()
                self._set_timer(0.0)
                self.handle_websocket_upgrade()
                return
            if self.cycle is not None:  # respond without the upgrade, then close
                self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            first = b""
            if self._requests == before:
                first = data
            self._refuse(self._refusal or self._described(error, first))
            return
        if self._framing_bytes > MAX_HEAD_BYTES + FRAMING_PER_BODY_BYTE * self.body_bytes:
            self._refuse(self._too_large())

    def _described(self, error: httptools.HttpParserError, data: bytes) -> errors.ForemaskError:
        if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(data):
            allow = errors.BadRequest.allow
            details = f"No path takes this method; there are {allow}."
            return errors.BadRequest(details, reason="method_not_allowed")
        detail = f": {error}"
        if isinstance(error, httptools.HttpParserCallbackError):
            detail = ""
        return errors.BadRequest(f"This is not a request of HTTP/1.1{detail}.", reason="bad_http")

    def _too_large(self) -> errors.BadRequest:
        return errors.BadRequest(
            f"The request line and the headers have over {MAX_HEAD_BYTES} bytes in all.",
            reason="headers_too_large",
            limit=MAX_HEAD_BYTES,
        )

    def _stop_parsing(self, error: errors.ForemaskError) -> None:
        self._refusal = error
        raise error

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = self.body_bytes = self._hosts = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._stop_parsing(
                errors.BadRequest(
                    f"The request line has over {MAX_TARGET_BYTES} bytes.",
                    reason="target_too_long",
                    limit=MAX_TARGET_BYTES,
                )
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self.url) > MAX_HEAD_BYTES:
            self._stop_parsing(self._too_large())
        self._hosts += name.lower() == b"host"
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._stop_parsing(
                errors.BadRequest(
                    f"The request has {self._hosts} Host headers, and needs one.", reason="bad_http"
                )
            )
        is_upgrade = self.parser.should_upgrade() and self._should_upgrade()
        is_health = self.url.partition(b"?")[0] in HEALTH and not is_upgrade
        if self._over_limit and not is_health:
            self._stop_parsing(
                errors.ServiceUnavailable(
                    f"All {self._gate.limit} connections are in use; try again in a moment.",
                    limit=self._gate.limit,
                )
            )
        cycle: RequestResponseCycle | None = self.cycle
        if is_upgrade and cycle is not None and not cycle.response_complete:
            self._stop_parsing(
                errors.BadRequest(
                    "A WebSocket begins when earlier requests are answered.", reason="bad_http"
                )
            )
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_parsing(
                errors.BadRequest(
                    f"Over {MAX_PIPELINED} requests were sent without waiting for an answer.",
                    reason="bad_http",
                    limit=MAX_PIPELINED,
                )
            )
        super().on_headers_complete()
        if self._over_limit:
            self.cycle.keep_alive = False
        self._gate.idle_since.pop(self, None)
        self._gate.body_since[self] = self.loop.time()
        self._window_bytes = 0
        self._body_s = 0.0
        self._set_timer(BODY_WINDOW_S)

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > CHUNKS + self.body_bytes / LEAST_CHUNK_BYTES:
            mean_bytes = self.body_bytes / self._chunks
            self._stop_parsing(
                errors.BadRequest(
                    f"The chunks of this body have {mean_bytes:.0f} bytes; at least"
                    f" {LEAST_CHUNK_BYTES} are needed.",
                    reason="bad_http",
                    limit=LEAST_CHUNK_BYTES,
                )
            )

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        self.body_bytes += len(body)
        self._window_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing_bytes = 0
        self._requests += 1
        self._gate.body_since.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._refusal is not None and not self.pipeline:
            self._refuse(self._refusal)
        elif not self.pipeline:
            self._unset_keepalive_if_required()
            # If the request's body is not complete by then, the timer closes the connection.
            self._await_request(self._gate.idle_s)

    def _refuse(self, error: errors.ForemaskError) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()  # a response that has begun cannot become an error
                return
            if not cycle.more_body or self.pipeline:
                self._refusal = error  # sent after the pending responses
                self._refused = True
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self._refused = True
        self._forget()
        self._set_timer(0.0)
        self._unset_keepalive_if_required()
        self.transport.write(_answer(error, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _answer(error: errors.ForemaskError, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    request_id = str(uuid.uuid4())
    status = error.status
    headers, body = answer_of(error, request_id)
    headers |= {
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": request_id,
        "Connection": "close",
    }
    answered("other", "unknown", status, 0.0)
    refused(error.reason)
    log.debug("http.refused", request_id=request_id, reason=error.reason, status=status)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        *(b"%s: %s" % each for each in default_headers),
        *(f"{name}: {value}".encode("latin-1") for name, value in headers.items()),
    ]
    return b"\r\n".join([*lines, b"", body])
