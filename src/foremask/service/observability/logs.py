"""Structured logs of foremask and its libraries, as JSON or for a terminal."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.types import Processor

from foremask.settings import LogLevel

# Libraries whose INFO messages repeat those of foremask.
QUIETED = ("uvicorn.error", "uvicorn.access", "procrastinate", "psycopg.pool", "httpcore", "httpx")

# Local variables in a traceback may hold API tokens.
_TRACEBACK = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logs(
    level: LogLevel = LogLevel.INFO, process: str = "", stream: TextIO | None = None
) -> None:
    """Send every log line of this process to ``stream``, by default standard error.

    Each line has ``timestamp`` (UTC), ``level``, ``event``, ``logger``, ``process`` unless empty,
    and structlog's context, such as ``request_id``.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    if stream.isatty():
        plain = structlog.dev.plain_traceback
        rendering.append(structlog.dev.ConsoleRenderer(exception_formatter=plain))
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
