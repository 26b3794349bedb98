"""Before its children start, a worker has the network compiled by another process."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foremask.service.worker.compilation import compile_ahead
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.weights.catalogue import ISNET, model_path

pytestmark = pytest.mark.slow


@pytest.fixture
def isnet(tmp_path: Path) -> Path:
    path = tmp_path / "models" / ISNET.file_name
    path.parent.mkdir()
    path.symlink_to(model_path())
    return path


@pytest.mark.weights
async def test_what_is_missing_is_compiled_once(isnet: Path) -> None:
    directory = isnet.parent / "compiled"
    with capture_logs() as logs:
        await compile_ahead(isnet)
    assert [each["event"] for each in logs] == ["network.compiled"]
    assert CompiledNetworks(directory, isnet).missing() == []
    with capture_logs() as logs:
        await compile_ahead(isnet)
    assert logs == []


async def test_weights_that_cannot_be_compiled_are_logged(tmp_path: Path) -> None:
    weights = tmp_path / ISNET.file_name
    weights.touch()
    os.truncate(weights, ISNET.size_bytes)
    with capture_logs() as logs:
        await compile_ahead(weights)
    assert [each["event"] for each in logs] == ["network.not_compiled"]
    assert "is no network that runs here" in logs[0]["error"]
