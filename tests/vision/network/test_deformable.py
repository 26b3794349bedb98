from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from foremask.vision.image import ArrayImage
from foremask.vision.network.session import Session

SIZE_PX = 32


def deformed(
    picture: NDArray[np.float32],
    weights: NDArray[np.float32],
    offsets: NDArray[np.float32],
    strengths: NDArray[np.float32],
) -> NDArray[np.float32]:
    """ONNX's DeformConv of a 3x3 kernel with padding 1, one pixel and weight after the other.

    ``picture`` is (C, H, W), ``weights`` (C, 3, 3), ``offsets`` (18, H, W) in y and x of each tap,
    and ``strengths`` (9, H, W).
    """
    channels, height, width = picture.shape
    padded = np.zeros((channels, height + 2, width + 2), np.float32)  # zero outside of the picture
    padded[:, 1:-1, 1:-1] = picture
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    total = np.zeros((height, width), np.float32)
    for tap in range(9):
        y = rows + tap // 3 - 1 + offsets[2 * tap]
        x = columns + tap % 3 - 1 + offsets[2 * tap + 1]
        inside = (y > -1) & (y < height) & (x > -1) & (x < width)
        top = np.clip(np.floor(y).astype(int), -1, height - 1)
        left = np.clip(np.floor(x).astype(int), -1, width - 1)
        down = y - top
        right = x - left
        value = (
            (1 - down) * (1 - right) * padded[:, top + 1, left + 1]
            + (1 - down) * right * padded[:, top + 1, left + 2]
            + down * (1 - right) * padded[:, top + 2, left + 1]
            + down * right * padded[:, top + 2, left + 2]
        )
        weight = weights[:, tap // 3, tap % 3, None, None]
        total += np.where(inside, (value * weight).sum(0) * strengths[tap], 0)
    return total


@pytest.mark.parametrize("opset", [19, 22])
@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("bias", [0.25, None])
def test_a_deformable_convolution_is_what_its_definition_says(
    tmp_path: Path, opset: int, has_mask: bool, bias: float | None
) -> None:
    """Offsets reach far out of the picture, where all is zero."""
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.1, (3, 3, 3)).astype(np.float32)
    offsets = random.normal(0, 4, (18, SIZE_PX, SIZE_PX)).astype(np.float32)
    strengths = random.random((9, SIZE_PX, SIZE_PX)).astype(np.float32)
    pixels = random.integers(0, 256, (SIZE_PX, SIZE_PX, 3)).astype(np.uint8)
    path = tmp_path / "deformed.onnx"
    inputs = ["picture", "weights", "offsets", "bias" if bias else "", "mask" if has_mask else ""]
    node = helper.make_node("DeformConv", inputs, ["out"], kernel_shape=[3, 3], pads=[1] * 4)
    constants = {"weights": weights[None], "offsets": offsets[None], "mask": strengths[None]}
    constants["bias"] = np.array([bias or 0], np.float32)
    graph = helper.make_graph(
        [node],
        "deformed",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, 3, SIZE_PX, SIZE_PX))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 1, SIZE_PX, SIZE_PX))],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    path.with_name("deformed.onnx.json").write_text(
        f'{{"size_px": {SIZE_PX}, "mean": [0, 0, 0], "std": [1, 1, 1], "sigmoid": true}}'
    )
    found = Session(path).infer(ArrayImage(pixels)).alpha
    picture = (pixels.transpose(2, 0, 1) / 255).astype(np.float32)
    expected = deformed(
        picture, weights, offsets, strengths if has_mask else np.ones_like(strengths)
    )
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-expected - (bias or 0))), atol=2e-6)
