"""Masks a single picture, or cuts its subject out, as an upright PNG."""

import hashlib
import io
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from foremask.errors import CorruptVideo, FieldInvalid, ResolutionTooLarge
from foremask.facts import Report
from foremask.hints.kinds import check_hints
from foremask.masking.cut_out import FrameCutter, background_of, opened_background
from foremask.masking.outputs import write_whole
from foremask.media.frames import Frame
from foremask.media.pictures import read_picture
from foremask.media.png_sequence import colour_png
from foremask.media.presets import HUGE_PIXELS
from foremask.media.verify import verify
from foremask.options import Background, Files, JobSpec, Matte, Resources, ResultKind
from foremask.pipeline.hinting import guidance_of_frame
from foremask.pipeline.network_masks import mask_images
from foremask.pipeline.networks import mask_finder_for, network_for
from foremask.pipeline.stages.edges import sharpened
from foremask.pipeline.stored import STORED_MASK
from foremask.pipeline.trackers import tracked_masker_of_picture, tracker_for
from foremask.types import Alpha, DeepRgb, Image, Levels, Rgb
from foremask.vision.drawing import as_png
from foremask.vision.image import Cropped, MirroredImage, UnitBox
from foremask.vision.network.kept_results import Planes
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import InputSize, Network, NetworkOutput
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.grids import Grid, MaskAlpha, size_of
from foremask.vision.temporal.places import OUTLINE_PX, grown
from foremask.vision.temporal.regions import Scene
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.verdict import MOST_LOG_ODDS, Judge, judge
from foremask.weights.catalogue import model_path

MOST_ANSWERS: Final = 128  # planes of a quarter of a MiB; a preview with 16 points adds 32
MOST_CROPS: Final = 16  # 1 MiB each; a preview takes so many hints, and each box has one


class OnePicture:
    """A `Network` that runs only once on a picture, its mirror image and its last crops.

    Of the crops round boxes, the newest `MOST_CROPS` are kept, each in each input size.
    """

    def __init__(self, frame: Frame, network: Network) -> None:
        self.frame = frame
        self._network = network
        self.runtime = network.runtime
        self.any_size = network.any_size
        self._answers: dict[str, Planes] = {}
        self.cache = NetworkCache(self._answers)
        self._outputs: dict[
            tuple[type[Image], UnitBox | None, InputSize | None], NetworkOutput
        ] = {}
        self._crops = 0

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        box = image.box if isinstance(image, Cropped) else None
        asked = type(image), box, size
        if asked not in self._outputs:
            output = self._network.infer(image, size)
            kept = () if isinstance(image, Cropped | MirroredImage) else output.features
            self._outputs[asked] = NetworkOutput(output.alpha, kept)
            if box is not None:
                self._forget_crop()
        return self._outputs[asked]

    def forget_answers(self) -> None:
        """Forget what hints have asked if it is much: each point on a picture adds to it."""
        if len(self._answers) > MOST_ANSWERS:
            self._answers.clear()

    def _forget_crop(self) -> None:
        if self._crops < MOST_CROPS:
            self._crops += 1
            return
        del self._outputs[next(asked for asked in self._outputs if asked[1] is not None)]


def mask_frame(
    frame: Frame, spec: JobSpec, resources: Resources, picture: OnePicture | None = None
) -> Levels:
    """Return the upright mask with all hints applied; ``picture`` caches the network's results."""
    if spec.hints:
        check_hints(spec.hints, size_px=(frame.width, frame.height))
    if spec.chosen_tracker is not None:
        (alpha,) = tracked_masker_of_picture(spec, resources, frame)([frame])
    else:
        alpha = _alpha_by_network(frame, spec, resources, picture)
    return np.ascontiguousarray(frame.orientation.to_upright(sharpened(frame, alpha)))


def correct_mask(
    picture: OnePicture, before: Levels, spec: JobSpec, resources: Resources
) -> Levels:
    """Return the upright mask ``before``, corrected by the hints of ``spec``.

    Pixels that no hint reaches stay as they were.
    """
    frame = picture.frame
    check_hints(spec.hints, size_px=(frame.width, frame.height))

    def as_before(scenes: Sequence[Scene]) -> list[Alpha]:
        alpha = as_alpha(before)
        sides = [size_of(scene.logit).resized(alpha) * 2 - 1 for scene in scenes]
        return [np.float32(MOST_LOG_ODDS) * each for each in sides]

    without = msgspec.structs.replace(spec, hints=())
    plain = _alpha_by_network(frame, without, resources, picture, before_hints=as_before)
    hinted = _alpha_by_network(frame, spec, resources, picture, before_hints=as_before)
    levels = sharpened(frame, hinted)
    reached = grown(plain != hinted, OUTLINE_PX).astype(np.float32)
    changed = Grid(frame.width, frame.height).resized(reached) > 0
    return np.where(changed, frame.orientation.to_upright(levels), before)


def _alpha_by_network(
    frame: Frame,
    spec: JobSpec,
    resources: Resources,
    picture: OnePicture | None,
    *,
    before_hints: Judge | None = None,
) -> MaskAlpha:
    """The mask with all hints. ``before_hints`` gives the mask that they correct, if known."""
    network = picture or OnePicture(frame, network_for(resources))
    guidance = None
    if spec.hints:
        finder = mask_finder_for(resources)
        guidance = guidance_of_frame(
            frame, spec.hints, network, spec.quality, finder, network.cache
        )
    (alpha,) = mask_images(
        [frame],
        network,
        TIERS[spec.quality],
        before_hints or judge,
        guidance,
        cache=network.cache,
        learns_appearance=before_hints is None,
    )
    return alpha


_LAST: Final[dict[tuple[str, str], OnePicture]] = {}


def last_picture(file: bytes, resources: Resources) -> OnePicture:
    """Return the picture in ``file``; the last picture is cached.

    Raises CorruptVideo if ``file`` is no picture, ResolutionTooLarge above 33 megapixels, and
    ModelUnavailable.
    """
    digest = hashlib.blake2b(file).hexdigest()
    asked = digest, f"{resources.model or model_path()} {resources.device}"
    if asked not in _LAST:
        frame = read_picture(io.BytesIO(file), resources.limits, HUGE_PIXELS)
        _LAST.clear()
        _LAST[asked] = OnePicture(frame, network_for(resources))
    _LAST[asked].forget_answers()
    return _LAST[asked]


def read_mask(file: bytes, picture: OnePicture, resources: Resources) -> Levels:
    """Decode the picture's mask. Raises FieldInvalid if it is no picture, or of another size."""
    size = picture.frame.width, picture.frame.height
    try:
        mask = read_picture(io.BytesIO(file), resources.limits, size[0] * size[1])
    except (CorruptVideo, ResolutionTooLarge) as error:
        details = f"mask: {error.details} Its picture is {size[0]}x{size[1]}."
        raise FieldInvalid(details, param="mask") from None
    if (mask.width, mask.height) != size:
        raise FieldInvalid(
            f"mask has {mask.width}x{mask.height} pixels, its picture {size[0]}x{size[1]}.",
            param="mask",
        )
    return np.ascontiguousarray(mask.rgb(*size)[..., 0])


def write_picture(spec: JobSpec, files: Files, resources: Resources) -> Report:
    """Write the upright mask, cut-out or composite of a picture as PNG. Raises CorruptVideo.

    A cut-out has straight alpha. Raises PromiseBroken if ``files.mask``, a picture to use instead
    of the network, has another size than the source.
    """
    started = time.thread_time()
    frame = read_picture(files.source)
    if files.mask is None:
        levels = mask_frame(frame, spec, resources)
        runtime = runtime_of(spec, resources)
    else:
        known = read_picture(files.mask)
        verify(files.source, files.mask)
        levels = np.ascontiguousarray(known.orientation.to_upright(known.luma()))
        runtime = STORED_MASK
    if spec.kind is ResultKind.MASK:
        png = as_png(levels)
    else:
        background = background_of(spec, files)
        colours, alpha = cut_out_frame(frame, background, spec.matte, levels, deep=True)
        png = colour_png(colours, alpha)
    write_whole(files.target, png, replace=files.replace)
    coverage = float(levels.mean()) / 255
    return Report(
        frames_in=1,
        frames_out=1,
        duration_s=0.0,
        fps=0.0,
        duration_drift_ms=0.0,
        audio=(),
        warnings=(),
        coverage=coverage,
        flicker=0.0,
        strip=((0.0, round(coverage, 4), 0.0),),
        runtime=runtime,
        stage_cpu_s={"mask": round(time.thread_time() - started, 3)},
        sha256=hashlib.sha256(png).hexdigest(),
        bytes=len(png),
        kind=spec.kind.value,
    )


def runtime_of(spec: JobSpec, resources: Resources) -> str:
    if spec.chosen_tracker is not None:
        return tracker_for(spec, resources).runtime
    return network_for(resources).runtime


def cut_out_frame(
    frame: Frame, background: Background | None, matte: Matte, levels: Levels, *, deep: bool = False
) -> tuple[Rgb | DeepRgb, Levels | None]:
    with opened_background(background, 0.0) as drawn:
        return FrameCutter(matte, drawn, deep=deep).cut(levels, frame)
