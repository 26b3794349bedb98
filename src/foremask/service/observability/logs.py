"""Structured logs of foremask and its libraries, as JSON or for a terminal."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor

from foremask.settings import LogFormat, LogLevel

# Libraries whose INFO messages repeat those of foremask.
QUIETED = ("uvicorn.error", "uvicorn.access", "psycopg.pool", "httpcore", "httpx")

# Local variables in a traceback may hold API tokens.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logs(
    level: LogLevel = LogLevel.INFO,
    process: str = "",
    stream: TextIO | None = None,
    form: LogFormat = LogFormat.AUTO,
) -> None:
    """Send every log line of this process to ``stream``, by default standard error.

    In JSON, a line has ``timestamp`` (UTC), ``level``, ``event``, ``logger``, ``process`` unless
    empty, and structlog's context, such as ``request_id``. A plain line has the local time of day,
    and no logger. `LogFormat.AUTO` is plain at a terminal.
    """
    stream = stream or sys.stderr
    is_plain = form is LogFormat.PLAIN or (form is LogFormat.AUTO and stream.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("%H:%M:%S" if is_plain else "iso", utc=not is_plain),
        structlog.processors.StackInfoRenderer(),
    ]
    if process:
        shared.append(lambda _logger, _method, event: {**event, "process": process})
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    rendering: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if is_plain:
        rendering.append(_without_logger)
        rendering.append(
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(),
                pad_event_to=0,
                pad_level=False,
                exception_formatter=structlog.dev.plain_traceback,
            )
        )
    else:
        rendering.append(structlog.processors.ExceptionRenderer(_TRACEBACK))
        rendering.append(structlog.processors.JSONRenderer())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=rendering)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in QUIETED:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def _without_logger(_logger: object, _method: str, event: EventDict) -> EventDict:
    event.pop("logger", None)
    return event
