import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from foremask.errors import DeviceUnavailable, ModelUnavailable, SettingsInvalid
from foremask.machine.hardware import nvidia_cards
from foremask.service.run.serve import serve
from foremask.service.worker.compilation import compile_ahead
from foremask.service.worker.process import run_worker
from foremask.settings import Settings, read_settings
from foremask.vision.network.compiled_networks import (
    HINTED_PX,
    CompiledForm,
    CompiledNetworks,
)
from foremask.weights.catalogue import ISNET, model_path
from tests.support import networks

pytestmark = pytest.mark.slow


@pytest.mark.weights
async def test_what_is_missing_is_compiled_once(tmp_path: Path) -> None:
    """All but one were compiled when the weights were pulled."""
    isnet = networks.isnet(tmp_path / "models")
    networks.copy_compiled(model_path(), isnet, but=[(CompiledForm.REDUCED, HINTED_PX)])
    compiled = CompiledNetworks(isnet.parent / "compiled", isnet)
    assert f"{HINTED_PX} px" in compiled.missing()
    with capture_logs() as logs:
        await compile_ahead(isnet)
    assert [each["event"] for each in logs] == ["network.compiled"]
    assert compiled.missing() == []
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


@pytest.mark.parametrize(
    ("start", "device", "sandbox", "problem"),
    [
        (run_worker, "cuda:1", "best-effort", "cuda:1 needs FOREMASK_SANDBOX=off"),
        (partial(serve, say=print), "openvino:GPU", "require", "GPU needs FOREMASK_SANDBOX=off"),
        pytest.param(
            *(run_worker, "cuda", "off", "Here are: cpu"),
            marks=pytest.mark.skipif(bool(nvidia_cards()), reason="this machine has a card"),
        ),
    ],
)
def test_without_its_device_a_worker_does_not_start(
    tmp_path: Path,
    database_url: str,
    start: Callable[[Settings], None],
    device: str,
    sandbox: str,
    problem: str,
) -> None:
    """It would fail every job that it could get, or mask on the processor."""
    environ = {
        "FOREMASK_DATA_DIR": str(tmp_path),
        "FOREMASK_DATABASE_URL": database_url,
        "FOREMASK_MODEL_FILE": str(networks.redness(tmp_path)),
        "FOREMASK_DEVICE": device,
        "FOREMASK_SANDBOX": sandbox,
    }
    with pytest.raises((SettingsInvalid, DeviceUnavailable), match=problem):
        start(read_settings(environ))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("u2net", "`foremask models pull u2net` fetches it"),
        (
            "hats",
            r"hats takes 1125899\.9 GB, and a job may take 2\.1 GB: raise FOREMASK_JOB_MEMORY",
        ),
    ],
)
def test_a_worker_does_not_start_with_a_network_that_jobs_may_name_and_it_cannot_run(
    tmp_path: Path, database_url: str, name: str, problem: str
) -> None:
    networks.redness(tmp_path)
    (tmp_path / "hats.onnx").write_bytes(b"large")
    (tmp_path / "hats.onnx.json").write_text(f'{{"memory_bytes": {2**50}}}')
    environ = {
        "FOREMASK_DATA_DIR": str(tmp_path),
        "FOREMASK_DATABASE_URL": database_url,
        "FOREMASK_MODEL_DIR": str(tmp_path),
        "FOREMASK_NETWORK": "redness",
        "FOREMASK_NETWORKS": f"redness,{name}",
        "FOREMASK_JOB_MEMORY": "2G",
        "FOREMASK_DEVICE": "cpu",
    }
    with pytest.raises((ModelUnavailable, SettingsInvalid), match=problem):
        run_worker(read_settings(environ))
