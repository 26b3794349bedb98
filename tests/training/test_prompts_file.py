"""The trained file, with NumPy alone: PyTorch is in no environment of ours."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foremask.vision.network import prompted
from foremask.vision.network.finder import Click
from training import prompts

ROOT = Path(__file__).parents[2]
FILE = ROOT / "src/foremask/vision/network/isnet_prompts.npz"
CARD = ROOT / "training/isnet_prompts.json"
RANK = 8


@pytest.fixture(scope="module")
def arrays() -> dict[str, Any]:
    with np.load(FILE) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return dict(json.loads(CARD.read_text(encoding="utf-8")))


def test_the_file_is_at_most_5_mb_in_16_bits(arrays: dict[str, Any]) -> None:
    assert FILE.stat().st_size <= 5_000_000
    kinds = {array.dtype for name, array in arrays.items() if name != "counts"}
    assert kinds == {np.dtype(np.float16)}


def test_every_adapted_convolution_has_both_factors_and_a_bias(arrays: dict[str, Any]) -> None:
    layers = {name.rpartition(".")[0] for name in arrays if name.startswith("decoder.")}
    assert len(layers) == 72
    for layer in layers:
        channels_out = arrays[f"{layer}.bias"].shape[0]
        assert arrays[f"{layer}.up"].shape == (channels_out, RANK, 1, 1)
        assert arrays[f"{layer}.down"].shape[0] == RANK
        assert arrays[f"{layer}.down"].shape[2:] == (3, 3)


def test_prompts_are_seven_channels_and_answers_four_masks(arrays: dict[str, Any]) -> None:
    assert arrays["prompts.first.weight"].shape[1] == 7
    added = [arrays[f"prompts.additions.{level}.bias"].shape for level in range(4)]
    assert added == [(128,), (256,), (512,), (512,)]
    assert arrays["answers.change.bias"].shape == (4,)


def test_training_has_changed_every_array_to_finite_values(arrays: dict[str, Any]) -> None:
    for name, array in arrays.items():
        assert np.isfinite(array).all(), name
        assert array.any(), name


def test_the_card_is_that_of_the_file(arrays: dict[str, Any], card: dict[str, Any]) -> None:
    assert [card["samples"], card["pictures"], card["steps"]] == arrays["counts"].tolist()
    assert card["curve"][-1]["samples"] <= card["samples"]
    assert {"voc", "coco", "clothing", "pedestrians"} <= set(card["data"])
    assert "trained on" not in card["data"]["pedestrians"]
    parts = {part for numbers in card["numbers"].values() for part in numbers}
    assert {"clips", "moved masks", "stills, several", "stills, subject"} <= parts


def test_the_product_draws_a_prompt_as_training_does() -> None:
    earlier = np.zeros((240, 427), np.float32)
    cv2.circle(earlier, (200, 100), 60, 1.0, -1)
    points = [(0.5, 0.4, True), (0.9, 0.75, False), (0.02, 0.99, False)]
    asked = prompts.Prompt([prompts.Click(*point) for point in points], earlier=earlier)
    ours = prompted.prompt_of(earlier, [Click(*point) for point in points])
    np.testing.assert_allclose(ours, prompts.rendered(asked, prompted.PROMPT_PX), atol=1e-5)
