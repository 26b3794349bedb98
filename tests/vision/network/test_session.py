from pathlib import Path

import numpy as np
import pytest

from foremask.errors import ModelUnavailable
from foremask.options import Device, Runtime
from foremask.vision.network.onnx_session import OnnxSession
from foremask.vision.network.session import Precision, Session
from tests.support import networks
from tests.support.networks import SIZE_PX
from tests.support.programs import fresh

ONNX_CPU = Device(Runtime.ONNXRUNTIME)


@pytest.fixture
def redness(tmp_path: Path) -> Path:
    return networks.redness(tmp_path)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_network_of_ones_own_runs_as_its_side_car_says(redness: Path, runtime: str) -> None:
    session = Session(redness) if runtime == "openvino" else OnnxSession(redness, ONNX_CPU)
    output = session.infer(networks.half_red())
    assert output.alpha.shape == (SIZE_PX, SIZE_PX)
    assert output.alpha[:, 40:].min() > 0.99
    np.testing.assert_allclose(output.alpha[:, :24], 0.5, atol=0.02)
    assert output.features == ()
    assert session.runtime.startswith(runtime)


def test_without_a_side_car_the_first_output_is_the_mask(redness: Path) -> None:
    """IS-Net's own is not its first; a network that has no output of that name still runs."""
    redness.with_name("redness.onnx.json").unlink()
    assert Session(redness).infer(networks.half_red()).alpha[:, -1].max() == 0  # "against" red


def test_a_network_that_is_no_isnet_never_runs_in_8_bits(redness: Path) -> None:
    assert Session(redness).precision in {Precision.BF16, Precision.F32}


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a network")
    with pytest.raises(ModelUnavailable, match=r"broken\.onnx"):
        Session(broken)


NOBODY_IS_CALLED = """
import os, sys
sys.addaudithook(lambda event, args: event == "socket.connect" and os._exit(9))
import foremask.vision.network.session
assert sys.modules["openvino_telemetry"] is None
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
assert "onnxruntime" not in sys.modules
"""


def test_importing_the_runtimes_calls_nobody() -> None:
    assert fresh(NOBODY_IS_CALLED).stderr == ""
