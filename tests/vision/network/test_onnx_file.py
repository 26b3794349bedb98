from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from foremask.errors import ModelUnavailable
from foremask.options import Device
from foremask.vision.network.devices import network_at
from foremask.vision.network.onnx_file import check_is_data
from tests.support import networks


def with_external_weights(model: onnx.ModelProto) -> None:
    make_external(model.graph.initializer[0], "../secret.bin")


def make_external(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value=location)
    tensor.data_location = TensorProto.EXTERNAL


def with_external_weights_inside_a_branch(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "far")
    make_external(value, "secret.bin")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["chosen"], value=value)],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    chosen = helper.make_node(
        "If", ["condition"], ["scale"], then_branch=branch, else_branch=branch
    )
    model.graph.node.append(chosen)


def with_a_custom_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain = "com.example.hats"
    model.opset_import.append(helper.make_opsetid("com.example.hats", 1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_external_weights, "external data.*: save it as one file"),
        (with_external_weights_inside_a_branch, "external data.*: save it as one file"),
        (with_a_custom_operator, r"operators of 'com\.example\.hats'.*without custom ones"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "onnxruntime"])
def test_a_file_that_is_more_than_data_is_refused(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], reason: str, device: str
) -> None:
    path = networks.redness(tmp_path)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnavailable, match=reason):
        network_at(path, Device.parse(device))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a pickle in a zip", bytes(1000), b"\x80\x02}q"]
)
def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"network\.onnx is .* no ONNX file"):
        check_is_data(path)


def test_a_network_with_functions_of_its_own_is_data(tmp_path: Path) -> None:
    path = networks.redness(tmp_path)
    model = onnx.load(path)
    own = helper.make_function(
        "own", "Twice", ["x"], ["y"],
        [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    model.functions.append(own)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("Twice", ["logit"], ["twice"], domain="own"))
    path.write_bytes(model.SerializeToString())
    check_is_data(path)
