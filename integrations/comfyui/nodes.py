"""The two nodes: the mask of a clip, and its subject cut out."""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import msgspec
import numpy as np
import torch
from comfy.utils import ProgressBar
from numpy.typing import NDArray

import foremask
from foremask.cli.remote_client import RemoteClient, ServerRefused
from foremask.machine.paths import cache_dir

_POLL_S = 1.0
_FPS = 25  # of the file that the network reads: an IMAGE batch has no rate


class _Node:
    CATEGORY = "mask"
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[object, ...]]]:  # noqa: N802  # ComfyUI's name
        coordinates = 'JSON, in pixels: [{"x": 640, "y": 360}], as point editors write it'
        return {
            "required": {
                "frames": ("IMAGE,VIDEO", {"tooltip": "A clip, or one picture"}),
                "quality": (["fast", "balanced", "best"], {"default": "balanced"}),
            },
            "optional": {
                "coordinates_positive": (
                    "STRING",
                    {"default": "", "tooltip": f"Points on the subject. {coordinates}"},
                ),
                "coordinates_negative": (
                    "STRING",
                    {"default": "", "tooltip": f"Points beside the subject. {coordinates}"},
                ),
                "frame_index": (
                    "INT",
                    {"default": 0, "min": 0, "tooltip": "The frame that the points are on"},
                ),
                "server": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "A foremask service, with its token in FOREMASK_TOKEN;"
                        " empty is this machine's processor",
                    },
                ),
            },
        }


class Mask(_Node):
    """MASK of (frames, height, width): 1 is the subject."""

    DESCRIPTION = "Finds the subject of a clip; white is the foreground."
    RETURN_TYPES = ("MASK",)

    def run(self, frames: Any, quality: str, server: str = "", **points: Any) -> tuple[Any]:  # noqa: ANN401
        with _clip_of(frames) as (clip, count):
            mask, hints = clip.with_name("mask.mkv"), _hints(**points)
            if server:
                _mask_by_service(clip, mask, quality, hints, server, _progress(count))
            else:
                foremask.mask_video(
                    clip,
                    mask,
                    preset="mkv_vp9",  # exact
                    quality=quality,
                    hints=hints,
                    cache=_cache(),
                    on_progress=_progress(count),
                )
            return (_stacked((alpha for _, alpha in foremask.read_masks(mask)), count),)


class CutOut(_Node):
    """IMAGE of (frames, height, width, 3), free of the old background, and its alpha, a MASK."""

    DESCRIPTION = "Cuts the subject of a clip out: its colours, and its alpha as a mask."
    RETURN_TYPES = ("IMAGE", "MASK")
    RETURN_NAMES = ("image", "alpha")

    def run(self, frames: Any, quality: str, server: str = "", **points: Any) -> tuple[Any, Any]:  # noqa: ANN401
        with _clip_of(frames) as (clip, count):
            mask, hints = None, _hints(**points)
            if server:
                mask = clip.with_name("mask.mkv")
                _mask_by_service(clip, mask, quality, hints, server, _progress(count))
            folder = clip.with_name("frames")
            foremask.cut_out(
                clip,
                folder / "%06d.png",
                quality=quality,
                hints=() if mask else hints,
                mask=mask,
                cache=None if mask else _cache(),
                on_progress=_progress(count),
            )
            rgba = _stacked(map(_read, sorted(folder.glob("*.png"))), count)
            return rgba[..., :3], rgba[..., 3]


@contextmanager
def _clip_of(frames: Any) -> Iterator[tuple[Path, int]]:  # noqa: ANN401  # a tensor or ComfyUI's VIDEO
    """A lossless file of the frames, in a folder of its own, and how many they are."""
    images = frames.get_components().images if hasattr(frames, "get_components") else frames
    height, width = images.shape[1:3]
    with tempfile.TemporaryDirectory(prefix="foremask-") as folder:
        clip = Path(folder, "clip.mp4")  # without a random number, for the cache
        with av.open(clip, "w") as container:
            track = container.add_stream("libx264rgb", rate=_FPS)
            track.width, track.height, track.pix_fmt = width, height, "rgb24"
            track.options = {"preset": "ultrafast", "qp": "0"}
            for image in images:
                levels = np.rint(255 * image[..., :3].cpu().numpy().clip(0, 1)).astype(np.uint8)
                container.mux(track.encode(av.VideoFrame.from_ndarray(levels, "rgb24")))
            container.mux(track.encode())
        yield clip, len(images)


def _hints(
    coordinates_positive: str = "", coordinates_negative: str = "", frame_index: int = 0
) -> list[foremask.Point]:
    return [
        foremask.Point(x, y, frame=frame_index, negative=negative)
        for text, negative in ((coordinates_positive, False), (coordinates_negative, True))
        for x, y in _coordinates(text)
    ]


def _coordinates(text: str) -> list[tuple[float, float]]:
    """Pixels of ``[{"x": 1, "y": 2}]`` or ``[[1, 2]]``; empty text has none."""
    try:
        found = json.loads(text or "[]")
        pairs = [(each["x"], each["y"]) if isinstance(each, dict) else each for each in found]
        return [(float(x), float(y)) for x, y in pairs]
    except (ValueError, TypeError, KeyError):
        raise ValueError(
            f'coordinates are JSON like [{{"x": 640, "y": 360}}], in pixels, and not {text[:80]!r}'
        ) from None


def _progress(count: int) -> Callable[[foremask.Progress], None]:
    """Shows progress; ComfyUI's bar raises where the user has pressed Cancel."""
    bar = ProgressBar(count)
    return lambda done: bar.update_absolute(done.frames_done, count)


def _cache() -> Path:
    """Where the network's results are kept, for the same clip with other points."""
    folder = cache_dir() / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _mask_by_service(
    clip: Path,
    mask: Path,
    quality: str,
    hints: list[foremask.Point],
    server: str,
    on_progress: Callable[[foremask.Progress], None],
) -> None:
    # Not an input of the node: ComfyUI writes those into every picture that it saves.
    token = os.environ.get("FOREMASK_TOKEN", "").strip()
    with RemoteClient(server, token) as client:
        fields: dict[str, Any] = {
            "video": client.upload(clip, lambda *_: None),
            "output_container_and_codec": "mkv_vp9",
            "quality": quality,
            "hints": msgspec.to_builtins(hints),
        }
        job = client.submit(fields)
        try:
            status, _ = client.status(job)
            while status.status == "IN_PROGRESS":
                on_progress(foremask.Progress(status.frames_done or 0, status.frames_total))
                time.sleep(_POLL_S)
                status, _ = client.status(job)
        except BaseException:
            client.cancel(job)
            raise
        if status.result is None:
            raise ServerRefused(status.problem)
        report = status.result.report
        sha256 = None if report is None else report.sha256
        client.download(status.result.video_url, mask, sha256, lambda *_: None)


def _read(png: Path) -> NDArray[np.float32]:
    bgra = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(bgra, cv2.COLOR_BGRA2RGBA) / np.float32(255)


def _stacked(arrays: Iterator[NDArray[np.float32]], count: int) -> Any:  # noqa: ANN401  # a tensor
    """One tensor of ``count`` arrays, filled as they come."""
    first = next(arrays)
    stack = np.empty((count, *first.shape), np.float32)
    stack[0] = first
    for index, array in enumerate(arrays, 1):
        stack[index] = array
    return torch.from_numpy(stack)
