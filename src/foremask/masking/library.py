"""What `foremask` offers to Python programs: masks of files, pictures and arrays."""

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from foremask.errors import FieldInvalid
from foremask.facts import Clip, Report
from foremask.hints.kinds import Hint
from foremask.masking import arrays, comparison, pipeline, stills
from foremask.masking.arrays import Tensor
from foremask.masking.report import Progress
from foremask.masking.thing_list import Thing, things_of
from foremask.media import probe as probing
from foremask.media import verify as verifying
from foremask.media.pictures import read_picture
from foremask.media.reader import VideoReader
from foremask.media.verify import PromiseKept
from foremask.options import (
    PRESET_OF_SUFFIX,
    Device,
    Excerpt,
    MaskOptions,
    Preset,
    Quality,
    ResultKind,
)
from foremask.types import Alpha, Rgb
from foremask.vision.network.devices import network_at
from foremask.weights.catalogue import model_path

type Array = NDArray[Any] | Sequence[Any]
type FilePath = str | PathLike[str]
type QualityName = Quality | Literal["fast", "balanced", "best"]
type PresetName = (
    Preset
    | Literal[
        "mp4_h264",
        "mp4_h265",
        "webm_vp9",
        "mov_h265",
        "mov_proresks",
        "mkv_h264",
        "mkv_h265",
        "mkv_vp9",
        "gif",
    ]
)
type KindName = Literal["mask", "cutout", "composite"]
type OnProgress = Callable[[Progress], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport(Report):
    """The report of a masking, and the file that was written."""

    target: Path


def mask_video(
    source: FilePath,
    target: FilePath | None = None,
    *,
    quality: QualityName = "balanced",
    preset: PresetName | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    hints: Sequence[Hint] = (),
    cache: FilePath | None = None,
    device: Device | str = "auto",
    model: FilePath | None = None,
    on_progress: OnProgress | None = None,
    replace: bool = False,
) -> FileReport:
    """Write the mask video of a file; white is the foreground.

    Without ``target``, clip.mov is masked into clip.mask.mp4 beside it; the report has the name.
    Without ``preset``, the target's ending decides: .mp4, .webm, .mov, .mkv or .gif. ``start_s``
    and ``end_s``, in seconds from the first frame, ask for a part of it; times count from the
    start. ``hints`` say which thing is the subject, or is not (docs/hints.md); their frames and
    times count from the start too. ``cache`` is a file of the network's results, with which a later
    call with more hints takes a fraction of the time. ``on_progress`` is called in the caller's
    thread, and cancels by raising. ``target`` appears when it is whole.

    Raises FileNotFoundError; FieldInvalid for an argument that cannot be; ClipRefused for a clip
    that cannot be masked; ModelUnavailable where the weights are not here; OutputFailed where
    ``target`` is ``source``, or exists and ``replace`` is not set.
    """
    return Masker(quality=quality, device=device, model=model, preload=False).mask_video(
        source,
        target,
        preset=preset,
        start_s=start_s,
        end_s=end_s,
        hints=hints,
        cache=cache,
        on_progress=on_progress,
        replace=replace,
    )


@overload
def mask_frames(
    frames: Iterable[Array],
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> Generator[Alpha, None, None]: ...
@overload
def mask_frames[T: Tensor](
    frames: Iterable[T],
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> Generator[T, None, None]: ...
def mask_frames(
    frames: Iterable[Any],  # what the two above take
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> Generator[Any, None, None]:
    """One float32 alpha for each frame of a clip that is no file, in order, of the frame's size.

    A frame is uint8 of shape (height, width, 3), red first; all have one size. Tensors of another
    library that shares memory by DLPack, in the processor's memory, may also have their channels
    first; where it has a ``from_dlpack``, as PyTorch does, alphas are its tensors. Masks lag by
    up to 220 frames, since a frame is decided together with what comes after it; those wait in
    memory at 1.5 bytes a pixel. ``frames`` is drawn from in another thread, and never ends early:
    close the iterator to stop. Raises FieldInvalid where a frame is none, and ModelUnavailable.
    """
    return Masker(quality=quality, device=device, model=model, preload=False).mask_frames(frames)


@overload
def mask_image(
    image: Array | FilePath,
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> Alpha: ...
@overload
def mask_image[T: Tensor](
    image: T,
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> T: ...
def mask_image(
    image: Any,  # what the two above take
    *,
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> Any:
    """The float32 alpha of one picture: an array or a tensor as for `mask_frames`, or a file.

    A file is turned as viewers turn it. Raises what `mask_frames` raises, FileNotFoundError, and
    ClipRefused where the file is no picture.
    """
    return Masker(quality=quality, device=device, model=model, preload=False).mask_image(image)


def probe(source: FilePath) -> Clip:
    """What a clip is, from its header; raises ClipRefused where it cannot be masked."""
    return probing.probe(Path(source))


def verify(
    source: FilePath, made: FilePath, kind: ResultKind | KindName = "mask"
) -> list[PromiseKept]:
    """Check every promise of a mask, or of another ``kind``, from the two files alone.

    Raises PromiseBroken for the first that is not kept.
    """
    return verifying.verify(Path(source), Path(made), _member(ResultKind, kind, "kind"))


def read_frames(source: FilePath) -> Iterator[tuple[int, Rgb]]:
    """Each frame of a clip: its pts and its upright picture.

    The pts count in ``probe(source).time_base`` seconds. HDR is tone-mapped. Raises ClipRefused,
    also later, where the file breaks.
    """
    with VideoReader(Path(source)) as reader:
        for frame in reader:
            yield frame.pts, frame.rgb(frame.width, frame.height)


def read_masks(mask: FilePath) -> Iterator[tuple[int, Alpha]]:
    """Each frame of a mask video: its pts, and its upright alpha, 1 where the mask is white."""
    with VideoReader(Path(mask)) as reader:
        for frame in reader:
            levels = frame.orientation.to_upright(frame.luma())
            yield frame.pts, levels.astype(np.float32) / np.float32(255)


def find_things(
    source: FilePath,
    *,
    quality: QualityName = "balanced",
    cache: FilePath | None = None,
    device: Device | str = "auto",
    model: FilePath | None = None,
) -> list[Thing]:
    """List the things of a clip, the largest first, with the point that means each as a hint.

    This masks the clip, and writes only the ``cache``, which later hints read. Raises what
    `mask_video` raises before it writes.
    """
    masker = Masker(quality=quality, device=device, model=model, preload=False)
    kept = None if cache is None else Path(cache)
    return things_of(Path(source), dataclasses.replace(masker.options, cache=kept))


def contact_sheet(
    source: FilePath,
    mask: FilePath,
    target: FilePath,
    *,
    moments: int = 5,
    replace: bool = False,
) -> None:
    """Write a PNG of source, mask, overlay and cut-out at several moments of a clip."""
    comparison.contact_sheet(Path(source), Path(mask), Path(target), moments, replace=replace)


class Masker:
    """Masks with one quality and one network, which is loaded when the Masker is made.

    Threads may share it: their inferences take turns. A process keeps one network at a time, so two
    Maskers with different models load them in turn.
    """

    def __init__(
        self,
        *,
        quality: QualityName = "balanced",
        device: Device | str = "auto",
        model: FilePath | None = None,
        preload: bool = True,
    ) -> None:
        self.options = MaskOptions(
            quality=_member(Quality, quality, "quality"),
            device=device if isinstance(device, Device) else Device.parse(device),
            model=None if model is None else Path(model),
        )
        if preload:
            network_at(self.options.model or model_path(), self.options.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the network's memory; a Masker that is used again loads it again."""
        network_at.cache_clear()

    def mask_video(
        self,
        source: FilePath,
        target: FilePath | None = None,
        *,
        preset: PresetName | None = None,
        start_s: float = 0.0,
        end_s: float | None = None,
        hints: Sequence[Hint] = (),
        cache: FilePath | None = None,
        on_progress: OnProgress | None = None,
        replace: bool = False,
    ) -> FileReport:
        """As the function of this name."""
        chosen = None if preset is None else _member(Preset, preset, "preset")
        path = Path(source)
        suffix = (chosen or Preset.MP4_H264).suffix
        made = path.with_name(f"{path.stem}.mask{suffix}") if target is None else Path(target)
        options = dataclasses.replace(
            self.options,
            preset=chosen or _preset_for(made),
            excerpt=_excerpt(start_s, end_s),
            hints=tuple(hints),
            cache=None if cache is None else Path(cache),
        )

        on_frame = on_progress or pipeline.no_progress
        report = pipeline.mask_video(path, made, options, on_frame, replace=replace)
        facts = {each.name: getattr(report, each.name) for each in dataclasses.fields(report)}
        return FileReport(**facts, target=made)

    @overload
    def mask_frames(self, frames: Iterable[Array]) -> Generator[Alpha, None, None]: ...
    @overload
    def mask_frames[T: Tensor](self, frames: Iterable[T]) -> Generator[T, None, None]: ...
    def mask_frames(self, frames: Iterable[Any]) -> Generator[Any, None, None]:
        """As the function of this name."""
        return arrays.mask_arrays(frames, self.options)

    @overload
    def mask_image(self, image: Array | FilePath) -> Alpha: ...
    @overload
    def mask_image[T: Tensor](self, image: T) -> T: ...
    def mask_image(self, image: Any) -> Any:
        """As the function of this name."""
        if isinstance(image, str | PathLike):
            levels = stills.mask_frame(read_picture(Path(image)), self.options)
            return levels.astype(np.float32) / np.float32(255)
        (alpha,) = arrays.mask_arrays([image], self.options)
        return alpha


def _member[E: (Preset, Quality, ResultKind)](kind: type[E], value: str, name: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(each.value for each in kind)
        raise FieldInvalid(f"{name} is one of {known}, not {value!r}", param=name) from None


def _excerpt(start_s: float, end_s: float | None) -> Excerpt | None:
    if not start_s and end_s is None:
        return None
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise FieldInvalid(
            f"the excerpt from {start_s:g} s to {end_s} s is empty, or begins before the clip",
            param="start_s",
        )
    return Excerpt(start_s, end_s)


def _preset_for(target: Path) -> Preset:
    preset = PRESET_OF_SUFFIX.get(target.suffix.lower())
    if preset is None:
        known = ", ".join(PRESET_OF_SUFFIX)
        raise FieldInvalid(
            f"the preset does not follow from {target.name!r}: let the target end in {known}, or"
            " name a preset",
            param="preset",
        )
    return preset
