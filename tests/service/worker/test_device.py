"""A worker and the device that it is told to use."""

from pathlib import Path

import pytest

from foremask.errors import SettingsInvalid
from foremask.service.settings import read_settings
from foremask.service.worker.process import run_worker
from tests.support import networks


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
    with pytest.raises(SettingsInvalid, match=f"{device} needs FOREMASK_SANDBOX=off"):
        run_worker(settings)
