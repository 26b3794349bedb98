"""Rebuilds IS-Net with fewer multiplications: docs/adr/0050."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

type Weights = NDArray[np.float32]
"""Shaped (output channels, input channels, rows, columns)."""

type Node = Any  # OpenVINO ships no types.
type Port = Any

TABLE = "isnet_reduced.npz"
_SECOND = "/stage1/rebnconvin/conv_s1/Conv/WithoutBiases"


def reduce(network: ov.Model) -> None:
    """Replace IS-Net's convolutions by cheaper ones, in place.

    A convolution becomes one of fewer channels, whose weights are combinations of IS-Net's own,
    and one of 1 x 1 that mixes these channels into as many as before. Convolutions of an upsampled
    tensor run before the upsampling instead. The first two convolutions become one. `TABLE` has
    the combinations, and a bias for each layer.
    """
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    with resources.files("foremask.vision.network").joinpath(TABLE).open("rb") as file:
        table = dict(np.load(file))
    layers: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in table.items():
        layer, _, part = key.partition("|")
        layers.setdefault(layer, {})[part] = array
    for layer, parts in layers.items():
        _replace(nodes[layer], parts)
    network.validate_nodes_and_infer_types()


def _replace(old: Node, parts: Mapping[str, NDArray[Any]]) -> None:
    name = old.get_friendly_name()
    how = old.get_attributes()
    source = old.input(0).get_source_output()
    weights = weights_of(old)
    strides = how["strides"]
    pads = how["pads_begin"]
    dilations = how["dilations"]
    if name == _SECOND:
        first = _producer_of(old.input(0), "Convolution")
        source = first.input(0).get_source_output()
        weights = folded(weights_of(first), weights)
        strides = [2, 2]
        pads = [3, 3]
    if "taps" in parts:
        small, source = _before_enlargement(source)
        early, weights = np.split(weights, 2, axis=1)
        early = _combined(before_enlargement(early, parts["taps"]), parts, "early")
        convolved = _convolution(f"{name}/early", small, early, pads=[1, 1])
        enlarged = _enlarged(f"{name}/enlarged", convolved)
    weights = _combined(weights, parts, "few")
    new = _convolution(name, source, weights, strides=strides, pads=pads, dilations=dilations)
    if "taps" in parts:
        new = opset13.add(new, enlarged)
    if "mix" in parts:
        mix = _dequantized(parts, "mix")[:, :, None, None]
        new = _convolution(f"{name}/mix", new.output(0), mix)
    bias = parts["bias"].reshape(1, -1, 1, 1).astype(_number(source))
    readers = [each.get_node() for each in old.output(0).get_target_inputs()]
    (biased,) = (each for each in readers if each.get_type_name() == "Add")
    biased.input(0).replace_source_output(new.output(0))
    biased.input(1).replace_source_output(opset13.constant(bias).output(0))


def folded(first: Weights, second: Weights) -> Weights:
    """Return the 7 x 7 weights of stride 2 that do what two 3 x 3 ones of stride 2 and 1 do.

    The results differ in the outermost row and column, where the second one pads.
    """
    both = np.zeros((len(second), first.shape[1], 7, 7), np.float32)
    for row in range(3):
        for column in range(3):
            part = np.einsum("om,mirc->oirc", second[:, :, row, column], first)
            both[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += part
    return both


def before_enlargement(weights: Weights, taps: NDArray[np.float32]) -> Weights:
    """Return 3 x 3 weights for a tensor before it is enlarged twofold.

    ``taps`` (9, 9) gives each of the new nine taps as a combination of the old nine.
    """
    moved: Weights = weights.reshape(*weights.shape[:2], 9) @ taps.T
    return moved.reshape(weights.shape)


def _combined(weights: Weights, parts: Mapping[str, NDArray[Any]], name: str) -> Weights:
    if name not in parts:
        return weights
    combined: Weights = np.tensordot(_dequantized(parts, name), weights, 1)
    return combined


def _dequantized(parts: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.float32]:
    array: NDArray[np.float32] = parts[name].astype(np.float32) * parts[f"{name} scale"]
    return array


def _convolution(
    name: str,
    source: Port,
    weights: Weights,
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0),
    dilations: Sequence[int] = (1, 1),
) -> Node:
    constant = opset13.constant(weights.astype(_number(source)))
    both = list(pads)
    node = opset13.convolution(source, constant, list(strides), both, both, list(dilations))
    node.set_friendly_name(name)
    return node


def _enlarged(name: str, node: Node) -> Node:
    enlarged = opset13.interpolate(
        node,
        opset13.constant(np.array([2, 2], np.float32)),
        "linear_onnx",
        "scales",
        coordinate_transformation_mode="half_pixel",
        axes=opset13.constant(np.array([2, 3], np.int64)),
    )
    enlarged.set_friendly_name(name)
    return enlarged


def _before_enlargement(concatenated: Port) -> tuple[Port, Port]:
    """Return what is enlarged and concatenated, and what it is concatenated with."""
    node = concatenated.get_node()
    small = _producer_of(node.input(0), "Interpolate").input(0).get_source_output()
    if small.get_node().get_type_name() == "Convert":
        small = small.get_node().input(0).get_source_output()
    return small, node.input(1).get_source_output()


def _producer_of(given: Port, kind: str) -> Node:
    node = given.get_source_output().get_node()
    while node.get_type_name() != kind:
        node = node.input(0).get_source_output().get_node()
    return node


def weights_of(convolution: Node) -> Weights:
    constant = _producer_of(convolution.input(1), "Constant")
    return np.asarray(constant.data).astype(np.float32)


def _number(source: Port) -> Any:  # noqa: ANN401  a type of NumPy
    return source.get_element_type().to_dtype()
