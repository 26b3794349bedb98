"""The nodes for ComfyUI. No package index has ComfyUI: its interfaces and nodes are written anew.

Tensors are PyTorch's where it is installed, else NumPy arrays.
"""

import importlib.util
import json
import sys
import tempfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import foremask
from foremask.machine import paths
from tests.service.api.conftest import Running, service
from tests.service.api.worker import REQUESTS, working
from tests.support import synth

pytestmark = pytest.mark.weights
__all__ = ["service"]  # a fixture

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
WORKFLOW = PACK / "example_workflows" / "cut-out-over-a-picture.json"
SPEC = synth.Spec(width=257, height=192, pts=tuple(range(0, 6000, 1000)), pixel_format="yuv444p")
BLUE = (20, 30, 230)


class Tensor(np.ndarray[Any, Any]):
    def cpu(self) -> "Tensor":
        return self

    def numpy(self) -> np.ndarray[Any, Any]:
        return np.asarray(self)


class Cancelled(Exception):
    """Stands for ComfyUI's InterruptProcessingException."""


class ProgressBar:
    """Stands for ComfyUI's, which raises the exception above to cancel a node."""

    done: list[int]
    cancel_at: float

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None) -> None:
        assert total == self.total
        ProgressBar.done.append(value)
        if value >= ProgressBar.cancel_at:
            raise Cancelled


type Nodes = dict[str, Any]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "foremask"
    folder.mkdir()
    for weights in paths.cache_dir().iterdir():
        if weights.name != "results":
            (folder / weights.name).symlink_to(weights)
    return folder.parent


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Nodes:
    """The pack's nodes by name, loaded as ComfyUI's `load_custom_node` does (nodes.py, 02217e3)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if importlib.util.find_spec("torch") is None:
        torch = SimpleNamespace(from_numpy=lambda array: array.view(Tensor))
        monkeypatch.setitem(sys.modules, "torch", torch)
    ProgressBar.done, ProgressBar.cancel_at = [], float("inf")
    utilities = SimpleNamespace(ProgressBar=ProgressBar)
    monkeypatch.setitem(sys.modules, "comfy", SimpleNamespace(utils=utilities))
    monkeypatch.setitem(sys.modules, "comfy.utils", utilities)
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, pack)
    monkeypatch.delitem(sys.modules, f"{name}.nodes", raising=False)
    spec.loader.exec_module(pack)
    assert pack.NODE_CLASS_MAPPINGS.keys() == pack.NODE_DISPLAY_NAME_MAPPINGS.keys()
    return dict(pack.NODE_CLASS_MAPPINGS)


@pytest.fixture
def images() -> Any:  # noqa: ANN401  # PyTorch's, or ours
    return tensor(np.stack([picture for picture, _ in synth.draw(SPEC)]) / np.float32(255))


def tensor(array: np.ndarray[Any, Any]) -> Any:  # noqa: ANN401
    import torch  # type: ignore[import-not-found,unused-ignore]  # whichever there is

    return torch.from_numpy(array.astype(np.float32))


def video(images: Any) -> SimpleNamespace:  # noqa: ANN401
    components = SimpleNamespace(images=images, audio="sound", frame_rate=30)
    return SimpleNamespace(get_components=lambda: components)


def composite(destination: Any, source: Any, mask: Any, **_: object) -> tuple[Any]:  # noqa: ANN401
    return (destination * (1 - mask[..., None]) + source[:, :1, :1] * mask[..., None],)


def core_nodes(images: Any) -> dict[str, Callable[..., tuple[Any, ...]]]:  # noqa: ANN401
    beach = tensor(np.full((1, 480, 640, 3), BLUE) / np.float32(255))
    return {
        "LoadVideo": lambda **_: (images,),
        "GetVideoComponents": lambda video: (video, "sound", 30.0),
        "InvertMask": lambda mask: (1 - mask,),
        "LoadImage": lambda **_: (beach, None),
        "ImageCompositeMasked": composite,
        "CreateVideo": lambda **inputs: (inputs,),
        "SaveVideo": lambda video, **_: (video,),
    }


def runs(workflow: Path, functions: dict[str, Callable[..., tuple[Any, ...]]]) -> Any:  # noqa: ANN401
    """Run a workflow that ComfyUI's page has saved, and return the inputs of its last node."""
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    links = {number: (node, slot) for number, node, slot, *_ in graph["links"]}
    outputs: dict[int, tuple[Any, ...]] = {}
    for node in sorted(graph["nodes"], key=lambda each: each["order"]):
        widgets = iter(node.get("widgets_values", ()))
        inputs = {}
        for each in node["inputs"]:
            if "widget" in each:
                inputs[each["name"]] = next(widgets)
            if each["link"] is not None:
                source, slot = links[each["link"]]
                inputs[each["name"]] = outputs[source][slot]
        outputs[node["id"]] = functions[node["type"]](**inputs)
    return outputs[graph["nodes"][-1]["id"]][0]


def test_the_pack_is_laid_out_as_the_registry_wants() -> None:
    facts = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert facts["tool"]["comfy"].keys() == {"PublisherId", "DisplayName"}
    needed = (PACK / "requirements.txt").read_text(encoding="utf-8").split()
    assert needed == facts["project"]["dependencies"]
    house = tomllib.loads((PACK.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    for same in ("version", "requires-python"):
        assert facts["project"][same] == house["project"][same]


def test_the_workflow_puts_the_subject_over_a_picture(nodes: Nodes, images: Any) -> None:  # noqa: ANN401
    ours = {name: node().run for name, node in nodes.items()}
    made = runs(WORKFLOW, core_nodes(images) | ours)
    assert (made["fps"], made["audio"]) == (30.0, "sound")
    shown = np.asarray(made["images"])
    for picture, (drawn, mask) in zip(shown, synth.draw(SPEC), strict=True):
        expected = np.where(mask[..., None] > 0, drawn, BLUE)
        wrong = np.abs(255 * picture - expected).max(axis=2) > 2
        assert wrong.mean() < 0.03  # the outline
    assert ProgressBar.done[-1] == len(shown)


def test_a_mask_of_a_video_is_that_of_its_images(nodes: Nodes, images: Any) -> None:  # noqa: ANN401
    node = nodes["ForemaskMask"]()
    (mask,) = node.run(images, "fast")
    (again,) = node.run(video(images), "fast")
    assert np.array_equal(mask, again)
    drawn = np.stack([mask for _, mask in synth.draw(SPEC)]) / np.float32(255)
    assert np.abs(np.asarray(mask) - drawn).mean() < 0.04  # the network's own outline


def test_points_say_what_the_subject_is(nodes: Nodes, images: Any) -> None:  # noqa: ANN401
    node = nodes["ForemaskMask"]()
    center = '[{"x": 208, "y": 96}]'
    (without,) = node.run(images, "fast", coordinates_negative=center, frame_index=5)
    assert np.asarray(without)[5, 96, 208] == 0
    (within,) = node.run(images, "fast", coordinates_positive="[[208, 96]]", frame_index=5)
    assert np.asarray(within)[5, 96, 208] == 1
    for odd in ("52, 24", "[52, 24]", '[{"x": 52}]', "{}]", '[["a", 1]]'):
        with pytest.raises(ValueError, match=r"coordinates are JSON like .*, in pixels, and not"):
            node.run(images, "fast", coordinates_positive=odd)


def test_cancel_ends_a_node_and_leaves_no_file(
    nodes: Nodes, images: np.ndarray, tmp_path: Path
) -> None:
    ProgressBar.cancel_at = 1
    with pytest.raises(Cancelled):
        nodes["ForemaskCutOut"]().run(images, "fast")
    assert not list(tmp_path.glob("foremask-*"))


def test_a_service_masks_instead(
    nodes: Nodes,
    images: np.ndarray,
    service: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOREMASK_TOKEN", service.token)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    with working(service, tmp_path):
        image, alpha = nodes["ForemaskCutOut"]().run(
            images, "fast", server=service.url, coordinates_positive='[{"x": 36, "y": 96}]'
        )
    assert REQUESTS[-1].spec.hints == (foremask.Point(36, 96, frame=0),)
    drawn = np.stack([mask for _, mask in synth.draw(SPEC)]) > 0
    assert np.array_equal(np.asarray(alpha) > 0.5, drawn)
    assert np.abs(np.asarray(image) - np.asarray(images))[drawn].max() < 0.01
