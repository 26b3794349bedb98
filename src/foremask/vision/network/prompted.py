"""Finds again, in a picture, what an earlier mask shows.

The network is IS-Net with changed weights behind its second stage, and with layers that read
prompts. ``training/`` trains what differs from IS-Net's own weights (docs/adr/0172).
"""

import mmap
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13

from foremask.errors import ModelUnavailable
from foremask.types import Alpha, Image
from foremask.vision.network.compiled_networks import (
    PROMPTED_PX,
    CompiledForm,
    CompiledNetworks,
    Facts,
)
from foremask.vision.network.finder import Click
from foremask.vision.network.graph import RANGES, quantize, scale_by_factors
from foremask.vision.network.onnx_file import check_is_data
from foremask.vision.network.reduction import Node, Port, Weights, weights_of
from foremask.vision.network.session import (
    Precision,
    best_precision,
    capabilities,
    free_pages,
    imported_from,
    keep,
    openvino_core,
    processor_properties,
    run_request,
)
from foremask.vision.resample import resized
from foremask.vision.stopping import unless_stopped
from foremask.weights.catalogue import compiled_dir_of

SIDE_PX: Final = PROMPTED_PX
_SIZE: Final = SIDE_PX, SIDE_PX
PROMPT_PX: Final = SIDE_PX // 4
TABLE: Final = "isnet_prompts.npz"
# The planes of a prompt are marks in and out, nearness to each, an earlier mask, whether there is
# one, and a box, which is not used here.
PLANES: Final = 7
_NEARNESS: Final = 2
_EARLIER: Final = 4
_HAS_EARLIER: Final = 5
# Of the four answers that are trained: the one to a prompt with an earlier mask, and of the three
# to a single click, the thing.
_ANSWERS: Final = (3, 1)
_REFINED: Final = 0
_THING: Final = 1
# The stages whose outputs get an addition from the prompt. The output of a stage is its last sum.
_PROMPTED: Final = ("stage2", "stage3", "stage4", "stage5")
_STAGE_DEPTHS: Final = {"stage3": 5, "stage4": 4, "stage4d": 4, "stage3d": 5, "stage2d": 6}
_DILATED: Final = ("stage5", "stage6", "stage5d")
_DILATED_LAYERS: Final = {
    "entry": "in",
    "first": "1",
    "second": "2",
    "third": "3",
    "bottom": "4",
    "third_up": "3d",
    "second_up": "2d",
    "first_up": "1d",
}

_FOREGROUND: Final = 0.5
DISC_PX: Final = 2.5  # the radius of a mark
REACH: Final = 0.1  # the distance at which nearness is 1/e, as a share of the side

type Table = Mapping[str, NDArray[Any]]
type PromptPlanes = NDArray[np.float32]
"""(PLANES, PROMPT_PX, PROMPT_PX)"""


class PromptedNetwork:
    """Threads may share it; a lock lets one infer at a time.

    ``weights`` is IS-Net's file, ``kept_in`` the directory of compiled networks. The network is
    loaded when it is first asked: many clips never do. Then, ModelUnavailable is raised if the
    weights are missing or another network's.
    """

    def __init__(self, weights: Path, *, kept_in: Path | None = None) -> None:
        self._weights = weights
        self._kept_in = kept_in
        self._mapped: mmap.mmap | None = None  # kept open for OpenVINO
        self._request: Any = None
        self._busy = threading.Lock()

    def load(self) -> None:
        """Load the network now, and keep it compiled."""
        with self._busy:
            self._loaded()

    def _loaded(self) -> Any:  # noqa: ANN401  OpenVINO ships no types
        """The request; the caller holds the lock."""
        if self._request is None:
            kept = None
            if self._kept_in is not None:
                kept = CompiledNetworks(self._kept_in, self._weights, form=CompiledForm.PROMPTED)
            imported = imported_from(kept, _SIZE) if kept else None
            if imported:
                compiled, _, self._mapped = imported
            else:
                compiled = unless_stopped(partial(_compiled, self._weights, kept))
            self._request = compiled.create_infer_request()
        return self._request

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        return self._answer(
            image, prompt_of(earlier, clicks), _REFINED, (earlier.shape[0], earlier.shape[1])
        )

    def thing_at(self, image: Image, click: Click, shape: tuple[int, int]) -> Alpha:
        return self._answer(image, marks_of([click]), _THING, shape)

    def _answer(
        self, image: Image, prompt: PromptPlanes, answer: int, shape: tuple[int, int]
    ) -> Alpha:
        rows, columns = shape
        pixels = image.rgb(SIDE_PX, SIDE_PX).astype(np.float32) / 255 - np.float32(0.5)
        picture = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
        with self._busy:
            request = self._loaded()
            run_request(request, [picture, prompt[None]])
            logits = np.array(request.get_output_tensor(0).data[0, answer], np.float32)
            if self._mapped is not None:
                free_pages(self._mapped)
        alpha = 1 / (1 + np.exp(-np.clip(resized(logits, columns, rows), -30, 30)))
        return np.asarray(alpha, np.float32)


def _compiled(weights: Path, kept: CompiledNetworks | None) -> Any:  # noqa: ANN401
    check_is_data(weights)
    precision = best_precision(is_isnet=True)
    try:
        network = with_prompts(openvino_core().read_model(weights), read_table(), precision)
        compiled = openvino_core().compile_model(network, "CPU", processor_properties(precision))
    except (RuntimeError, KeyError) as error:
        raise ModelUnavailable(
            f"{weights.name} is not IS-Net, whose weights this needs: foremask models pull"
        ) from error
    if kept:
        facts = Facts(
            is_isnet=True,
            is_reduced=False,
            enlargement_is_cut=False,
            precision=precision,
            capabilities=capabilities("CPU"),
        )
        keep(compiled, kept, _SIZE, facts)
    return compiled


def prompt_of(earlier: Alpha, clicks: Sequence[Click]) -> PromptPlanes:
    """The planes of an earlier mask and what clicks say of it, as training draws them."""
    prompt = marks_of(clicks)
    method = cv2.INTER_AREA if min(earlier.shape) > PROMPT_PX else cv2.INTER_LINEAR
    prompt[_EARLIER] = cv2.resize(earlier, (PROMPT_PX, PROMPT_PX), interpolation=method)
    prompt[_HAS_EARLIER] = 1
    return prompt


def marks_of(clicks: Sequence[Click]) -> PromptPlanes:
    """The planes of clicks without an earlier mask."""
    prompt = np.zeros((PLANES, PROMPT_PX, PROMPT_PX), np.float32)
    rows, columns = np.indices((PROMPT_PX, PROMPT_PX)) + 0.5
    for click in clicks:
        distance = np.hypot(columns - click.x * PROMPT_PX, rows - click.y * PROMPT_PX)
        marks = prompt[0 if click.inside else 1]
        np.maximum(marks, np.clip(DISC_PX - distance, 0, 1), out=marks)
    for plane in (0, 1):
        if (prompt[plane] > _FOREGROUND).any():
            unmarked = (prompt[plane] <= _FOREGROUND).astype(np.uint8)
            away = cv2.distanceTransform(unmarked, cv2.DIST_L2, 5)
            prompt[plane + _NEARNESS] = np.exp(-away / (REACH * PROMPT_PX))
    return prompt


@lru_cache(maxsize=1)
def prompted_network(weights: Path) -> PromptedNetwork:
    """The network of this process."""
    return PromptedNetwork(weights, kept_in=compiled_dir_of(weights))


def read_table() -> Table:
    """The trained values by name, in float32."""
    with resources.files("foremask.vision.network").joinpath(TABLE).open("rb") as file:
        return {name: each.astype(np.float32) for name, each in np.load(file).items()}


def with_prompts(network: ov.Model, table: Table, precision: Precision) -> ov.Model:
    """The network of two inputs, picture (1, 3, S, S) and prompt, whose output is (1, 2, S/4, S/4).

    The output has the logits of the `_ANSWERS`. ``network`` is IS-Net as its file has it; this
    function changes it in place. In 8 bits, the ranges of IS-Net's own activations are used
    (docs/adr/0172).
    """
    scale_by_factors(network)
    network.reshape([1, 3, SIDE_PX, SIDE_PX])
    nodes = {node.get_friendly_name(): node for node in network.get_ops()}
    for trained, layer in _adapted_layers():
        _adapt(nodes[f"{layer}/conv_s1/Conv/WithoutBiases"], table, f"decoder.{trained}")
    if precision is Precision.INT8:
        quantize(network, RANGES)
    prompt = opset13.parameter([1, PLANES, PROMPT_PX, PROMPT_PX], np.float32, "prompt")
    features = nodes["/stage2d/Add"].output(0)
    own = nodes["/side2/Conv"].output(0)
    for stage, addition in zip(_PROMPTED, _additions(prompt, table), strict=True):
        _add(nodes[f"/{stage}/Add"], addition)
    logits = _answers(features, own, prompt, table)
    return ov.Model([logits], [*network.get_parameters(), prompt])


def _adapted_layers() -> Iterator[tuple[str, str]]:
    """The names of the changed layers, in the table and in IS-Net's file."""
    for stage, depth in _STAGE_DEPTHS.items():
        yield f"{stage}.entry", f"/{stage}/rebnconvin"
        yield f"{stage}.bottom", f"/{stage}/rebnconv{depth}"
        for index in range(depth - 1):
            yield f"{stage}.downwards.{index}", f"/{stage}/rebnconv{index + 1}"
            yield f"{stage}.upwards.{index}", f"/{stage}/rebnconv{depth - 1 - index}d"
    for stage in _DILATED:
        for trained, layer in _DILATED_LAYERS.items():
            yield f"{stage}.{trained}", f"/{stage}/rebnconv{layer}"


def _adapt(convolution: Node, table: Table, name: str) -> None:
    """Add the change of low rank to a convolution's weights, and replace its bias."""
    own = weights_of(convolution)
    change = np.tensordot(table[f"{name}.up"][:, :, 0, 0], table[f"{name}.down"], 1)
    new = (own + change).astype(_number(convolution.output(0)))
    convolution.input(1).replace_source_output(opset13.constant(new).output(0))
    readers = [each.get_node() for each in convolution.output(0).get_target_inputs()]
    (biased,) = (each for each in readers if each.get_type_name() == "Add")
    bias = table[f"{name}.bias"].reshape(1, -1, 1, 1).astype(new.dtype)
    biased.input(1).replace_source_output(opset13.constant(bias).output(0))


def _additions(prompt: Node, table: Table) -> Iterator[Node]:
    """What the prompt adds to each of the `_PROMPTED` stages."""
    first = opset13.relu(_convolved(prompt.output(0), table, "prompts.first"))
    features = opset13.relu(_convolved(first.output(0), table, "prompts.second")).output(0)
    for level in range(len(_PROMPTED)):
        if level:
            features = _halved(features)
        yield _convolved(features, table, f"prompts.additions.{level}")


def _halved(features: Port) -> Port:
    pooled = opset13.max_pool(features, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "ceil")
    return pooled.output(0)


def _add(stage: Node, addition: Node) -> None:
    """Let all that reads a stage's output read its sum with ``addition``."""
    readers = list(stage.output(0).get_target_inputs())
    total = opset13.add(stage, opset13.convert(addition, _number(stage.output(0))))
    for each in readers:
        each.replace_source_output(total.output(0))


def _answers(features: Port, own: Port, prompt: Node, table: Table) -> Node:
    """IS-Net's own logits, made of the changed features, plus a change that reads the prompt."""
    joined = opset13.concat([opset13.convert(features, np.float32), prompt], 1)
    hidden = opset13.relu(_convolved(joined.output(0), table, "answers.hidden"))
    used = {
        "answers.change.weight": table["answers.change.weight"][list(_ANSWERS)],
        "answers.change.bias": table["answers.change.bias"][list(_ANSWERS)],
    }
    change = _convolved(hidden.output(0), used, "answers.change")
    return opset13.add(opset13.convert(own, np.float32), change)


def _convolved(source: Port, table: Table, name: str) -> Node:
    weights: Weights = table[f"{name}.weight"]
    pad = [weights.shape[-1] // 2] * 2
    node = opset13.convolution(source, opset13.constant(weights), [1, 1], pad, pad, [1, 1])
    bias = opset13.constant(table[f"{name}.bias"].reshape(1, -1, 1, 1))
    return opset13.add(node, bias)


def _number(port: Port) -> Any:  # noqa: ANN401  a type of NumPy
    return port.get_element_type().to_dtype()
