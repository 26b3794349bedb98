"""A worker and the device that it is told to use."""

from pathlib import Path

import pytest

from foremask.errors import DeviceUnavailable, SettingsInvalid
from foremask.machine.nvidia import nvidia_cards
from foremask.service.run.serve import serve
from foremask.service.worker.process import run_worker
from foremask.settings import read_settings
from tests.support import networks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("device", ["cuda", "tensorrt:1", "openvino:GPU"])
def test_a_confined_worker_does_not_start_for_a_gpu(tmp_path: Path, device: str) -> None:
    """The sandbox has no device files: it says so at once, and does not mask on the processor."""
    settings = read_settings(
        {
            "FOREMASK_DATA_DIR": str(tmp_path),
            "FOREMASK_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "FOREMASK_MODEL_FILE": str(networks.redness(tmp_path)),
            "FOREMASK_DEVICE": device,
        }
    )
    for start in (run_worker, lambda of_all: serve(of_all, print)):
        with pytest.raises(SettingsInvalid, match=f"{device} needs FOREMASK_SANDBOX=off"):
            start(settings)


def test_a_worker_whose_device_is_not_there_claims_nothing(
    tmp_path: Path, database_url: str
) -> None:
    """It ends before its first claim: it would fail every job that it could get."""
    if nvidia_cards():
        pytest.skip("this machine has a card")
    settings = read_settings(
        {
            "FOREMASK_DATA_DIR": str(tmp_path),
            "FOREMASK_DATABASE_URL": database_url,
            "FOREMASK_MODEL_FILE": str(networks.redness(tmp_path)),
            "FOREMASK_DEVICE": "cuda",
            "FOREMASK_SANDBOX": "off",
        }
    )
    with pytest.raises(DeviceUnavailable, match="Here are: cpu"):
        run_worker(settings)
