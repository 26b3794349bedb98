import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foremask.errors import ModelUnavailable
from foremask.options import Device, Runtime
from foremask.vision.image import ArrayImage
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


@pytest.fixture
def half_size(tmp_path: Path) -> Path:
    """A network like IS-Net's end: a logit at half the size, enlarged linearly, and its sigmoid."""
    weights = np.zeros((1, 3, 2, 2), np.float32)
    weights[0, 0] = 4.0
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["picture", "w"], ["small"], strides=[2, 2]),
            helper.make_node("Resize", ["small", "", "", "size"], ["large"], mode="linear"),
            helper.make_node("Sigmoid", ["large"], ["mask"]),
        ],
        "half size",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, 3, SIZE_PX, SIZE_PX))],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, (1, 1, SIZE_PX, SIZE_PX))],
        [
            helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel()),
            helper.make_tensor("size", TensorProto.INT64, (4,), (1, 1, SIZE_PX, SIZE_PX)),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path / "half.onnx"
    onnx.save(model, path)
    path.with_name("half.onnx.json").write_text(json.dumps({"size_px": SIZE_PX}))
    return path


def test_a_mask_that_we_enlarge_ourselves_is_the_one_of_the_file(half_size: Path) -> None:
    """What OpenVINO leaves to us, ONNX Runtime does to the letter."""
    image = ArrayImage(np.random.default_rng(3).integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8))
    ours = Session(half_size, precision=Precision.F32).infer(image).alpha
    theirs = OnnxSession(half_size, ONNX_CPU).infer(image).alpha
    assert np.ptp(ours) > 0.5
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_where_the_sigmoid_is_ours_by_the_side_car_nothing_is_cut_off(half_size: Path) -> None:
    half_size.with_name("half.onnx.json").write_text(
        json.dumps({"size_px": SIZE_PX, "sigmoid": True})
    )
    black = ArrayImage(np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8))
    output = Session(half_size, precision=Precision.F32).infer(black)
    once = 1 / (1 + np.exp(-4 * 4 * -0.5))
    np.testing.assert_allclose(output.alpha, 1 / (1 + np.exp(-once)), atol=1e-3)


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
    """Both switches are set when the session module is there, before ONNX Runtime could be."""
    assert fresh(NOBODY_IS_CALLED).stderr == ""
