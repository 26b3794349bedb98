"""Makes the result that a job asks for: the one runner of the command, the library and workers."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from foremask.errors import Internal
from foremask.facts import Clip, Report, Span
from foremask.masking.cut_out import write_cut_out
from foremask.masking.handoff import write_folder
from foremask.masking.outputs import check_target, written_whole
from foremask.masking.stills import write_picture
from foremask.masking.stored_mask import write_again
from foremask.masking.write_masked import write_masked
from foremask.media.presets import KEPT_MASK
from foremask.media.probe import excerpt_of
from foremask.media.writer import MaskWriter
from foremask.options import (
    TOOL_FORMS,
    Files,
    Form,
    JobSpec,
    Resources,
    ResultKind,
)
from foremask.pipeline.build import (
    Masking,
    PipelineChange,
    checked_clip,
    opened_masking,
    opened_stored,
)
from foremask.pipeline.clip_file import ClipFile
from foremask.pipeline.progress import OnProgress, Progress
from foremask.pipeline.values import ImageMasker


def no_progress(_: Progress) -> None: ...


def run(
    spec: JobSpec,
    files: Files,
    on_progress: OnProgress = no_progress,
    resources: Resources = Resources(),  # noqa: B008  (frozen)
    span: Span | None = None,
    clip_start_s: float | None = None,
    *,
    masker: ImageMasker | None = None,
    change: PipelineChange | None = None,
) -> Report:
    """Make what ``spec`` asks for of ``files.source``, and write it to ``files.target``.

    `foremask.mask_video` and `foremask.cut_out` describe the outputs, the errors and
    ``on_progress``. If a mask of a clip is wanted and ``files.mask`` is given, that mask is written
    in the form and with the edges of ``spec``, and the source is not read. With a ``span``, the
    source is a segment from `segments.cut`, and the target is a part for `segments.join`;
    ``clip_start_s`` is then the first timestamp of the whole clip.
    ``masker`` replaces the network; ``change`` puts further stages into the pipeline.
    """
    sources = [each for each in (files.source, files.mask) if each is not None]
    check_target(spec, files.target, sources, background=files.background, replace=files.replace)
    if spec.form is Form.PNG:
        return write_picture(spec, files, resources)
    if spec.kind is ResultKind.MASK and files.mask is not None:
        return write_again(spec, files, files.mask, on_progress, resources.limits)
    if spec.auto_zoom and files.mask is None:
        return _zoomed(spec, files, on_progress, resources, masker, change)
    clip_file = ClipFile(files.source)
    clip = checked_clip(files.source, spec, resources.limits)
    clip = dataclasses.replace(clip, warnings=(*clip.warnings, *spec.remarks))
    part = excerpt_of(clip, spec.excerpt)
    on_progress(Progress(0, part.expected_frames, total_is_known=part.frames is not None))
    with _opened(spec, files, clip, resources, span, masker, change) as opened:
        masking = dataclasses.replace(opened, clip_file=clip_file)
        if spec.form in TOOL_FORMS:
            return write_folder(masking, files.target, on_progress)
        if spec.kind is ResultKind.MASK:
            return _write_mask(masking, files, on_progress)
        return write_cut_out(masking, files, on_progress, clip_start_s)


@contextmanager
def _opened(
    spec: JobSpec,
    files: Files,
    clip: Clip,
    resources: Resources,
    span: Span | None,
    masker: ImageMasker | None,
    change: PipelineChange | None,
) -> Iterator[Masking]:
    if files.mask is not None:
        with opened_stored(
            spec,
            files.source,
            clip,
            resources.limits,
            files.mask,
            mask_is_excerpt=files.mask_is_excerpt,
        ) as masking:
            yield masking
        return
    with opened_masking(
        spec,
        files.source,
        clip,
        resources,
        cache=files.cache,
        span=span,
        masker=masker,
        change=change,
    ) as masking:
        yield masking


def _zoomed(
    spec: JobSpec,
    files: Files,
    on_progress: OnProgress,
    resources: Resources,
    masker: ImageMasker | None,
    change: PipelineChange | None,
) -> Report:
    """Make the mask of all frames first: it decides what each of them is cropped to."""
    mask = files.mask_target
    if mask is None:
        raise Internal("auto_zoom needs a file for the mask")
    whole = JobSpec(
        form=KEPT_MASK,
        quality=spec.quality,
        hints=spec.hints,
        tracker=spec.tracker,
        excerpt=spec.excerpt,
    )
    by_network = Files(source=files.source, target=mask, cache=files.cache)
    masked = run(whole, by_network, on_progress, resources, masker=masker, change=change)
    by_mask = msgspec.structs.replace(
        files, mask=mask, mask_is_excerpt=True, mask_target=None, cache=None
    )
    report = run(spec, by_mask, on_progress, resources)
    return msgspec.structs.replace(report, stage_cpu_s=masked.stage_cpu_s, runtime=masked.runtime)


def _write_mask(masking: Masking, files: Files, on_progress: OnProgress) -> Report:
    spec = masking.spec
    with (
        written_whole(files.target, replace=files.replace) as part,
        MaskWriter(
            part,
            spec.form,
            masking.clip,
            files.source,
            part=masking.span is not None,
            excerpt=spec.excerpt,
        ) as writer,
    ):
        return write_masked(masking, [writer], on_progress, spec.matte)
