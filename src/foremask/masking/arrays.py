"""Masks and cuts out frames that are NumPy arrays, from one iterator to another."""

import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foremask.errors import FieldInvalid
from foremask.hints.kinds import Hint, check_hints
from foremask.masking.cut_out import FrameCutter, opened_background
from foremask.masking.hinting import guidance_of_frames
from foremask.masking.network_caching import network_for
from foremask.masking.plan import ahead_frames, refine_edges
from foremask.media.frames import Frame, frame_of
from foremask.options import MaskOptions, ResultOptions
from foremask.types import Alpha, Levels, Rgb, Rgba
from foremask.vision.prefetch import tee
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import LAG_FRAMES, mask_images

MOST_WAITING: Final = 2 * LAG_FRAMES  # frames: more than a mask ever lags


def mask_arrays(arrays: Iterable[ArrayLike], options: MaskOptions) -> Generator[Alpha, None, None]:
    for _, levels in _masked(iter(arrays), options):
        yield levels.astype(np.float32) / np.float32(255)


def cut_out_arrays(
    arrays: Iterable[ArrayLike], result: ResultOptions, options: MaskOptions
) -> Generator[Rgba, None, None]:
    with opened_background(result.behind, 0.0) as drawn:
        cutter = FrameCutter(result.matte, drawn)
        for frame, levels in _masked(iter(arrays), options):
            yield as_rgba(*cutter.cut(levels, frame))


def as_rgba(colours: NDArray[np.generic], levels: Levels | None) -> Rgba:
    alpha = np.full(colours.shape[:2], 255, np.uint8) if levels is None else levels
    return np.dstack([np.asarray(colours, np.uint8), alpha])


def _masked(arrays: Iterator[ArrayLike], options: MaskOptions) -> Iterator[tuple[Frame, Levels]]:
    first = next(arrays, None)
    if first is None:
        return
    height, width = checked_picture(first, 0, None).shape[:2]
    network = network_for(options)
    frames = (
        frame_of(checked_picture(array, index, (height, width)), index)
        for index, array in enumerate(chain([first], arrays))
    )
    guidance, begin = None, list[Frame]()
    if options.hints:
        begin = list(islice(frames, _hinted_until(options.hints, (width, height))))
        guidance = guidance_of_frames(
            lambda: nullcontext(begin), options.hints, (width, height), network, options.quality
        )
    stop = threading.Event()
    shown, waiting = tee(chain(begin, frames), stop, MOST_WAITING)
    masks = mask_images(shown, network, TIERS[options.quality], guidance=guidance)
    pairs = ((next(waiting), alpha) for alpha in masks)
    ahead = ahead_frames(3 * height * width // 2, options.quality)
    try:
        yield from refine_edges(pairs, ahead)
    finally:
        stop.set()


def _hinted_until(hints: Sequence[Hint], size_px: tuple[int, int]) -> int:
    """Return the number of frames up to the last hint; they are read before the masking begins."""
    check_hints(hints, size_px=size_px)
    for number, hint in enumerate(hints):
        if hint.time_s is not None or (hint.frame or 0) >= MOST_WAITING:
            raise FieldInvalid(
                f"hints[{number}] must be on one of the first {MOST_WAITING} frames, by its number:"
                " arrays have no times, and all before it wait in memory",
                param=f"hints[{number}]",
                limit=MOST_WAITING - 1,
                actual=hint.frame,
            )
    return 1 + max(hint.frame or 0 for hint in hints)


def checked_picture(array: ArrayLike, index: int, shape: tuple[int, int] | None) -> Rgb:
    """Raise FieldInvalid, which names frame ``index``, unless ``array`` is RGB of ``shape``."""
    pixels = np.asarray(array)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise FieldInvalid(
            f"frame {index} is {pixels.dtype} of shape {pixels.shape}; a frame is uint8 of shape"
            " (height, width, 3), red first",
            param="frames",
        )
    if shape is not None and pixels.shape[:2] != shape:
        raise FieldInvalid(
            f"frame {index} is {pixels.shape[1]}x{pixels.shape[0]}, and the first is"
            f" {shape[1]}x{shape[0]}: all frames of a clip have one size",
            param="frames",
        )
    return pixels.astype(np.uint8, copy=False)
