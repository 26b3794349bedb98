import io
import json
import logging
import re

import pytest
import structlog

from foremask.service.observability.logs import configure_logs
from foremask.settings import LogFormat, LogLevel


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logs(LogLevel.INFO, "worker", stream)
    return stream


def test_a_line_has_its_context(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1", attempt=2):
        structlog.get_logger("foremask.test").debug("segment.detail")
        structlog.get_logger("foremask.test").info("segment.done", frames=90)
    line = json.loads(lines.getvalue())
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "segment.done",
        "frames": 90,
        "request_id": "r-1",
        "attempt": 2,
        "level": "info",
        "logger": "foremask.test",
        "process": "worker",
    }


def test_a_librarys_line_looks_like_ours_if_it_is_a_warning(lines: io.StringIO) -> None:
    logging.getLogger("psycopg.pool").info("chatter")
    logging.getLogger("uvicorn.error").warning("port %d is taken", 8000)
    line = json.loads(lines.getvalue())
    assert (line["event"], line["level"]) == ("port 8000 is taken", "warning")
    assert line["process"] == "worker"


def test_a_plain_line_is_short() -> None:
    stream = io.StringIO()
    configure_logs(LogLevel.INFO, "worker", stream, LogFormat.PLAIN)
    structlog.get_logger("foremask.test").info("segment.done", frames=90)
    line = re.fullmatch(r"\d\d:\d\d:\d\d (.*)\n", stream.getvalue())
    assert line is not None, stream.getvalue()
    assert line[1].split() == ["[info]", "segment.done", "frames=90", "process=worker"]


def test_an_error_carries_its_traceback_as_data(lines: io.StringIO) -> None:
    token = "hush"
    try:
        raise ValueError(len(token))  # noqa: TRY301
    except ValueError:
        structlog.get_logger("foremask.test").exception("broke")
    assert lines.getvalue().count("\n") == 1
    assert token not in lines.getvalue()
    assert json.loads(lines.getvalue())["exception"][0]["exc_type"] == "ValueError"
