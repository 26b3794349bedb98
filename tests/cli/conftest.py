"""What every test of the command line puts back."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _all_cores_again() -> Iterator[None]:
    """``--threads`` keeps a process on few cores, and tests share theirs."""
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)
