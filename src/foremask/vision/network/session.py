"""The image network in OpenVINO, run on one picture at a time, and what every network offers."""

import json
import threading
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import foremask.vision.network.telemetry_off  # noqa: F401  # isort: skip  # before OpenVINO: docs/adr/0040
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13
from openvino.preprocess import PrePostProcessor

from foremask.errors import DeviceUnavailable, ModelUnavailable
from foremask.types import Alpha, Image
from foremask.vision.resample import resized
from foremask.weights.catalogue import ModelSpec, spec_of

type Features = tuple[NDArray[np.float32], ...]
"""Features of the network's encoder, each (h, w, C) float32, finest first; may be empty."""

type InputSize = tuple[int, int]
"""Columns and rows of a network's input; IS-Net takes multiples of 32."""

# Outputs of IS-Net's encoder stages 3 to 5, at 1/8, 1/16 and 1/32 of its input, by their ONNX
# names.
ISNET_TAPS = ("/stage3/Add", "/stage4/Add", "/stage5/Add")
WEIGHT_LEVELS = 255  # symmetric 8 bit: -127 to 127
ACTIVATION_LEVELS = 256


class Precision(StrEnum):
    """What the network computes in."""

    INT8 = "int8"  # pays with VNNI or AMX
    BF16 = "bf16"  # needs AVX512-BF16 or AMX
    F16 = "f16"  # of GPUs
    F32 = "f32"


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """What the network says of one picture: its mask at the network's size, and its features."""

    alpha: Alpha
    features: Features


class Network(Protocol):
    """Anything that sees: the session below, or a network that a test draws."""

    @property
    def runtime(self) -> str:
        """The path that runs, for the report: for instance ``openvino CPU int8``."""
        ...

    @property
    def any_size(self) -> bool:
        """Whether its input may have another size than its own."""
        ...

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """Segment one image, stretched to ``size`` or, without one, to the network's own size.

        A network without `any_size` ignores ``size``.
        """
        ...


class Session:
    """A network in OpenVINO; threads take turns, inference by inference.

    ``unit`` is OpenVINO's name of the device, for instance ``CPU``, ``GPU.1`` or ``AUTO``.
    ``precision`` None takes the fastest that it has and the network allows: int8 needs the table of
    ranges that we ship for IS-Net, so another network runs in 16 bit or f32.
    Raises DeviceUnavailable, and ModelUnavailable when the file is no network that can be run.
    """

    def __init__(
        self,
        path: Path,
        *,
        unit: str = "CPU",
        precision: Precision | None = None,
        threads: int = 0,
    ) -> None:
        self.spec = spec_of(path)
        self._unit = unit
        self._threads = threads
        self._core = ov.Core()
        if unit not in units():
            raise DeviceUnavailable(f"OpenVINO finds no {unit}")
        self._requests: dict[InputSize, Any] = {}
        self._busy = threading.Lock()
        try:
            network = pruned(self._core.read_model(path), self.spec)
            self._is_isnet = _has(network, ISNET_TAPS)
            self.precision = precision or best_precision(unit, is_isnet=self._is_isnet)
            if self._is_isnet:
                scale_by_factors(network)
            if self.precision is Precision.INT8:
                quantize(network)
            self._cut_before_enlargement = not self.spec.sigmoid and cut_before_enlargement(network)
            self._network = network
            self._request(self._own_size)
        except (RuntimeError, KeyError) as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise ModelUnavailable(f"{path.name} is no network that runs here: {reason}") from error

    @property
    def _own_size(self) -> InputSize:
        return self.spec.size_px, self.spec.size_px

    def _request(self, size: InputSize) -> Any:  # noqa: ANN401  OpenVINO ships no types
        """The network compiled for inputs of this size: on first use, then kept."""
        if size not in self._requests:
            network = self._network.clone()
            network.reshape([1, 3, size[1], size[0]])
            how: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
            if self._unit == "CPU":
                how["INFERENCE_NUM_THREADS"] = self._threads
                how["INFERENCE_PRECISION_HINT"] = (
                    "f32" if self.precision is Precision.F32 else cpu_float()
                )
            compiled = self._core.compile_model(
                with_preprocessing(network, self.spec), self._unit, how
            )
            self._ran_on = self._unit
            if self._unit == "AUTO":
                self._ran_on = "/".join(compiled.get_property("EXECUTION_DEVICES"))
            self._requests[size] = compiled.create_infer_request()
        return self._requests[size]

    @property
    def any_size(self) -> bool:
        """True of IS-Net: its resizes are by factors, see `scale_by_factors`."""
        return self._is_isnet

    @property
    def runtime(self) -> str:
        """The library, the unit and the arithmetic, for the report."""
        return f"openvino {self._ran_on} {self.precision}"

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """Stretch ``image`` to ``size``, or to the network's square, and segment it."""
        if size is None or not self._is_isnet:
            size = self._own_size
        pixels = image.rgb(*size)[None]
        with self._busy:  # the next inference overwrites what this one put out
            request = self._request(size)
            request.infer([pixels])
            outputs = [np.array(tensor.data) for tensor in request.output_tensors]
        mask = resized(outputs[0][0, 0], *size) if self._cut_before_enlargement else outputs[0]
        alpha = as_alpha(mask, sigmoid=self.spec.sigmoid or self._cut_before_enlargement)
        return NetworkOutput(alpha, tuple(each[0] for each in outputs[1:]))


def as_input(rgb: NDArray[np.uint8], spec: ModelSpec) -> NDArray[np.float32]:
    """(1, 3, H, W) as ``spec`` normalises."""
    mean = np.asarray(spec.mean, np.float32)
    scale = 1 / np.asarray(spec.std, np.float32)
    scaled = (rgb.astype(np.float32) / 255 - mean) * scale
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def as_alpha(output: NDArray[Any], *, sigmoid: bool) -> Alpha:
    """The first channel as (H, W), clipped to [0, 1].

    It is never normalised to the full range: on noise that would invent a subject.
    """
    plane = np.array(output.reshape(-1, *output.shape[-2:])[0], np.float32)
    if sigmoid:
        plane = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * plane)
    return np.clip(plane, 0, 1)


def units() -> list[str]:
    """OpenVINO's names of the devices that are here; ``AUTO`` chooses among them."""
    found = [str(each) for each in ov.Core().available_devices]
    # One device of a kind is named without its number, and has it all the same.
    numbered = [f"{each}.0" for each in found if each in ("GPU", "NPU")]
    kinds = dict.fromkeys(each.partition(".")[0] for each in found)
    return [*dict.fromkeys([*kinds, *found, *numbered]), "AUTO"]


def cpu_float() -> str:
    """``bf16`` where the CPU multiplies it natively, else ``f32``."""
    return "bf16" if "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def best_precision(unit: str = "CPU", *, is_isnet: bool) -> Precision:
    """The fastest arithmetic of this unit whose masks are good enough: docs/adr/0050."""
    capabilities = ov.Core().get_property(unit, "OPTIMIZATION_CAPABILITIES")
    if is_isnet and "INT8" in capabilities:
        return Precision.INT8
    if unit.startswith(("GPU", "NPU")):
        return Precision.F16
    return Precision.BF16 if "BF16" in capabilities else Precision.F32


def _has(network: ov.Model, names: tuple[str, ...]) -> bool:
    there = {node.get_friendly_name() for node in network.get_ops()}
    return all(name in there for name in names)


def pruned(network: ov.Model, spec: ModelSpec) -> ov.Model:
    """Drop all outputs but the mask and the encoder's features, and fix the input size."""
    mask = network.output(spec.output) if spec.output else network.output(0)
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    taps = [nodes[name].output(0) for name in ISNET_TAPS if name in nodes]
    kept = ov.Model([mask, *taps], network.get_parameters())
    kept.reshape([1, 3, spec.size_px, spec.size_px])
    return kept


def scale_by_factors(network: ov.Model) -> None:
    """Replace the fixed sizes in the network's resizes by factors.

    The network then runs at any input size that is a multiple of 32. The file's own size must be
    set before.
    """
    axes = opset13.constant(np.array([2, 3], np.int64))
    for node in network.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        before, after = node.input(0).get_shape(), node.output(0).shape
        factors = np.array([after[2] / before[2], after[3] / before[3]], np.float32)
        how = node.get_attributes()
        scaled = opset13.interpolate(
            node.input(0).get_source_output(),
            opset13.constant(factors),
            how["mode"],
            "scales",
            coordinate_transformation_mode=how["coordinate_transformation_mode"],
            axes=axes,
        )
        scaled.set_friendly_name(node.get_friendly_name())
        for reader in node.output(0).get_target_inputs():
            reader.replace_source_output(scaled.output(0))
    network.validate_nodes_and_infer_types()


def cut_before_enlargement(network: ov.Model) -> bool:
    """Remove a final linear enlargement and sigmoid in place; whether the network had them.

    IS-Net's mask has half its input's size; with OpenCV's enlargement inference takes 17 of 253
    cpu-ms less: docs/adr/0057.
    """
    last = network.get_results()[0]
    sigmoid = _producer_of(last.input(0))
    if sigmoid.get_type_name() != "Sigmoid":
        return False
    enlarger = _producer_of(sigmoid.input(0))
    if enlarger.get_type_name() != "Interpolate":
        return False
    how = enlarger.get_attributes()
    linearly = (how["mode"], how["coordinate_transformation_mode"]) == ("linear_onnx", "half_pixel")
    if not linearly or list(enlarger.output(0).shape) != [1, 1, *network.input(0).shape[2:]]:
        return False
    last.input(0).replace_source_output(enlarger.input(0).get_source_output())
    network.validate_nodes_and_infer_types()
    return True


def _producer_of(given: Any) -> Any:  # noqa: ANN401  OpenVINO ships no types
    """The node that produces ``given``, skipping type conversions."""
    node = given.get_source_output().get_node()
    while node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    return node


def with_preprocessing(network: ov.Model, spec: ModelSpec) -> ov.Model:
    """The same network with the preprocessing of `as_input` inside, from (1, H, W, 3) uint8.

    Features come out as the network has them, channels last: turning and copying them took 14 of
    125 ms.
    """
    steps = PrePostProcessor(network)
    network_input = steps.input(0)
    network_input.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    network_input.model().set_layout(ov.Layout("NCHW"))
    network_input.preprocess().convert_element_type(ov.Type.f32)
    network_input.preprocess().mean([255 * each for each in spec.mean])
    network_input.preprocess().scale([255 * each for each in spec.std])
    for index in range(len(network.outputs)):
        steps.output(index).tensor().set_element_type(ov.Type.f32)
        if index:
            steps.output(index).model().set_layout(ov.Layout("NCHW"))
            steps.output(index).tensor().set_layout(ov.Layout("NHWC"))
    return steps.build()


def quantize(network: ov.Model) -> None:
    """Turn IS-Net into 8 bit in place, by the ranges of its activations that we ship.

    Weights: symmetric, a scale for each output channel. Activations: one range for each tensor,
    measured by benchmarks/quality/calibrate.py. OpenVINO turns the fake-quantise pairs into integer
    kernels.
    """
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    table = resources.files("foremask.vision.network").joinpath("isnet_int8.json").read_text()
    for row in json.loads(table):
        inputs = [_input(nodes, place) for place in row["into"]]
        source = inputs[0].get_source_output()
        number = (
            source.get_element_type().to_dtype().type
        )  # the file's own: IS-Net comes in float16
        ends = [number(row["low"]), number(row["high"])]
        quantized = opset13.fake_quantize(source, *ends, *ends, ACTIVATION_LEVELS)
        for each in inputs:
            each.replace_source_output(quantized.output(0))
    for node in nodes.values():
        if node.get_type_name() == "Convolution":
            _quantize_weights(node)


def _input(nodes: dict[str, Any], place: str) -> Any:  # noqa: ANN401  OpenVINO ships no types
    name, _, port = place.rpartition(":")
    return nodes[name].input(int(port))


def _quantize_weights(convolution: Any) -> None:  # noqa: ANN401  OpenVINO ships no types
    source = convolution.input(1).get_source_output()
    constant = source.get_node()
    while constant.get_type_name() != "Constant":
        constant = constant.input(0).get_source_output().get_node()
    weights = np.asarray(constant.data).astype(source.get_element_type().to_dtype())
    most = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    most[most == 0] = 1
    quantized = opset13.fake_quantize(
        opset13.constant(weights), -most, most, -most, most, WEIGHT_LEVELS
    )
    convolution.input(1).replace_source_output(quantized.output(0))
