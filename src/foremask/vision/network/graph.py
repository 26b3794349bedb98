"""Changes a network's graph before OpenVINO compiles it."""

import json
from importlib import resources
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13
from openvino.preprocess import PrePostProcessor

from foremask.weights.catalogue import ModelSpec

# ONNX names of IS-Net's encoder stages 3 to 5, which output 1/8, 1/16 and 1/32 of the input size.
ISNET_TAPS = ("/stage3/Add", "/stage4/Add", "/stage5/Add")
# The mask is the output of IS-Net's second-to-last decoder stage: docs/adr/0050
ISNET_MASK = "1890"
RANGES = "isnet_int8.json"
REDUCED_RANGES = "isnet_reduced_int8.json"
FAKE_QUANTIZE_LEVELS = 255  # of weights in 8 bits: -127 to 127
MOST_WEIGHT = 63
"""The largest weight in 8 bits.

A processor without VNNI adds two products of an activation (0 to 255) and a weight in 16 bits, and
cuts what is larger than 32,767: with weights up to 127 masks were ruined (docs/adr/0050). With 63
every processor computes the same sums.
"""
ACTIVATION_LEVELS = 256


def is_isnet(network: ov.Model) -> bool:
    return {node.get_friendly_name() for node in network.get_ops()}.issuperset(ISNET_TAPS)


def pruned(network: ov.Model, spec: ModelSpec) -> ov.Model:
    """Drop all outputs but the mask and the encoder's features, and fix the input size."""
    names = [name for each in network.outputs for name in each.names]
    own = ISNET_MASK if is_isnet(network) and ISNET_MASK in names else None
    mask = network.output(spec.output or own or 0)
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    taps = [nodes[name].output(0) for name in ISNET_TAPS if name in nodes]
    kept = ov.Model([mask, *taps], network.get_parameters())
    kept.reshape([1, 3, spec.size_px, spec.size_px])
    return kept


def scale_by_factors(network: ov.Model) -> None:
    """Replace the fixed sizes in Interpolate nodes by scale factors, in place.

    The network then runs at any input size that is a multiple of 64.
    """
    axes = opset13.constant(np.array([2, 3], np.int64))
    for node in network.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        before = node.input(0).get_shape()
        after = node.output(0).shape
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
    """Remove final linear upsampling and sigmoid in place; return whether the network had both.

    IS-Net upsamples its mask fourfold at the end. OpenCV does this faster.
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
    node = given.get_source_output().get_node()
    while node.get_type_name() == "Convert":
        node = node.input(0).get_source_output().get_node()
    return node


def with_preprocessing(network: ov.Model, spec: ModelSpec) -> ov.Model:
    """Make the network take (1, H, W, 3) uint8, and return its features with channels last.

    Transposing the features outside the network took 14 of the 125 ms of an inference.
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


def quantize(network: ov.Model, ranges: str) -> None:
    """Quantize IS-Net to int8 in place.

    Weights are quantized symmetrically, up to `MOST_WEIGHT`, with one scale per output channel.
    Activations have one range per tensor: ``ranges`` is the name of the table.
    """
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    table = resources.files("foremask.vision.network").joinpath(ranges).read_text()
    for row in json.loads(table):
        ports = [port.rpartition(":") for port in row["into"]]
        inputs = [nodes[name].input(int(port)) for name, _, port in ports]
        source = inputs[0].get_source_output()
        number = source.get_element_type().to_dtype().type  # float16, as in IS-Net's file
        ends = [number(row["low"]), number(row["high"])]
        quantized = opset13.fake_quantize(source, *ends, *ends, ACTIVATION_LEVELS)
        for each in inputs:
            each.replace_source_output(quantized.output(0))
    for node in nodes.values():
        if node.get_type_name() == "Convolution":
            _quantize_weights(node)


def _quantize_weights(convolution: Any) -> None:  # noqa: ANN401  OpenVINO ships no types
    source = convolution.input(1).get_source_output()
    constant = source.get_node()
    while constant.get_type_name() != "Constant":
        constant = constant.input(0).get_source_output().get_node()
    weights = np.asarray(constant.data).astype(source.get_element_type().to_dtype())
    largest = np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    largest[largest == 0] = 1
    end = largest * ((FAKE_QUANTIZE_LEVELS // 2) / MOST_WEIGHT)
    quantized = opset13.fake_quantize(
        opset13.constant(weights), -end, end, -end, end, FAKE_QUANTIZE_LEVELS
    )
    convolution.input(1).replace_source_output(quantized.output(0))
