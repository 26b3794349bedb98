import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foremask.errors import DeviceUnavailable, SettingsInvalid
from foremask.machine.nvidia import nvidia_cards
from foremask.service.run.serve import serve
from foremask.service.worker.compilation import compile_ahead
from foremask.service.worker.process import run_worker
from foremask.settings import Settings, read_settings
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.weights.catalogue import ISNET
from tests.support import networks

pytestmark = pytest.mark.slow


@pytest.fixture
def isnet(tmp_path: Path) -> Path:
    return networks.isnet(tmp_path / "models")


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


def settings_for(folder: Path, device: str, sandbox: str, database_url: str) -> Settings:
    return read_settings(
        {
            "FOREMASK_DATA_DIR": str(folder),
            "FOREMASK_DATABASE_URL": database_url,
            "FOREMASK_MODEL_FILE": str(networks.redness(folder)),
            "FOREMASK_DEVICE": device,
            "FOREMASK_SANDBOX": sandbox,
        }
    )


@pytest.mark.parametrize("device", ["cuda:1", "openvino:GPU"])
def test_a_confined_worker_does_not_start_for_a_gpu(tmp_path: Path, device: str) -> None:
    """The sandbox has no device files: it says so at once, and does not mask on the processor."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    settings = settings_for(tmp_path, device, "best-effort", nowhere)
    for start in (run_worker, lambda of_all: serve(of_all, print)):
        with pytest.raises(SettingsInvalid, match=f"{device} needs FOREMASK_SANDBOX=off"):
            start(settings)


def test_a_worker_whose_device_is_not_there_claims_nothing(
    tmp_path: Path, database_url: str
) -> None:
    """It ends before its first claim: it would fail every job that it could get."""
    if nvidia_cards():
        pytest.skip("this machine has a card")
    with pytest.raises(DeviceUnavailable, match="Here are: cpu"):
        run_worker(settings_for(tmp_path, "cuda", "off", database_url))
