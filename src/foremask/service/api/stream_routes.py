"""Handles the WebSocket of live streams: checks the token, and closes with a code and a reason."""

import time
from urllib.parse import parse_qsl

import structlog
from starlette.types import Scope
from starlette.websockets import WebSocket

from foremask import errors
from foremask.service.api.calls import read_token
from foremask.service.api.context import SERVICE, Service
from foremask.service.api.streams import LiveStream, close
from foremask.service.jobs import tokens
from foremask.service.observability import metrics
from foremask.service.sandbox.pool import ChildDied

log = structlog.get_logger(__name__)


def hide_token(scope: Scope) -> None:
    """Move the token from the query to the headers, which are not logged.

    Its name is ``api_token``, or ``oauth`` as in the hosted stream's newest example.
    """
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    scope["query_string"] = b""
    if token := query.get("api_token") or query.get("oauth"):
        scope["headers"] = [*scope["headers"], (b"api_token", token.encode("latin-1", "replace"))]


async def stream(socket: WebSocket) -> None:
    service: Service = socket.scope["state"][SERVICE]
    await socket.accept()
    live = LiveStream(socket, service.settings)
    began_s = time.monotonic()
    problem: errors.ForemaskError | ChildDied | None = None
    try:
        grant = await tokens.charge_rate(service.database, read_token(socket))
        await service.streams.run(live, grant.token_id)
    except errors.ForemaskError as error:
        problem = error
    except ChildDied as died:
        log.warning("stream.died", notes=getattr(died, "__notes__", []))
        problem = died
    except Exception:
        log.exception("stream.crashed")
        problem = errors.Internal("Something went wrong here.")
    code = await close(socket, problem)  # if it is not closed yet
    metrics.STREAMS_ENDED.labels(str(code)).inc()
    log.info(
        "stream.ended",
        code=code,
        reason=str(problem or ""),
        received=live.received,
        masked=live.masked,
        dropped=live.dropped,
        seconds=round(time.monotonic() - began_s, 1),
    )
