"""Small networks of our own, as files: what they answer is known, and they cost nothing."""

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper

SIZE_PX = 64


def redness(folder: Path, bias: float = 0.0) -> Path:
    """A network of one convolution: the logit of red minus half of green and blue, and ``bias``.

    With a bias of -5 what is grey is background; without one it is undecided.
    """
    weights = helper.make_tensor("w", TensorProto.FLOAT, (1, 3, 1, 1), [20.0, -10.0, -10.0])
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["picture", "w", "b"], ["logit"]),
            helper.make_node("Neg", ["logit"], ["against"]),
        ],
        "redness",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, (1, 3, SIZE_PX, SIZE_PX))],
        [
            helper.make_tensor_value_info("against", TensorProto.FLOAT, (1, 1, SIZE_PX, SIZE_PX)),
            helper.make_tensor_value_info("logit", TensorProto.FLOAT, (1, 1, SIZE_PX, SIZE_PX)),
        ],
        [weights, helper.make_tensor("b", TensorProto.FLOAT, (1,), [bias])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "redness.onnx"
    onnx.save(model, path)
    spec = {
        "size_px": SIZE_PX,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "output": "logit",
        "sigmoid": True,
    }
    path.with_name("redness.onnx.json").write_text(json.dumps(spec))
    return path
