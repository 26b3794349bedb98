"""Shared fixtures; those of a database are in tests/support/databases.py."""

import logging
import os
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import pytest

from foremask.machine.process_setup import ONE_THREAD
from tests.support.programs import Run

# As foremask's own processes do: OpenBLAS's threads use the cores while they wait, which the
# other tests need. OpenBLAS reads this when it loads, and processes that tests start do not get it.
with patch.dict(os.environ, ONE_THREAD):
    import numpy as np  # noqa: F401

if find_spec("psycopg") is not None:  # the tests of the library run without the server extra
    from tests.support.databases import database, database_url, postgres, template, token

    __all__ = ["database", "database_url", "postgres", "template", "token"]  # fixtures


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests by the fixtures that they use."""
    for name in ("postgres", "browser"):
        if name in getattr(item, "fixturenames", ()):
            item.add_marker(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a skipped test as failed in CI, where nobody reads what was skipped."""
    report = yield
    if os.environ.get("CI") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI is set: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def logging_is_put_back() -> Iterator[None]:
    """Commands that run in this process change the handlers of its log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog = sys.modules.get("structlog")
    if structlog is not None:
        structlog.reset_defaults()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support import networks  # of few tests

    return networks.redness(tmp_path_factory.mktemp("model"), bias=-5)
