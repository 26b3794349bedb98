import os
from collections.abc import Iterator

import pytest

from foremask.machine import paths


@pytest.fixture(autouse=True)
def _kept_results(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the network's results in a folder of the test; use the model that was pulled."""
    monkeypatch.setenv("FOREMASK_MODEL_DIR", str(paths.cache_dir()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _all_cores_again() -> Iterator[None]:
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)
