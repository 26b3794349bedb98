"""A worker and the device that it is told to use."""

from pathlib import Path

import pytest

from foremask.errors import DeviceUnavailable, SettingsInvalid
from foremask.machine.nvidia import nvidia_cards
from foremask.service.run.serve import serve
from foremask.service.worker.process import run_worker
from foremask.settings import Settings, read_settings
from tests.support import networks

pytestmark = pytest.mark.slow


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
