"""Small networks whose answers are known."""

import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage
from foremask.vision.network.compiled_networks import COMPILED, CompiledForm, CompiledNetworks
from foremask.vision.network.finder import Click
from foremask.vision.network.network_protocol import InputSize, NetworkOutput
from foremask.vision.network.session import Precision, Session, best_precision
from foremask.weights.catalogue import ISNET, compiled_dir_of, model_path

SIZE_PX = 64


def red(image: Image, side_px: int = 128) -> Alpha:
    rgb = image.rgb(side_px, side_px).astype(int)
    return (rgb[..., 0] > rgb[..., 1] + 60).astype(np.float32)


class KnowsNoThing:
    """Part of a `MaskFinder`: finds no thing at a click."""

    def thing_at(self, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
        return np.zeros(shape, np.float32)


class Drawn:
    """A network without features; its alpha is what ``alpha_of`` returns for the picture."""

    runtime = "drawn"
    any_size = False

    def __init__(self, alpha_of: Callable[[Image], Alpha] = red) -> None:
        self.asked: list[Image] = []
        self.sizes: list[InputSize | None] = []
        self._alpha_of = alpha_of

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        self.asked.append(image)
        self.sizes.append(size)
        return NetworkOutput(self._alpha_of(image), ())


def half_red() -> ArrayImage:
    rgb = np.full((90, 160, 3), 120, np.uint8)
    rgb[:, 80:] = (250, 10, 10)
    return ArrayImage(rgb)


def redness(folder: Path, bias: float = 0.0) -> Path:
    """Write a network of one convolution: red minus half of green and blue, plus ``bias``.

    Grey is background with a bias of -5, and undecided (0.5) without a bias.
    """
    weights = helper.make_tensor("w", TensorProto.FLOAT, (1, 3, 1, 1), [20.0, -10.0, -10.0])

    def plane(name: str, channels: int) -> onnx.ValueInfoProto:
        shape = (1, channels, SIZE_PX, SIZE_PX)
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    conv = helper.make_node("Conv", ["picture", "w", "b"], ["logit"])
    against = helper.make_node("Neg", ["logit"], ["against"])
    outputs = [plane("against", 1), plane("logit", 1)]
    values = [weights, helper.make_tensor("b", TensorProto.FLOAT, (1,), [bias])]
    graph = helper.make_graph([conv, against], "redness", [plane("picture", 3)], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "redness.onnx"
    onnx.save(model, path)
    spec = {"size_px": SIZE_PX, "mean": [0] * 3, "std": [1] * 3, "output": "logit", "sigmoid": True}
    path.with_name("redness.onnx.json").write_text(json.dumps(spec))
    return path


FAULTS = {
    "NaN": "Sqrt",  # of the logit, which is negative where nothing is red
    "one number": "GlobalAveragePool",
    "a row": "Flatten",
    "no square": "Slice",
}


def faulty(folder: Path, fault: str) -> Path:
    """Write `redness` with one more step before its output, which is then no mask."""
    path = redness(folder, bias=-5.0)
    model = onnx.load(path)
    inputs = ["logit"]
    if fault == "no square":  # half the rows
        for name, values in (("starts", [0]), ("ends", [SIZE_PX // 2]), ("axes", [2])):
            model.graph.initializer.append(
                helper.make_tensor(name, TensorProto.INT64, (1,), values)
            )
            inputs.append(name)
    model.graph.node.append(helper.make_node(FAULTS[fault], inputs, ["answer"]))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("answer", TensorProto.FLOAT, None))
    faulty = folder / "faulty.onnx"
    onnx.save(model, faulty)
    spec = {"size_px": SIZE_PX, "mean": [0] * 3, "std": [1] * 3, "output": "answer"}
    faulty.with_name("faulty.onnx.json").write_text(json.dumps(spec))
    return faulty


def isnet(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / ISNET.file_name
    path.symlink_to(model_path())
    return path


@cache
def reduced_isnet(precision: Precision) -> Session:
    """The smaller IS-Net; compiling takes seconds, so a process compiles each precision once.

    The usual precision was compiled when the weights were pulled.
    """
    pulled = model_path()
    if precision is best_precision(is_isnet=True):
        return Session(pulled, kept_in=compiled_dir_of(pulled))
    return Session(pulled, precision=precision)


def copy_compiled(
    pulled: Path, weights: Path, but: Iterable[tuple[CompiledForm, int]] = ()
) -> None:
    """Keep for ``weights``, a link to ``pulled``, what is compiled from the latter, if anything."""
    theirs, ours = compiled_dir_of(pulled), compiled_dir_of(weights)
    assert theirs is not None
    assert ours is not None
    for form, size_px in set(COMPILED).difference(but):
        size = size_px, size_px
        found = CompiledNetworks(theirs, pulled, form=form).read(size)
        if found is not None:
            facts, mapped, start = found
            blob = memoryview(mapped)[start:]
            CompiledNetworks(ours, weights, form=form).keep(size, facts, blob)
