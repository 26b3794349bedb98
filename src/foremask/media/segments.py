"""Cuts a clip into spans that are masked apart, and joins the masks again, without loss or overlap."""

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import av

from foremask.errors import CorruptVideo
from foremask.facts import Clip, Span, Written
from foremask.media.demux import Container, Window, open_container, recognise, video_stream
from foremask.media.frames import Frame, Orientation
from foremask.media.mask_file import MaskFile, movie_timescale
from foremask.media.probe import describe
from foremask.media.reader import VideoReader
from foremask.media.write_errors import writing
from foremask.media.writer import MaskWriter
from foremask.options import Preset

_CUTTABLE: Final = (Container.MP4, Container.MOV, Container.WEBM)
_MUXERS: Final = {"mjpeg": "mov"}  # all else goes into mp4; both keep every pts


def plan(path: Path, target_s: float) -> list[Span]:
    """Spans that begin at keyframes, each ``target_s`` long or a little longer.

    One span for a clip that cannot be cut exactly: few keyframes, AVI (no pts), gif.
    """
    container, keys, time_base = _keyframes(path)
    cuts: list[int] = []
    if container in _CUTTABLE:
        for key in keys[1:]:
            if (key - (cuts[-1] if cuts else keys[0])) * time_base >= target_s:
                cuts.append(key)
    first = keys[0] if keys else 0
    starts = [min(0, first), *cuts]
    ends = [*cuts, None]
    return [Span(start, end) for start, end in zip(starts, ends, strict=True)]


def cut(path: Path, span: Span, target: Path) -> None:
    """Copy the packets that a span needs, with their timestamps, into a file of its own.

    It begins one group of pictures sooner, so that the masks of the span know what came before, and
    ends with the group that begins at the span's end, whose first packets may be shown before it.
    """
    container, keys, _ = _keyframes(path)
    before = [key for key in keys if key < span.first_pts]
    after = [key for key in keys if span.end_pts is not None and key > span.end_pts]
    if not before and not after and (span.end_pts is None or container not in _CUTTABLE):
        with writing():
            shutil.copyfile(path, target)
        return
    start = before[-1] if before else keys[0]
    stop = after[0] if after else None
    clip = describe(path)
    muxer = _MUXERS.get(clip.codec, "mp4")
    options = {
        "movie_timescale": str(movie_timescale(Fraction(*clip.time_base))),
        "video_track_timescale": str(clip.time_base[1]),  # a span counts in the source's ticks
    }
    with (
        writing(),
        open_container(container, path) as source,
        av.open(f"file:{target}", "w", format=muxer, container_options=options) as out,
    ):
        track = video_stream(source)
        copy = out.add_stream_from_template(track, opaque=True)
        copy.time_base = track.time_base
        if clip.matrix:
            copy.set_display_matrix(clip.matrix)
        source.seek(start, stream=track, backward=True)
        try:
            for packet in source.demux(track):
                if packet.pts is None or not packet.size:
                    continue
                if packet.is_keyframe and stop is not None and packet.pts >= stop:
                    break
                packet.stream = copy
                with writing():
                    out.mux(packet)
        except av.FFmpegError as error:
            raise CorruptVideo(
                f"The video breaks in the span from pts {span.first_pts}: {error.strerror}.",
                param="video",
            ) from error


def join(parts: Sequence[Path], source: Path, target: Path, preset: Preset) -> Written:
    """Put the parts together in order, with the sound of the source.

    Packet by packet, but for a gif: its parts are encoded again, without loss.
    """
    with VideoReader(source) as reader:
        clip, end_pts, time_base = reader.clip, reader.declared_end_pts, reader.time_base
    if preset is Preset.GIF:
        return _join_gif(parts, target, clip, end_pts)
    file = MaskFile(target, preset, clip, source, part=False)
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


def _keyframes(path: Path) -> tuple[Container, list[int], Fraction]:
    with path.open("rb") as file:
        container = recognise(Window(file, max_bytes=1 << 40))
    with open_container(container, path) as opened:
        track = video_stream(opened)
        base = track.time_base
        keys = [
            packet.pts
            for packet in opened.demux(track)
            if packet.is_keyframe and packet.pts is not None and packet.size
        ]
    return container, sorted(keys), Fraction(base.numerator, base.denominator)
