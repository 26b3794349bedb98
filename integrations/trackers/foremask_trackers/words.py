"""Finds the boxes of what words name on a frame, by Grounding DINO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from foremask.errors import ModelUnavailable
from foremask.options import Device
from foremask.types import Image
from foremask_trackers.prompts import SAME_BOX
from foremask_trackers.tracker import PromptBox
from foremask_trackers.transformers_files import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    first_line,
    loaded_model,
    normalised,
    torch_device,
)

SURE: Final = 0.35  # boxes with a lower score are dropped, as in Grounding DINO's own examples
SHORT_SIDE_PX: Final = 800  # the size of pictures that it was trained on
LONG_SIDE_PX: Final = 1333


class WordFinder:
    """Grounding DINO. Raises ModelUnavailable if its files do not fit."""

    def __init__(self, folder: Path, device: Device) -> None:
        self._device = torch_device(device)
        # Without this, transformers looks for compiled kernels on the Hugging Face Hub.
        self._model = loaded_model(
            "GroundingDinoForObjectDetection", folder, self._device, disable_custom_kernels=True
        )
        self._tokenizer = _loaded_tokenizer(folder)

    def boxes(self, image: Image, words: Sequence[str]) -> list[PromptBox]:
        """The boxes of all things that any of the words name, the surest first."""
        import torch

        text = "".join(f"{each.strip().strip('.').lower()}. " for each in words).strip()
        tokens = self._tokenizer(text, return_tensors="pt", truncation=True).to(self._device)
        pixels = normalised(image.rgb(*_size_for(image)), IMAGENET_MEAN, IMAGENET_DEVIATION)
        with torch.inference_mode():
            found = self._model(pixel_values=pixels[None].to(self._device), **tokens)
        scores = found.logits[0].sigmoid().amax(dim=1).float().cpu().numpy()
        boxes = found.pred_boxes[0].float().cpu().numpy()
        return chosen(scores, boxes)


def chosen(scores: np.ndarray, boxes: np.ndarray) -> list[PromptBox]:
    """The sure boxes, the surest first, without those that are nearly a surer one.

    ``boxes`` has rows of middle x, middle y, width and height, in shares of the picture.
    """
    result: list[PromptBox] = []
    for number in np.argsort(-scores, kind="stable"):
        if scores[number] <= SURE:
            break
        x, y, width, height = map(float, np.clip(boxes[number], 0, 1))
        box = PromptBox(
            max(0.0, x - width / 2),
            max(0.0, y - height / 2),
            min(1.0, x + width / 2),
            min(1.0, y + height / 2),
        )
        if all(box.overlap(each) <= SAME_BOX for each in result):
            result.append(box)
    return result


def _size_for(image: Image) -> tuple[int, int]:
    """Width and height with the image's aspect, as large as both limits allow."""
    short = min(image.width, image.height)
    long = max(image.width, image.height)
    scale = min(SHORT_SIDE_PX / short, LONG_SIDE_PX / long)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _loaded_tokenizer(folder: Path) -> Any:  # noqa: ANN401
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"the tokenizer in {folder} cannot be loaded: {first_line(error)}"
        ) from error
