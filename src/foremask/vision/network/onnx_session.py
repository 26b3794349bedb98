"""Runs networks with ONNX Runtime, on an NVIDIA GPU or on the CPU."""

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foremask.errors import DeviceUnavailable, ModelUnavailable
from foremask.options import Device, Runtime
from foremask.types import Image
from foremask.vision.network.graph import ISNET_MASK, ISNET_TAPS
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.network.onnx_file import check_is_data
from foremask.vision.network.session import Precision, as_alpha, as_input, check_mask
from foremask.weights.catalogue import ModelSpec, spec_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto  # an extra

INSTALL = {
    Runtime.ONNXRUNTIME: "pip install 'foremask[onnxruntime]'",
    Runtime.CUDA: "pip install 'foremask[cuda]'",
}
PICTURE = "picture"  # name of the input of an `adapted` network


class OnnxSession:
    """A network in ONNX Runtime; threads may share it.

    IS-Net runs in float16 on a GPU and in float32 on the CPU. Raises DeviceUnavailable if
    ``device`` cannot be used, and ModelUnavailable if the file cannot be loaded.
    """

    def __init__(self, path: Path, device: Device) -> None:
        self.spec = spec_of(path)
        self._path = path
        self._device = device
        provider = _provider(device)
        _check_provider(device, provider[0])
        file = self._file(path)
        self._session = _opened(path, file, device, provider)
        outputs = [each.name for each in self._session.get_outputs()]
        self._outputs = outputs if self._is_isnet else [self.spec.output or outputs[0]]

    def _file(self, path: Path) -> bytes | str:
        import onnx

        self.precision = Precision.F32
        check_is_data(path)
        try:
            network = onnx.load(path, load_external_data=False)
            self._is_isnet = {node.name for node in network.graph.node}.issuperset(ISNET_TAPS)
            if not self._is_isnet:
                return str(path)
            if self._device.on_gpu:
                self.precision = Precision.F16
            return bytes(adapted(network, self.spec, self.precision).SerializeToString())
        except Exception as error:  # onnx raises errors without a common base class
            raise _no_network(path, error) from error

    @property
    def any_size(self) -> bool:
        return self._is_isnet

    @property
    def runtime(self) -> str:
        where = str(self._device) if self._device.on_gpu else "cpu"
        return f"onnxruntime {where} {self.precision}"

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        if size is None or not self._is_isnet:
            size = (self.spec.size_px, self.spec.size_px)
        pixels = image.rgb(*size)
        batch = pixels[None] if self._is_isnet else as_input(pixels, self.spec)
        name = self._session.get_inputs()[0].name
        mask, *features = self._session.run(self._outputs, {name: batch})
        check_mask(mask, size, self._path, self._outputs[0])
        return NetworkOutput(
            as_alpha(mask, sigmoid=self.spec.sigmoid), tuple(each[0] for each in features)
        )


def _check_provider(device: Device, wanted: str) -> None:
    try:
        import onnx  # noqa: F401  # onnx and onnxruntime are extras
        import onnxruntime
    except ImportError as error:
        raise DeviceUnavailable(
            f"{device} needs ONNX Runtime: {INSTALL[device.runtime]}"
        ) from error
    if wanted not in onnxruntime.get_available_providers():
        raise DeviceUnavailable(
            f"the ONNX Runtime that is installed has no {wanted}: "
            f"pip uninstall onnxruntime, then {INSTALL[device.runtime]}"
        )


def _opened(
    path: Path, file: bytes | str, device: Device, provider: tuple[str, dict[str, Any]]
) -> Any:  # noqa: ANN401  ONNX Runtime ships no types
    import onnxruntime

    if device.on_gpu:
        with redirect_stdout(sys.stderr):  # preload_dlls prints to stdout.
            onnxruntime.preload_dlls()  # This loads CUDA and cuDNN from their wheels.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings name each shape that is not inferred
    try:
        session = onnxruntime.InferenceSession(file, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors have no common base class
        if device.on_gpu:
            raise DeviceUnavailable(f"ONNX Runtime cannot use it: {_reason(error)}") from error
        raise _no_network(path, error) from error
    if provider[0] not in session.get_providers():  # ONNX Runtime falls back to the CPU
        raise DeviceUnavailable("ONNX Runtime cannot use it: is there a card, and a driver?")
    return session


def _no_network(path: Path, error: Exception) -> ModelUnavailable:
    return ModelUnavailable(f"{path.name} is no network that runs here: {_reason(error)}")


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def _provider(device: Device) -> tuple[str, dict[str, Any]]:
    if not device.on_gpu:
        return "CPUExecutionProvider", {}
    return "CUDAExecutionProvider", {
        "device_id": int(device.unit or 0),
        "cudnn_conv_algo_search": "HEURISTIC",  # A search would take seconds for each input size.
        "arena_extend_strategy": "kSameAsRequested",  # Otherwise memory grows by powers of two.
    }


def adapted(network: "ModelProto", spec: ModelSpec, precision: Precision) -> "ModelProto":
    """Change IS-Net in place to take RGB pixels, and to return the mask and encoder features.

    The new input is (batch, height, width, 3) uint8; height and width are multiples of 64. The
    features are (batch, h, w, channels) float32. ``precision`` is F16, as in the file, or F32.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = network.graph
    _scale_by_factors(network)
    if precision is Precision.F32:
        _widen(network)
    outputs = [each.name for each in graph.output]
    mask = spec.output or (ISNET_MASK if ISNET_MASK in outputs else outputs[0])
    before = [
        helper.make_node("Cast", [PICTURE], ["picture_f32"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["picture_f32"], ["picture_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["picture_nchw", "picture_mean"], ["picture_centred"]),
        helper.make_node("Mul", ["picture_centred", "picture_scale"], [graph.input[0].name]),
    ]
    ordered = [*before, *graph.node, *_feature_nodes(graph)]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(ordered)
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32).reshape(1, 3, 1, 1), name)
        for name, value in (
            ("picture_mean", [255 * each for each in spec.mean]),
            ("picture_scale", [1 / (255 * each) for each in spec.std]),
        )
    )
    sides: list[str | int | None] = ["batch", "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, sides))
    features = [_feature_name(level) for level in range(len(ISNET_TAPS))]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (mask, *features)
    )
    return network


def _feature_name(level: int) -> str:
    return f"features_{level}"


def _feature_nodes(graph: "GraphProto") -> "Iterator[NodeProto]":
    """Nodes that return each level of encoder features as (batch, h, w, channels) float32."""
    from onnx import TensorProto, helper

    nodes = {node.name: node for node in graph.node}
    for level, tap in enumerate(ISNET_TAPS):
        turned = f"turned_{level}"
        yield helper.make_node("Transpose", [nodes[tap].output[0]], [turned], perm=[0, 2, 3, 1])
        yield helper.make_node("Cast", [turned], [_feature_name(level)], to=TensorProto.FLOAT)


def _scale_by_factors(network: "ModelProto") -> None:
    """Replace the fixed sizes in the network's Resize nodes by scale factors, in place."""
    from onnx import numpy_helper, shape_inference

    known = shape_inference.infer_shapes(network, data_prop=True).graph
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*known.value_info, *known.output)
    }
    for node in network.graph.node:
        if node.op_type != "Resize" or len(node.input) < 4 or not node.input[3]:
            continue
        before = shapes[node.input[0]]
        after = shapes[node.output[0]]
        factors = np.array([1, 1, after[2] / before[2], after[3] / before[3]], np.float32)
        name = f"{node.name}_factors"
        network.graph.initializer.append(numpy_helper.from_array(factors, name))
        node.input[:] = [node.input[0], "", name]


def _widen(network: "ModelProto") -> None:
    """Convert float16 to float32 in place: the CPU provider has no float16 kernels."""
    from onnx import TensorProto, numpy_helper

    for tensor in _tensors(network.graph):
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in network.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    yield from graph.initializer
    for node in graph.node:
        yield from (each.t for each in node.attribute if each.HasField("t"))
