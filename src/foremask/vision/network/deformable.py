"""Teaches OpenVINO the ONNX operator DeformConv, which its reader refuses."""

from typing import Any

from openvino import opset8, opset13
from openvino.frontend.onnx import ConversionExtension


def _converted(node: Any) -> Any:  # noqa: ANN401  OpenVINO ships no types
    """Return OpenVINO's deformable convolution for ONNX's, of opset 19 or 22.

    ONNX's inputs are X, W, offset and, each of which may be absent, B and mask.
    """
    given = [node.get_input(each) for each in range(node.get_input_size())]
    bias, mask = (_there(given, index) for index in (3, 4))
    pads = node.get_attribute("pads", [0, 0, 0, 0])
    deformed = opset8.deformable_convolution(
        data=given[0],
        offsets=given[2],
        filters=given[1],
        strides=node.get_attribute("strides", [1, 1]),
        pads_begin=pads[:2],
        pads_end=pads[2:],
        dilations=node.get_attribute("dilations", [1, 1]),
        mask=mask,
        group=node.get_attribute("group", 1),
        deformable_group=node.get_attribute("offset_group", 1),
        bilinear_interpolation_pad=True,
    )
    if bias is None:
        return deformed.outputs()
    per_channel = opset13.reshape(bias, opset13.constant([1, -1, 1, 1]), special_zero=False)
    return opset13.add(deformed, per_channel).outputs()


def _there(given: list[Any], index: int) -> Any:  # noqa: ANN401  OpenVINO ships no types
    if index >= len(given) or given[index].get_node().get_type_name() == "NullNode":
        return None
    return given[index]


DEFORM_CONV = ConversionExtension("DeformConv", _converted)
