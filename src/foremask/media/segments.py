"""Splits a clip into segments, and joins their masks, by copying video packets."""

import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from foremask.errors import CorruptVideo
from foremask.facts import SEGMENT_GRID, SegmentGrid, SegmentPlan, Written
from foremask.media.demux import Container, OpenClip, open_clip
from foremask.media.mask_file import MaskFile, movie_timescale
from foremask.media.packets import writing
from foremask.media.presets import recipe_of
from foremask.media.probe import ACCEPTED_CODECS, clip_of
from foremask.media.reader import VideoReader
from foremask.options import Form, ResultKind


def plan(path: Path, most: int, grid: SegmentGrid = SEGMENT_GRID) -> list[SegmentPlan]:
    """Plan at most ``most`` segments of nearly equal length, cut at multiples of ``window_frames``.

    Only `ACCEPTED_CODECS` in mp4, mov and webm can be cut. Other clips get one segment. So do
    short clips, and clips with keyframes over ``grid.least_frames`` frames apart.
    """
    can_cut, shown, keys = _timestamps(path)
    groups = [bisect_left(shown, key) for key in keys]
    gaps = [after - before for before, after in pairwise([*groups, len(shown)])]
    can_cut = can_cut and max(gaps, default=0) <= grid.least_frames and bool(keys)
    windows = len(shown) // grid.window_frames
    most = min(most, 1 + len(shown) // grid.frames_per_cut)
    number = min(most, windows * grid.window_frames // grid.least_frames)
    if not can_cut or number < 2:
        return [SegmentPlan(min([0, *keys[:1]]), None)]
    each, more = divmod(windows, number)
    starts = [grid.window_frames * (each * k + min(k, more)) for k in range(number)]
    return [
        _segment(start, end, shown, keys, grid.context_frames)
        for start, end in zip(starts, [*starts[1:], len(shown)], strict=True)
    ]


def _segment(
    start: int, end: int, shown: list[int], keys: list[int], context_frames: int
) -> SegmentPlan:
    shown_from = shown[max(0, start - context_frames)]
    before = [key for key in keys if key <= shown_from]
    end_pts = _at(shown, end)
    shown_until = _at(shown, end + context_frames)
    after: list[int] = []
    if shown_until is not None:
        after = [key for key in keys if key >= shown_until]
    return SegmentPlan(
        first_pts=shown[start] if start else min(0, shown[0]),
        end_pts=end_pts,
        shown_from_pts=shown_from if start else None,
        shown_until_pts=shown_until,
        copy_from_pts=before[-1] if before else keys[0],
        # In an open group of pictures, some frames are shown before the keyframe that precedes
        # them in the file. So copy one more group.
        copy_until_pts=_at(after, 1),
    )


def _at(pts: list[int], number: int) -> int | None:
    if number >= len(pts):
        return None
    return pts[number]


def cut(path: Path, segment: SegmentPlan, target: Path) -> None:
    start = segment.copy_from_pts
    stop = segment.copy_until_pts
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
            at = f"in the span from pts {segment.first_pts}"
            raise CorruptVideo(f"The video breaks {at}: {error.strerror}.") from error


@contextmanager
def _copied(source: OpenClip, target: Path) -> Iterator[tuple[OutputContainer, VideoStream]]:
    clip = clip_of(source)
    options = {
        "movie_timescale": str(movie_timescale(clip.tick_s)),
        "video_track_timescale": str(clip.time_base[1]),
    }
    muxer = "mp4"
    if clip.codec == "mjpeg":  # mp4 does not hold it; both muxers keep every pts
        muxer = "mov"
    with writing(), av.open(f"file:{target}", "w", format=muxer, container_options=options) as out:
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
    """Join ``parts`` (no gifs or PNGs) with the audio of ``source`` by copying packets."""
    with VideoReader(source) as reader:
        clip = reader.clip
        end = reader.declared_end
    recipe = recipe_of(form, kind)
    with MaskFile(target, recipe, clip, source if keep_sound else None, part=False) as file:
        file.take(parts)
        return file.finish(end)


def _timestamps(path: Path) -> tuple[bool, list[int], list[int]]:
    """Return whether the clip can be cut, and the sorted pts of frames and of keyframes."""
    shown = list[int]()
    keys = list[int]()
    with open_clip(path) as opened:
        track = opened.track
        for packet in opened.demuxer.demux(track):
            if packet.pts is not None and packet.size:
                if not packet.is_discard:
                    shown.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        cuttable = (Container.MP4, Container.MOV, Container.WEBM)
        can_cut = opened.container in cuttable and clip_of(opened).codec in ACCEPTED_CODECS
    return can_cut, sorted(shown), sorted(keys)
