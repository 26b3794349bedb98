"""The exported network on pictures of any size, through OpenVINO, with a second pass on a crop."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import openvino
from numpy.typing import NDArray

from training.answers import REFINED
from training.pictures import Bgr, network_input
from training.prompts import SIDE_PX, Click, Map, Prompt, rendered

CROP_MARGIN = 1.4
"""The side of the crop, in those of the mask."""
LEAST_CROP = 0.2
MOST_CROP = 0.7
"""A crop of more than this share of the picture gets no second pass."""

Frame = tuple[slice, slice]


@dataclass
class Candidates:
    """What the network made of a prompt."""

    masks: list[Map]
    """Three for a single click, else one; of the picture's size."""
    scores: list[float]
    """The guesses of their J."""

    def best(self) -> Map:
        return self.masks[int(np.argmax(self.scores))]


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))), np.float32)


class PromptedSession:
    def __init__(self, folder: Path, threads: int, *, refines: bool) -> None:
        self.refines = refines
        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self.encoder = core.compile_model(folder / "encoder.onnx", "CPU", settings)
        self.decoder = core.compile_model(folder / "decoder.onnx", "CPU", settings)

    def encode(self, bgr: Bgr) -> NDArray[np.float32]:
        return np.array(self.encoder([network_input(bgr, SIDE_PX)[None]])[0])

    def answer(
        self, stage2: NDArray[np.float32], prompt: Prompt, shape: tuple[int, ...]
    ) -> Candidates:
        """The answers to a prompt, of `shape`."""
        result = self.decoder([stage2, rendered(prompt, stage2.shape[-1])[None]])
        logits = result[0][0]
        scores = sigmoid(result[1][0])
        shown = range(REFINED) if prompt.is_single_click() else [REFINED]
        size = (shape[1], shape[0])
        masks = [
            sigmoid(cv2.resize(logits[i], size, interpolation=cv2.INTER_LINEAR)) for i in shown
        ]
        return Candidates(masks, [float(scores[i]) for i in shown])

    def refine_on_crop(self, bgr: Bgr, prompt: Prompt, mask: Map) -> Map:
        """The mask of a second pass on a crop round the first mask, which is its earlier mask."""
        frame = crop_round(mask, [click for click in prompt.clicks if click.inside])
        if frame is None or not self.refines:
            return mask
        rows, columns = frame
        height, width = mask.shape
        inner = []
        for click in prompt.clicks:
            x = (click.x * width - columns.start) / (columns.stop - columns.start)
            y = (click.y * height - rows.start) / (rows.stop - rows.start)
            if 0 <= x < 1 and 0 <= y < 1:
                inner.append(replace(click, x=x, y=y))
        crop = np.ascontiguousarray(bgr[frame])
        asked = Prompt(clicks=inner, earlier=np.ascontiguousarray(mask[frame]))
        refined = np.zeros_like(mask)
        refined[frame] = self.answer(self.encode(crop), asked, crop.shape[:2]).best()
        return refined


def crop_round(mask: Map, clicks: list[Click]) -> Frame | None:
    """Rows and columns round a mask and clicks; None where they are nothing or nearly all."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask > 0.5)
    ys = [*rows.tolist(), *(click.y * height for click in clicks)]
    xs = [*columns.tolist(), *(click.x * width for click in clicks)]
    if not ys:
        return None
    tall = max((max(ys) - min(ys)) * CROP_MARGIN, height * LEAST_CROP)
    wide = max((max(xs) - min(xs)) * CROP_MARGIN, width * LEAST_CROP)
    tall = max(tall, 0.6 * wide)
    wide = max(wide, 0.6 * tall)
    if min(tall, height) * min(wide, width) > MOST_CROP * height * width:
        return None
    middle_y = (max(ys) + min(ys)) / 2
    middle_x = (max(xs) + min(xs)) / 2
    return (
        slice(int(max(0, middle_y - tall / 2)), int(min(height, middle_y + tall / 2))),
        slice(int(max(0, middle_x - wide / 2)), int(min(width, middle_x + wide / 2))),
    )
