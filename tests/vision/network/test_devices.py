from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from foremask.errors import DeviceUnavailable, FieldInvalid
from foremask.options import Device, Quality, Runtime
from foremask.vision.network.devices import devices, network_at
from foremask.vision.network.graph import ISNET_TAPS
from foremask.vision.network.onnx_session import PICTURE, OnnxSession, adapted
from foremask.vision.network.session import (
    Network,
    Precision,
    Session,
    cpu_float,
)
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import ModelSpec, model_path
from tests.support import networks
from tests.vision.temporal.test_windows import moving_disc


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("auto", Device()),
        ("cpu", Device(Runtime.CPU)),
        ("openvino:cpu", Device(Runtime.CPU)),
        ("OpenVINO:gpu.1", Device(Runtime.OPENVINO, "GPU.1")),
        ("openvino:AUTO", Device(Runtime.OPENVINO, "AUTO")),
        ("onnxruntime", Device(Runtime.ONNXRUNTIME)),
        ("cuda:1", Device(Runtime.CUDA, "1")),
    ],
)
def test_a_device_is_a_runtime_and_a_unit(text: str, device: Device) -> None:
    assert Device.parse(text) == device
    assert Device.parse(str(device)) == device


@pytest.mark.parametrize("text", ["", "gpu", "cuda:x", "cuda:", "cpu:0", "openvino:TPU", "auto:0"])
def test_what_is_no_device_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(FieldInvalid, match=r"cuda\[:N\]"):
        Device.parse(text)


@pytest.mark.parametrize("text", ["cuda:1", "openvino:NPU"])
def test_a_device_that_is_not_here_is_said_with_those_that_are(tmp_path: Path, text: str) -> None:
    if Device.parse(text.removesuffix(":1")) in devices():
        pytest.skip(f"this machine has {text}")
    with pytest.raises(DeviceUnavailable, match=rf"{text}.*Here are: cpu, .*onnxruntime"):
        network_at(networks.redness(tmp_path), Device.parse(text))


def test_a_network_file_is_opened_once_though_it_is_asked_for_twice(tmp_path: Path) -> None:
    path = networks.redness(tmp_path)
    assert network_at(path, Device()) is network_at(path, Device())


def test_openvino_chooses_and_the_report_says_what(tmp_path: Path) -> None:
    network = network_at(networks.redness(tmp_path), Device.parse("openvino:AUTO"))
    assert network.runtime.startswith("openvino ")
    assert network.runtime.split()[1] in {"CPU", "GPU", "NPU"}


def small_isnet() -> onnx.ModelProto:
    """Layers named as IS-Net's, of 16-bit floats, with a resize to a fixed size at the end."""
    weights = np.zeros((1, 3, 2, 2), np.float16)
    weights[0, 0] = 1
    taps = [
        helper.make_node("Conv", ["half", "w"], ["t3"], name=ISNET_TAPS[0], strides=[2, 2]),
        helper.make_node("MaxPool", ["t3"], ["t4"], name=ISNET_TAPS[1], kernel_shape=[2, 2]),
        helper.make_node("Neg", ["t3"], ["t5"], name=ISNET_TAPS[2]),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
            *taps,
            helper.make_node("Cast", ["t3"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Resize", ["wide", "", "", "size"], ["large"], mode="linear"),
            helper.make_node("Sigmoid", ["large"], ["output"]),
        ],
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 64, 64))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, 1, 64, 64))],
        [
            helper.make_tensor("w", TensorProto.FLOAT16, weights.shape, weights.ravel()),
            helper.make_tensor("size", TensorProto.INT64, (4,), (1, 1, 64, 64)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_network_that_is_adapted_for_gpus_takes_pictures_of_any_size_in_batches() -> None:
    import onnxruntime

    adapted_network = adapted(small_isnet(), ModelSpec(), Precision.F16)
    session = onnxruntime.InferenceSession(
        adapted_network.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pictures = np.random.default_rng(1).integers(0, 256, (2, 64, 128, 3), np.uint8)
    mask, *features = session.run(None, {PICTURE: pictures})
    assert mask.shape == (2, 1, 64, 128)
    assert [each.shape for each in features] == [(2, 32, 64, 1), (2, 31, 63, 1), (2, 32, 64, 1)]
    assert {each.dtype for each in features} == {np.dtype(np.float32)}
    red = pictures[0, :2, :2, 0].astype(float).sum() / 255 - 2  # four pixels, each minus a half
    assert features[0][0, 0, 0, 0] == pytest.approx(red, abs=2e-3)


@pytest.mark.weights
def test_all_runtimes_make_the_same_masks_with_the_same_memory() -> None:
    path, scene = model_path(), [image for image, _ in moving_disc(2)]
    sessions: list[Network] = [
        Session(path, precision=Precision.INT8),
        Session(path, precision=Precision(cpu_float())),
        OnnxSession(path, Device(Runtime.ONNXRUNTIME)),
    ]
    masks = {}
    for session in sessions:
        features = session.infer(scene[0]).features
        assert [each.shape for each in features] == [(128, 128, 256), (64, 64, 512), (32, 32, 512)]
        alphas = mask_images(scene, session, TIERS[Quality.FAST])
        masks[session.runtime] = np.stack([alpha > 0.5 for alpha in alphas])
    for one, other in combinations(masks, 2):
        both = (masks[one] & masks[other]).sum(axis=(1, 2))
        either = (masks[one] | masks[other]).sum(axis=(1, 2))
        assert both.min() > 0
        assert (both / either).min() >= 0.97, (one, other)
