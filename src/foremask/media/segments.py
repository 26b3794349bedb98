"""Cuts a clip into segments without loss or overlap, and joins their masks again."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from foremask.errors import CorruptVideo
from foremask.facts import Clip, SegmentPlan, Written
from foremask.media.colour_presets import recipe_of
from foremask.media.demux import Container, OpenClip, open_clip
from foremask.media.frames import Frame
from foremask.media.mask_file import MaskFile, movie_timescale
from foremask.media.orientation import Orientation
from foremask.media.presets import RECIPES
from foremask.media.probe import ACCEPTED_CODECS, clip_of
from foremask.media.reader import VideoReader
from foremask.media.write_errors import writing
from foremask.media.writer import MaskWriter
from foremask.options import Form, Preset, ResultKind

_CUTTABLE: Final = (Container.MP4, Container.MOV, Container.WEBM)
_MUXERS: Final = {"mjpeg": "mov"}  # all else goes into mp4; both keep every pts


def plan(path: Path, target_s: float) -> list[SegmentPlan]:
    """Spans that begin at keyframes, each ``target_s`` long or a little longer.

    One span for a clip that cannot be cut exactly: few keyframes, AVI (no pts), gif,
    codecs beyond the contract's.
    """
    can_cut, keys, time_base = _keyframes(path)
    cuts: list[int] = []
    if can_cut:
        for key in keys[1:]:
            if (key - (cuts[-1] if cuts else keys[0])) * time_base >= target_s:
                cuts.append(key)
    if not cuts:
        return [SegmentPlan(min([0, *keys[:1]]), None)]
    starts = [min(0, keys[0]), *cuts]
    return [_segment(start, end, keys) for start, end in zip(starts, [*cuts, None], strict=True)]


def _segment(first_pts: int, end_pts: int | None, keys: list[int]) -> SegmentPlan:
    """A span with its packets, and with a group of pictures on either side.

    The group before shows the masks of the span what came before. The group that begins at the
    span's end may have packets that are shown before that end.
    """
    before = [key for key in keys if key < first_pts]
    after = [key for key in keys if end_pts is not None and key > end_pts]
    return SegmentPlan(
        first_pts, end_pts, before[-1] if before else keys[0], after[0] if after else None
    )


def cut(path: Path, segment: SegmentPlan, target: Path) -> None:
    """Copy the packets of a segment, with their timestamps, into a file of its own."""
    start, stop = segment.copy_from_pts, segment.copy_until_pts
    if start is None:
        with writing():
            shutil.copyfile(path, target)
        return
    with open_clip(path) as source, _copied(source, target) as (out, copy):
        track = source.track
        source.demuxer.seek(start, stream=track, backward=True)
        try:
            for packet in source.demuxer.demux(track):
                if packet.pts is None or not packet.size:
                    continue
                if packet.is_keyframe and stop is not None and packet.pts >= stop:
                    break
                packet.stream = copy
                with writing():
                    out.mux(packet)
        except av.FFmpegError as error:
            raise CorruptVideo(
                f"The video breaks in the span from pts {segment.first_pts}: {error.strerror}.",
            ) from error


@contextmanager
def _copied(source: OpenClip, target: Path) -> Iterator[tuple[OutputContainer, VideoStream]]:
    """A file whose one track is as that of ``source``, and counts in the same ticks."""
    clip = clip_of(source)
    options = {
        "movie_timescale": str(movie_timescale(Fraction(*clip.time_base))),
        "video_track_timescale": str(clip.time_base[1]),
    }
    muxer = _MUXERS.get(clip.codec, "mp4")
    with (
        writing(),
        av.open(f"file:{target}", "w", format=muxer, container_options=options) as out,
    ):
        copy = out.add_stream_from_template(source.track, opaque=True)
        copy.time_base = source.track.time_base
        if clip.matrix:
            copy.set_display_matrix(clip.matrix)
        yield out, copy


def join(
    parts: Sequence[Path],
    source: Path,
    target: Path,
    form: Form,
    kind: ResultKind = ResultKind.MASK,
    *,
    keep_sound: bool = True,
) -> Written:
    """Put the parts together in order, with the sound of the source.

    Packet by packet, but for the gif of a mask: its parts are encoded again, without loss. Of
    cut-outs and composites, ``form`` must be joinable: `options.is_joinable`.
    """
    with VideoReader(source) as reader:
        clip, end_pts, time_base = reader.clip, reader.declared_end_pts, reader.time_base
    if kind is ResultKind.MASK and isinstance(form, Preset):
        if form is Preset.GIF:
            return _join_gif(parts, target, clip, end_pts)
        recipe = RECIPES[form]
    else:
        recipe = recipe_of(form)
    file = MaskFile(target, recipe, clip, source if keep_sound else None, part=False)
    try:
        file.take(parts)
        return file.finish(end_pts, time_base)
    except BaseException:
        file.abandon()
        raise


def _join_gif(parts: Sequence[Path], target: Path, clip: Clip, end_pts: int | None) -> Written:
    """FFmpeg's gif muxer mistimes the first packet of an encoder that was started again."""
    time_base, index = Fraction(*clip.time_base), 0
    orientation = Orientation.from_matrix(clip.matrix)
    with MaskWriter(target, Preset.GIF, clip, None) as writer:
        for part in parts:
            with av.open(f"file:{part}", "r", format="nut") as opened:
                for decoded in opened.decode(video=0):
                    base = decoded.time_base
                    moment = (decoded.pts or 0) * Fraction(base.numerator, base.denominator)
                    pts = round(moment / time_base)
                    frame = Frame(decoded, index, pts, None, time_base, orientation)
                    writer.write(frame.luma(), frame)
                    index += 1
        return writer.finish(end_pts, time_base)


def _keyframes(path: Path) -> tuple[bool, list[int], Fraction]:
    """Whether the clip can be cut at keyframes; the pts of all, in order, and their time base."""
    with open_clip(path) as opened:
        track = opened.track
        base = track.time_base
        keys = [
            packet.pts
            for packet in opened.demuxer.demux(track)
            if packet.is_keyframe and packet.pts is not None and packet.size
        ]
        can_cut = opened.container in _CUTTABLE and clip_of(opened).codec in ACCEPTED_CODECS
    return can_cut, sorted(keys), Fraction(base.numerator, base.denominator)
