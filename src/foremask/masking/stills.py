"""Masks a single picture, or cuts its subject out, as an upright PNG."""

import dataclasses
import hashlib
import io
import time
from pathlib import Path
from typing import Final

import numpy as np

from foremask.errors import ResolutionTooLarge
from foremask.facts import Report
from foremask.hints.kinds import check_hints
from foremask.masking.cut_out import FrameCutter, opened_background
from foremask.masking.hinting import guidance_of_frame
from foremask.masking.outputs import check_output, check_png, written_whole
from foremask.masking.plan import network_for, refine_edges
from foremask.media.frames import Frame
from foremask.media.pictures import read_picture
from foremask.media.png_sequence import colour_png
from foremask.media.presets import HUGE_PIXELS
from foremask.media.verify import verify
from foremask.options import MaskOptions, ResultOptions
from foremask.types import DeepRgb, Image, Levels, Rgb
from foremask.vision.drawing import as_png
from foremask.vision.image import Box, Cropped, MirroredImage
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.session import InputSize, Network, NetworkOutput
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from foremask.weights.catalogue import model_path

PICTURE_SUFFIX: Final = ".png"


class OnePicture:
    """A `Network` that runs only once on each crop, mirror image and input size of a picture."""

    def __init__(self, frame: Frame, network: Network) -> None:
        self.frame, self._network = frame, network
        self.runtime, self.any_size = network.runtime, network.any_size
        self.cache = NetworkCache({})
        self._outputs: dict[tuple[type[Image], Box | None, InputSize | None], NetworkOutput] = {}

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        box = image.box if isinstance(image, Cropped) else None
        asked = type(image), box, size
        if asked not in self._outputs:
            output = self._network.infer(image, size)
            kept = () if isinstance(image, Cropped | MirroredImage) else output.features
            self._outputs[asked] = NetworkOutput(output.alpha, kept)
        return self._outputs[asked]


def mask_frame(frame: Frame, options: MaskOptions, picture: OnePicture | None = None) -> Levels:
    """Return the upright mask with all hints applied; ``picture`` caches the network's results."""
    network = picture or OnePicture(frame, network_for(options))
    guidance = None
    if options.hints:
        check_hints(options.hints, size_px=(frame.width, frame.height))
        guidance = guidance_of_frame(frame, options.hints, network, options.quality)
    (alpha,) = mask_images(
        [frame], network, TIERS[options.quality], guidance=guidance, cache=network.cache
    )
    ((_, levels),) = refine_edges([(frame, alpha)])
    return np.ascontiguousarray(frame.orientation.to_upright(levels))


_LAST: Final[dict[tuple[str, str], OnePicture]] = {}


def last_picture(file: bytes, options: MaskOptions) -> OnePicture:
    """Return the picture in ``file``; the last picture is cached.

    Raises CorruptVideo if ``file`` is no picture, ResolutionTooLarge above 33 megapixels, and
    ModelUnavailable.
    """
    digest = hashlib.blake2b(file).hexdigest()
    asked = digest, f"{options.model or model_path()} {options.device} {options.quality}"
    if asked not in _LAST:
        frame = read_picture(io.BytesIO(file), options.limits)
        if frame.width * frame.height > HUGE_PIXELS:
            raise ResolutionTooLarge(
                f"The picture has {frame.width}x{frame.height} pixels; at most {HUGE_PIXELS} are"
                " masked.",
                limit=HUGE_PIXELS,
                actual=frame.width * frame.height,
            )
        _LAST.clear()
        _LAST[asked] = OnePicture(frame, network_for(options))
    return _LAST[asked]


def mask_picture(
    source: Path, target: Path, options: MaskOptions, *, replace: bool = False
) -> Report:
    """Write the upright mask of a picture as PNG. Raises CorruptVideo."""
    check_output(target, source, replace=replace)
    started = time.thread_time()
    picture = OnePicture(read_picture(source), network_for(options))
    levels = mask_frame(picture.frame, options, picture)
    return _written(as_png(levels), levels, target, picture.runtime, started, replace=replace)


def cut_out_picture(
    source: Path,
    target: Path,
    result: ResultOptions,
    options: MaskOptions,
    mask: Path | None = None,
    *,
    replace: bool = False,
) -> Report:
    """Write an upright PNG with straight alpha or, over a background, without alpha.

    ``mask`` is a picture to use instead of the network. Raises PromiseBroken if ``mask`` has
    another size than ``source``.
    """
    check_png(target)
    check_output(target, *filter(None, (source, mask)), replace=replace)
    started = time.thread_time()
    frame = read_picture(source)
    if mask is None:
        levels, runtime = mask_frame(frame, options), network_for(options).runtime
    else:
        known = read_picture(mask)
        verify(source, mask)
        levels = np.ascontiguousarray(known.orientation.to_upright(known.luma()))
        runtime = "stored mask"
    png = colour_png(*cut_out_frame(frame, result, levels, deep=True))
    report = _written(png, levels, target, runtime, started, replace=replace)
    return dataclasses.replace(report, kind=result.kind.value)


def cut_out_frame(
    frame: Frame, result: ResultOptions, levels: Levels, *, deep: bool = False
) -> tuple[Rgb | DeepRgb, Levels | None]:
    with opened_background(result.behind, 0.0) as drawn:
        return FrameCutter(result.matte, drawn, deep=deep).cut(levels, frame)


def _written(
    png: bytes, levels: Levels, target: Path, runtime: str, started: float, *, replace: bool
) -> Report:
    with written_whole(target, replace=replace) as part:
        part.write_bytes(png)
    coverage = float(levels.mean()) / 255
    return Report(
        frames_in=1,
        frames_out=1,
        coverage=coverage,
        strip=((0.0, round(coverage, 4), 0.0),),
        runtime=runtime,
        stage_cpu_s={"mask": round(time.thread_time() - started, 3)},
        sha256=hashlib.sha256(png).hexdigest(),
        bytes=len(png),
    )
