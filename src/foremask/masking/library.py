"""The Python library: masks and cut-outs of clips, pictures and arrays."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from itertools import chain, islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, Self, TypedDict, Unpack

import numpy as np
from msgspec import structs
from numpy.typing import ArrayLike, NDArray

from foremask.errors import FieldInvalid
from foremask.facts import Clip, Report
from foremask.hints.kinds import Hint, check_hints, marked_hints
from foremask.masking.cut_out import FrameCutter, opened_background
from foremask.masking.outputs import check_output, check_png, write_whole
from foremask.masking.runner import no_progress, run
from foremask.masking.sheet import draw_sheet, warnings_of
from foremask.masking.stills import cut_out_frame, mask_frame
from foremask.masking.thing_list import Thing, things_of
from foremask.media import probe as probing
from foremask.media import verify as verifying
from foremask.media.frames import Frame, frame_of
from foremask.media.pictures import is_picture, read_picture
from foremask.media.promises import PromiseKept
from foremask.media.reader import VideoReader
from foremask.options import (
    NO_MATTE,
    Background,
    Device,
    Excerpt,
    Files,
    Form,
    JobSpec,
    Matte,
    Preset,
    Quality,
    Resources,
    ResultKind,
    file_behind,
    form_for,
    form_named,
)
from foremask.pipeline.build import PipelineChange, ahead_frames, checked_clip, opened_masking
from foremask.pipeline.hinting import guidance_of_frames
from foremask.pipeline.network_masks import network_stages
from foremask.pipeline.networks import mask_finder_for, network_for
from foremask.pipeline.progress import OnProgress
from foremask.pipeline.stage_list import Pipeline, Queue, Stage
from foremask.pipeline.stages.ask import LAG_FRAMES
from foremask.pipeline.stages.decode import Decode
from foremask.pipeline.stages.edges import Edges
from foremask.pipeline.stages.mask import Mask
from foremask.pipeline.stages.pair import Pair
from foremask.pipeline.threads import BoundedQueue, Workers
from foremask.pipeline.trackers import forget_trackers, load_tracker, tracked_masker
from foremask.pipeline.values import MaskedFrame
from foremask.types import Alpha, Levels, Rgb, Rgba
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import model_path

MOST_WAITING: Final = 2 * LAG_FRAMES  # in frames, above the lag of any mask

type FilePath = str | PathLike[str]
type QualityName = Quality | Literal["fast", "balanced", "best"]
type PresetName = (
    Preset
    | Literal["mp4_h264", "mp4_h265", "webm_vp9", "mov_h265", "mov_proresks"]
    | Literal["mkv_h264", "mkv_h265", "mkv_vp9", "gif"]
)
type FormName = PresetName | Literal["png_zip", "png_files"]
type KindName = Literal["mask", "cutout", "composite"]


class NetworkOptions(TypedDict, total=False):
    """Arguments of every function that runs the network.

    ``quality`` is ``fast``, ``balanced`` (the default) or ``best``. ``device`` is ``auto`` (the
    default) or another name in docs/cli.md. ``network`` is a name that `foremask models` lists, by
    default ``isnet``. ``model`` is the path of another ONNX file. A ``tracker``, such as
    ``sam2.1-tiny``, follows the hints instead of the network (docs/models.md#trackers).
    """

    quality: QualityName
    device: Device | str
    network: str | None
    model: FilePath | None
    tracker: str | None


class FileReport(Report, frozen=True, kw_only=True):
    """The report of a mask or cut-out, and the path of its file."""

    target: Path

    def __repr__(self) -> str:
        return (
            f"<{self.kind} {str(self.target)!r}: {self.frames_out} frames, {self.duration_s:.2f} s,"
            f" {self.coverage:.0%} foreground, {len(self.warnings)} warnings>"
        )


def mask_video(
    source: FilePath,
    target: FilePath | None = None,
    *,
    preset: PresetName | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    hints: Sequence[Hint] = (),
    cache: FilePath | None = None,
    on_progress: OnProgress | None = None,
    change: PipelineChange | None = None,
    replace: bool = False,
    **network: Unpack[NetworkOptions],
) -> FileReport:
    """Write the mask video of a clip; white is the foreground.

    Without ``target``, the mask of clip.mov is clip.mask.mp4 beside it. Without ``preset``, the
    suffix of ``target`` decides: .mp4, .webm, .mov, .mkv or .gif. ``start_s`` and ``end_s``, in
    seconds from the first frame, select an excerpt. Times in the mask, and frames and times in
    ``hints``, count from ``start_s``. ``hints`` mark foreground or background (docs/hints.md).
    ``cache`` is a file for the network's results, or a directory of such files. Later calls with
    other hints reuse these results. ``on_progress`` is called in the caller's thread; an
    exception in it cancels the masking. ``change`` gets the `Pipeline` and returns the one to run,
    such as one with a stage more (docs/python.md). ``target`` appears only when it is complete.

    Raises FileNotFoundError; FieldInvalid for an invalid argument; ClipRefused for a clip
    that cannot be masked; ModelUnavailable if the weights are missing; OutputFailed if
    ``target`` is ``source``, or exists and ``replace`` is False.
    """
    form = None if preset is None else Form(_member(Preset, preset, "preset"))
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints), excerpt=Excerpt.of(start_s, end_s))
    made = _target(Path(source), target, f".mask{(form or spec.form).suffix}")
    spec = structs.replace(spec, form=form_for(made, spec.kind, form))
    files = Files(source=Path(source), target=made, cache=_path(cache), replace=replace)
    return _made(spec, files, on_progress, resources, change)


def cut_out(
    source: FilePath,
    target: FilePath | None = None,
    *,
    background: FilePath = "transparent",
    matte: Matte = NO_MATTE,
    preset: FormName | None = None,
    keep_sound: bool = True,
    mask: FilePath | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    hints: Sequence[Hint] = (),
    cache: FilePath | None = None,
    on_progress: OnProgress | None = None,
    change: PipelineChange | None = None,
    replace: bool = False,
    **network: Unpack[NetworkOptions],
) -> FileReport:
    """Write the subject of a clip or picture, with transparency or over a ``background``.

    A background is a colour by name or as ``#rrggbb``, ``blur`` or ``blur:RADIUS``, ``original`` or
    ``original:BRIGHTNESS``, or the path of a picture or of a video. Without ``target``, clip.mp4
    is cut out into clip.cutout.webm beside it, and photo.jpg into photo.cutout.png. Alpha is
    straight. Size, frames, times and sound are those of the source. A ``target`` like
    ``frames/%04d.png`` makes the directory ``frames``, which must be empty or new. ``mask`` is a
    mask file to use instead of the network. ``matte`` works on the alpha, and without
    ``keep_sound`` the result has no sound. Other arguments are those of `mask_video`.

    Raises the errors of `mask_video`, PresetUnsuitable for a transparent cut-out in a preset
    without alpha, FieldInvalid for a background picture that cannot be read, and ClipRefused for
    such a video.
    """
    path = Path(source)
    chosen, resources = _chosen(**network)
    spec = structs.replace(
        JobSpec.of_cut_out(fspath(background), matte, keep_sound=keep_sound),
        quality=chosen.quality,
        tracker=chosen.tracker,
        hints=tuple(hints),
        excerpt=Excerpt.of(start_s, end_s),
    )
    form = None if preset is None else form_named(preset)
    made, form = _cut_out_target(path, target, spec, form)
    files = Files(
        source=path,
        target=made,
        background=file_behind(fspath(background)),
        mask=_path(mask),
        cache=_path(cache),
        replace=replace,
    )
    spec = structs.replace(spec, form=form)
    return _made(spec, files, on_progress, resources, change)


@contextmanager
def pipeline_for(
    source: FilePath,
    *,
    hints: Sequence[Hint] = (),
    start_s: float = 0.0,
    end_s: float | None = None,
    cache: FilePath | None = None,
    **network: Unpack[NetworkOptions],
) -> Iterator[Pipeline]:
    """Yield the pipeline of a clip's masks, to look at, to change and to run once.

    Run it by ``with pipeline.running() as masked``, and iterate over `MaskedFrame`s; nothing is
    written. The arguments, and the errors, are those of `mask_video`.
    """
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints), excerpt=Excerpt.of(start_s, end_s))
    clip = checked_clip(Path(source), spec, resources.limits)
    with opened_masking(spec, Path(source), clip, resources, cache=_path(cache)) as masking:
        yield masking.pipeline


def mask_frames(
    frames: Iterable[ArrayLike], *, hints: Sequence[Hint] = (), **network: Unpack[NetworkOptions]
) -> Generator[Alpha, None, None]:
    """Yield a float32 alpha of the frame's size for each frame, in order.

    Frames are uint8 of shape (height, width, 3), red first, and all of one size. Masks lag by up
    to 222 frames, since a mask depends on later frames too. A waiting frame takes 1.5 bytes of
    memory per pixel. ``hints`` must name frames by number, among the first 412. Another thread
    iterates over ``frames``; close the returned iterator to stop the thread. Raises FieldInvalid
    for an invalid frame, and ModelUnavailable.
    """
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints))
    masked = _masked(iter(frames), spec, resources)
    return (levels.astype(np.float32) / np.float32(255) for _, levels in masked)


def mask_image(
    image: ArrayLike | FilePath, *, hints: Sequence[Hint] = (), **network: Unpack[NetworkOptions]
) -> Alpha:
    """Return the float32 alpha of one picture: an array as for `mask_frames`, or a file.

    A file's orientation tag is applied. Raises the errors of `mask_frames`, FileNotFoundError, and
    ClipRefused if the file is no picture.
    """
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints))
    levels = mask_frame(_frame(image), spec, resources)
    return levels.astype(np.float32) / np.float32(255)


def cut_out_frames(
    frames: Iterable[ArrayLike],
    *,
    background: FilePath = "transparent",
    matte: Matte = NO_MATTE,
    hints: Sequence[Hint] = (),
    **network: Unpack[NetworkOptions],
) -> Generator[Rgba, None, None]:
    """Yield each frame's subject as uint8 of shape (height, width, 4), with straight alpha.

    `cut_out` describes ``background``. Over a background, alpha is 255 everywhere. Chroma has
    half the resolution, as in 4:2:0 video. ``matte`` works on the alpha, as in `cut_out`. The
    other arguments are those of `mask_frames`.

    Raises the errors of `mask_frames`, FieldInvalid for an invalid background, and ClipRefused
    for a background video that cannot be read.
    """
    behind = Background.parse(fspath(background))
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints))
    return _cut_out_arrays(frames, behind, matte, spec, resources)


def cut_out_image(
    image: ArrayLike | FilePath,
    *,
    background: FilePath = "transparent",
    matte: Matte = NO_MATTE,
    hints: Sequence[Hint] = (),
    **network: Unpack[NetworkOptions],
) -> Rgba:
    """Cut the subject out of one picture, an array or a file.

    Return uint8 of shape (height, width, 4) with straight alpha. `cut_out` describes
    ``background``. Over a background, alpha is 255 everywhere. Raises the errors of `mask_image`.
    """
    behind = Background.parse(fspath(background))
    frame = _frame(image)
    chosen, resources = _chosen(**network)
    spec = structs.replace(chosen, hints=tuple(hints))
    levels = mask_frame(frame, spec, resources)
    colours, alpha = cut_out_frame(frame, behind, matte, levels)
    return _as_rgba(colours, alpha)


def probe(source: FilePath) -> Clip:
    """Read a clip's properties from its header; raises ClipRefused if the clip cannot be masked."""
    return probing.probe(Path(source))


def verify(
    source: FilePath, made: FilePath, kind: ResultKind | KindName = "mask"
) -> list[PromiseKept]:
    """Compare a mask, or a result of another ``kind``, with its source.

    Return the checks that passed. Raises PromiseBroken for the first check that fails.
    """
    return verifying.verify(Path(source), Path(made), _member(ResultKind, kind, "kind"))


def read_frames(source: FilePath) -> Iterator[tuple[int, Rgb]]:
    """Yield the pts and the upright picture of each frame of a clip.

    The unit of the pts is ``probe(source).time_base`` seconds. HDR is tone-mapped. The
    iteration raises ClipRefused if the clip cannot be read.
    """
    with VideoReader(Path(source)) as reader:
        for frame in reader:
            yield frame.pts, frame.rgb(frame.width, frame.height)


def read_masks(mask: FilePath) -> Iterator[tuple[int, Alpha]]:
    """Yield the pts and the upright alpha of each frame of a mask video; white is 1."""
    with VideoReader(Path(mask)) as reader:
        for frame in reader:
            levels = frame.orientation.to_upright(frame.luma())
            yield frame.pts, levels.astype(np.float32) / np.float32(255)


def find_things(
    source: FilePath, *, cache: FilePath | None = None, **network: Unpack[NetworkOptions]
) -> list[Thing]:
    """List the things of a clip, the largest first, each with a point on it as a hint.

    Such a hint chooses a thing that is in the mask, and adds one that is not.

    The clip is masked, but no mask is written. Later calls with hints can use the ``cache``. Raises
    the errors of `mask_video`, except OutputFailed.
    """
    chosen, resources = _chosen(**network)
    return things_of(Path(source), chosen.quality, resources, _path(cache))


def contact_sheet(
    source: FilePath, mask: FilePath, target: FilePath, *, moments: int = 5, replace: bool = False
) -> tuple[str, ...]:
    """Write a PNG that shows source, mask, overlay and cut-out at several times of a clip.

    Each row has its frame's number and time. Return warnings, such as of a mask that ends early.
    """
    sheet = Path(target)
    check_output(sheet, Path(source), Path(mask), replace=replace)
    check_png(sheet)
    warnings = warnings_of(Path(source), Path(mask))
    write_whole(sheet, draw_sheet(Path(source), Path(mask), moments), replace=replace)
    return warnings


def _as_method[**P, R](function: Callable[P, R]) -> Callable[Concatenate["Masker", P], R]:
    @wraps(function)
    def method(self: "Masker", /, *args: P.args, **asked: P.kwargs) -> R:
        options: Any = {**self.network, **asked}
        return function(*args, **options)

    method.__doc__ = "As the function of this name."
    return method


class Masker:
    """Library functions that share one quality and one network.

    With ``preload``, the constructor loads the network or the tracker. Threads may share a Masker.
    A process holds one of each at a time: a call of a Masker with another one loads it again.
    """

    def __init__(
        self,
        *,
        quality: QualityName = "balanced",
        device: Device | str = "auto",
        network: str | None = None,
        model: FilePath | None = None,
        tracker: str | None = None,
        preload: bool = True,
    ) -> None:
        self.network = NetworkOptions(
            quality=quality, device=device, network=network, model=model, tracker=tracker
        )
        _, resources = _chosen(**self.network)
        if preload and tracker is not None:
            load_tracker(tracker, resources)
        elif preload:
            network_for(resources)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the networks' memory; the Masker's next call loads them again."""
        from foremask.vision.network.devices import network_at  # loads OpenVINO
        from foremask.vision.network.prompted import prompted_network

        network_at.cache_clear()
        prompted_network.cache_clear()
        forget_trackers()

    mask_video = _as_method(mask_video)
    cut_out = _as_method(cut_out)
    mask_frames = _as_method(mask_frames)
    mask_image = _as_method(mask_image)
    cut_out_frames = _as_method(cut_out_frames)
    cut_out_image = _as_method(cut_out_image)


def _chosen(
    quality: QualityName = "balanced",
    device: Device | str = "auto",
    network: str | None = None,
    model: FilePath | None = None,
    tracker: str | None = None,
) -> tuple[JobSpec, Resources]:
    if not isinstance(device, Device):
        device = Device.parse(device)
    path = _path(model)
    if network is not None:
        if path is not None:
            raise FieldInvalid("name a network or a model, and not both", param="network")
        path = model_path(network=network)
    spec = JobSpec(quality=_member(Quality, quality, "quality"), tracker=tracker)
    return spec, Resources(device=device, model=path)


def _cut_out_target(
    source: Path, target: FilePath | None, spec: JobSpec, form: Form | None
) -> tuple[Path, Form]:
    if is_picture(source):
        return _target(source, target, f".cutout{Form.PNG.suffix}"), Form.PNG
    made = _target(source, target, f".cutout{(form or spec.form).suffix}")
    return made, form_for(made, spec.kind, form)


def _made(
    spec: JobSpec,
    files: Files,
    on_progress: OnProgress | None,
    resources: Resources,
    change: PipelineChange | None,
) -> FileReport:
    report = run(spec, files, on_progress or no_progress, resources, change=change)
    return FileReport(**structs.asdict(report), target=files.target)


def _frame(image: ArrayLike | FilePath) -> Frame:
    if isinstance(image, str | PathLike):
        return read_picture(Path(image))
    return frame_of(_checked_picture(image, 0, None), 0, exact=True)


def _path(file: FilePath | None) -> Path | None:
    return None if file is None else Path(file)


def _target(source: Path, target: FilePath | None, ending: str) -> Path:
    if target is None:
        return source.with_name(f"{source.stem}{ending}")
    return Path(target)


def _member[E: (Preset, Quality, ResultKind)](kind: type[E], value: str, name: str) -> E:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(each.value for each in kind)
        raise FieldInvalid(f"{name} is one of {known}, not {value!r}", param=name) from None


def _cut_out_arrays(
    arrays: Iterable[ArrayLike],
    behind: Background | None,
    matte: Matte,
    spec: JobSpec,
    resources: Resources,
) -> Generator[Rgba, None, None]:
    with opened_background(behind, 0.0) as drawn:
        cutter = FrameCutter(matte, drawn)
        for frame, levels in _masked(iter(arrays), spec, resources):
            colours, alpha = cutter.cut(levels, frame)
            yield _as_rgba(colours, alpha)


def _as_rgba(colours: NDArray[np.generic], levels: Levels | None) -> Rgba:
    alpha = levels
    if alpha is None:
        alpha = np.full(colours.shape[:2], 255, np.uint8)
    return np.dstack([np.asarray(colours, np.uint8), alpha])


def _masked(
    arrays: Iterator[ArrayLike], spec: JobSpec, resources: Resources
) -> Iterator[MaskedFrame]:
    first = next(arrays, None)
    if first is None:
        return
    height, width = _checked_picture(first, 0, None).shape[:2]
    frames = (
        frame_of(_checked_picture(array, index, (height, width)), index)
        for index, array in enumerate(chain([first], arrays))
    )
    begin: list[Frame] = []
    if spec.hints:
        begin = list(islice(frames, _hinted_until(spec.hints, (width, height))))
    kept = BoundedQueue[Frame](MOST_WAITING)
    ahead = ahead_frames(3 * height * width // 2, spec.quality)
    with Workers() as workers:
        stages = [
            Decode(kept=kept),
            *_stages(spec, resources, begin, (width, height), workers),
            Pair(kept),
            Edges(ahead),
        ]
        with Pipeline(chain(begin, frames), stages).running() as masked:
            yield from masked


def _stages(
    spec: JobSpec,
    resources: Resources,
    begin: list[Frame],
    size_px: tuple[int, int],
    workers: Workers,
) -> Sequence[Stage | Queue]:
    """The stages from images to masks; all hints are on frames of ``begin``."""

    def opened() -> AbstractContextManager[Iterable[Frame]]:
        return nullcontext(begin)

    if spec.chosen_tracker is not None:
        return [Mask(tracked_masker(spec, resources, opened, size_px))]
    network = network_for(resources)
    finder = mask_finder_for(resources)
    guidance = None
    if spec.hints:
        guidance = guidance_of_frames(opened, spec.hints, size_px, network, spec.quality, finder)
    return network_stages(workers, network, TIERS[spec.quality], guidance=guidance)


def _hinted_until(hints: Sequence[Hint], size_px: tuple[int, int]) -> int:
    check_hints(hints, size_px=size_px)
    marked = marked_hints(hints)
    for number, hint in enumerate(marked):
        if hint.time_s is not None or (hint.frame or 0) >= MOST_WAITING:
            raise FieldInvalid(
                f"hints[{number}] must be on one of the first {MOST_WAITING} frames, by its number:"
                " arrays have no times, and all before it wait in memory",
                param=f"hints[{number}]",
                limit=MOST_WAITING - 1,
                actual=hint.frame,
            )
    return 1 + max((hint.frame or 0 for hint in marked), default=0)


def _checked_picture(array: ArrayLike, index: int, shape: tuple[int, int] | None) -> Rgb:
    """Return the pixels of frame ``index``; raise FieldInvalid if they are not RGB of ``shape``."""
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
