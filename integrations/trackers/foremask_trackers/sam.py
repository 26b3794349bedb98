"""Runs SAM 2, EdgeTAM or SAM 3 by Hugging Face's transformers; torch is loaded in this package.

Frames are streamed: the session keeps one frame, and of earlier frames only what the network still
looks at. So memory does not grow with the clip.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from foremask.options import Device
from foremask.types import Image, Levels
from foremask_trackers.files import TrackerName
from foremask_trackers.tracker import Masks, Prompt
from foremask_trackers.transformers_files import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    loaded_model,
    normalised,
    torch_device,
)

type _Session = Any
"""A `Sam2VideoInferenceSession` or one of its kind."""

_BOX_CORNERS: Final = (2, 3)  # the labels of a box's upper left and lower right corner
_IMAGENET: Final = (IMAGENET_MEAN, IMAGENET_DEVIATION)
_HALF: Final = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class _Kind:
    """The classes of transformers, and the mean and standard deviation of the input's channels."""

    model: str
    session: str
    scale: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET


_SAM2: Final = _Kind("Sam2VideoModel", "Sam2VideoInferenceSession")
_KINDS: Final[Mapping[TrackerName, _Kind]] = {
    "sam2.1-tiny": _SAM2,
    "sam2.1-small": _SAM2,
    "sam2.1-base-plus": _SAM2,
    "sam2.1-large": _SAM2,
    "edgetam": _Kind("EdgeTamVideoModel", "EdgeTamVideoInferenceSession"),
    "sam3": _Kind("Sam3TrackerVideoModel", "Sam3TrackerVideoInferenceSession", _HALF),
}


class SamTracker:
    """A tracker of transformers. Raises ModelUnavailable if its files do not fit."""

    def __init__(self, name: TrackerName, folder: Path, device: Device) -> None:
        self.kind = _KINDS[name]
        self.device = torch_device(device)
        self.model = loaded_model(self.kind.model, folder, self.device)
        self.side_px = int(self.model.config.image_size)
        self.runtime = f"{name} {self.device}"

    def begin(self) -> "SamTrack":
        return SamTrack(self)


class SamTrack:
    """A `Track`. The network counts the frames that it is given; it does not know their times."""

    def __init__(self, tracker: SamTracker) -> None:
        import torch
        import transformers

        self._tracker = tracker
        make_session = getattr(transformers, tracker.kind.session)
        side_px = tracker.side_px
        self._session: _Session = make_session(
            video_height=side_px,
            video_width=side_px,
            inference_device=tracker.device,
            dtype=torch.float32,
        )
        self._number = -1
        self._pixels: Any = None

    def advance(self, image: Image) -> Masks:
        side_px = self._tracker.side_px
        self._number += 1
        self._pixels = normalised(image.rgb(side_px, side_px), *self._tracker.kind.scale)
        if not self._session.obj_ids:
            return {}
        return self._masks()

    def prompt(self, prompts: Sequence[Prompt]) -> Masks:
        import torch

        session = self._session
        for prompt in prompts:
            labels = [int(point.inside) for point in prompt.points]
            places = [(point.x, point.y) for point in prompt.points]
            if prompt.box is not None:
                box = prompt.box
                labels = [*_BOX_CORNERS, *labels]
                places = [(box.left, box.top), (box.right, box.bottom), *places]
            inputs = {
                "point_coords": torch.tensor(places).reshape(1, 1, -1, 2) * self._tracker.side_px,
                "point_labels": torch.tensor(labels, dtype=torch.int32).reshape(1, 1, -1),
            }
            session.add_point_inputs(session.obj_id_to_idx(prompt.thing), self._number, inputs)
        session.obj_with_new_inputs = [prompt.thing for prompt in prompts]
        return self._masks()

    def _masks(self) -> Masks:
        import torch

        with torch.inference_mode():
            output = self._tracker.model(
                inference_session=self._session, frame=self._pixels, frame_idx=self._number
            )
        self._forget()
        logits = output.pred_masks.float().cpu().numpy()
        planes = logits.reshape(len(output.object_ids), *logits.shape[-2:])
        return dict(zip(output.object_ids, map(_as_levels, planes), strict=True))

    def _forget(self) -> None:
        """Drop what the network does not look at any more."""
        config = self._tracker.model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        session = self._session
        session.processed_frames.clear()
        for thing, outputs in session.output_dict_per_obj.items():
            tracked = outputs["non_cond_frame_outputs"]
            for number in [each for each in tracked if each <= self._number - reach]:
                del tracked[number]
            for output in (*tracked.values(), *outputs["cond_frame_outputs"].values()):
                output.pop("high_res_masks", None)
            done = session.frames_tracked_per_obj[thing]
            for number in [each for each in done if each < self._number]:
                del done[number]
            for marked in (session.point_inputs_per_obj, session.mask_inputs_per_obj):
                for number in [each for each in marked[thing] if each < self._number]:
                    del marked[thing][number]


def _as_levels(logits: np.ndarray) -> Levels:
    alpha = 1 / (1 + np.exp(-np.clip(logits, -20, 20)))
    return np.asarray(np.rint(255 * alpha), np.uint8)
