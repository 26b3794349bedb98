"""Compares a mask file with its source: size, times, levels and audio."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import av
import numpy as np
from av.packet import Packet

from foremask.errors import PromiseBroken
from foremask.facts import Clip
from foremask.media.audio import BIBLIOGRAPHIC, HOLD_NO_EMPTY_TRACK
from foremask.media.colour import is_full, plane_of
from foremask.media.demux import open_clip, sniff
from foremask.media.frames import Orientation
from foremask.media.packets import AnyPacket
from foremask.media.pictures import HEAD_BYTES, is_picture, read_picture
from foremask.media.png_sequence import TABLE, missing_from
from foremask.media.presets import BLOCK_ADDITIONAL
from foremask.media.probe import fraction, language_of
from foremask.media.reader import VideoReader
from foremask.options import ResultKind

_TOLERANCE_S: Final = {"mp4": 0, "mov": 0, "webm": 0.001, "mkv": 0.001, "gif": 0.01}
_VP9_INTER: Final = 0b100  # in profile 0, this bit of the first byte is clear in keyframes
_ROUNDING_S: Final = 1e-6
_COPIED_S: Final = 0.001
_COPIED_END_S: Final = 0.02  # Matroska rounds timestamps.
_TRANSCODED_S: Final = 0.05  # The encoder may add or lose an audio frame at each end.
_BLACK, _WHITE, _NEUTRAL = 16, 235, 128
_BEYOND: Final = 14  # tolerance in levels; a tolerance of 16 would allow black at 0
_TINT: Final = 2


@dataclass(frozen=True, slots=True)
class PromiseKept:
    """A check that passed: its name, and the value that the mask has."""

    promise: str
    found: str


@dataclass(frozen=True, slots=True)
class _Sound:
    codec: str
    language: str | None
    tick_s: float
    start_s: float
    end_s: float
    empty: bool


def verify(source: Path, mask: Path, kind: ResultKind = ResultKind.MASK) -> list[PromiseKept]:
    """Check size, aspect, rotation, frames, levels, every pts, the last duration and the sound.

    Frames of a cut-out must have alpha; their levels are not checked. For a picture, only the size
    is checked; for a PNG sequence, only that the files in its table exist. Raises PromiseBroken for
    the first check that fails; its ``param`` names the check.
    """
    if mask.is_dir() or is_zipfile(mask):
        missing = missing_from(mask)
        if missing is not None:
            raise PromiseBroken(f"{mask.name} lacks {missing}.", param="files")
        return [PromiseKept("files", f"all of {TABLE}")]
    if is_picture(source) and not _is_video(mask):  # the mask of an animated PNG is a video
        sizes = [(each.width, each.height) for each in map(read_picture, (mask, source))]
        return [_same_size(*sizes)]
    with VideoReader(source) as wanted, VideoReader(mask) as found:
        form = found.clip.container
        if form not in _TOLERANCE_S:
            raise PromiseBroken(f"No mask is a {form} file.", param="container")
        has_alpha_blocks = kind is ResultKind.CUTOUT and found.clip.codec == "vp9"
        checks = [PromiseKept("container", form), *_picture(wanted.clip, found.clip)]
        checks += _frames(found, wanted, None if has_alpha_blocks else kind)
        if has_alpha_blocks:
            checks.append(_alpha_blocks(mask))
    if form != "gif":
        checks += _sounds(source, mask, wanted.clip.start_s, form)
    return checks


def _is_video(mask: Path) -> bool:
    with mask.open("rb") as file:
        return sniff(file.read(HEAD_BYTES)) is not None


def _check(promise: str, kept: bool, found: str, wanted: str, **numbers: float) -> PromiseKept:
    if not kept:
        details = f"The {promise} of the mask is {found}; that of the source is {wanted}."
        raise PromiseBroken(details, param=promise, **numbers)
    return PromiseKept(promise, found)


def _same_size(found: tuple[int, int], wanted: tuple[int, int]) -> PromiseKept:
    return _check("size", found == wanted, *[f"{each[0]}x{each[1]}" for each in (found, wanted)])


def _picture(wanted: Clip, found: Clip) -> Iterator[PromiseKept]:
    size, aspect = (wanted.width, wanted.height), Fraction(*wanted.sample_aspect_ratio)
    orientation = Orientation.from_matrix(wanted.matrix)
    turn = orientation.rotation, orientation.mirrored
    if found.container == "gif":
        if orientation.transposed:
            size, aspect = size[::-1], 1 / aspect
        turn = 0, False
    got, got_turn = (found.width, found.height), (found.rotation, found.mirrored)
    yield _same_size(got, size)
    yield _check("rotation", got_turn == turn, _turned(*got_turn), _turned(*turn))
    if found.container == "gif":
        return  # players ignore the aspect that a gif declares
    got_aspect = Fraction(*found.sample_aspect_ratio)
    pixel = Fraction(1, round(found.width * aspect) or 1)  # WebM rounds display sizes
    is_near = abs(got_aspect / aspect - 1) <= max(Fraction(1, 500), pixel)
    yield _check("aspect", is_near, f"{got_aspect}", f"{aspect}")


def _turned(degrees: int, mirrored: bool) -> str:
    return f"{degrees} degrees{', mirrored' if mirrored else ''}"


def _frames(
    found: VideoReader, wanted: VideoReader, kind: ResultKind | None
) -> Iterator[PromiseKept]:
    promise, fault = _FAULTS.get(kind, (None, None)) if kind else (None, None)
    is_gif = found.clip.container == "gif"
    tolerance_s = _TOLERANCE_S[found.clip.container] + _ROUNDING_S
    count, worst_s = 0, 0.0
    origin_s = 0.0  # a gif begins at time zero, even if its source does not
    for ours, theirs in zip_longest(found, wanted):
        if ours is None or theirs is None:
            more = "source" if ours is None else "mask"
            raise PromiseBroken(f"The {more} goes on after frame {count}.", param="frames")
        if not count and is_gif:
            origin_s = theirs.time_s
        sizes = [(each.width, each.height) for each in (ours, theirs)]
        texts = [f"{width}x{height} in frame {count}" for width, height in sizes]
        _check("size", sizes[0] == sizes[1], *texts)
        off_s = abs(origin_s + ours.time_s - theirs.time_s)
        worst_s = max(worst_s, off_s)
        texts = [f"{each.time_s:.6f} s in frame {count}" for each in (ours, theirs)]
        _check("pts", off_s <= tolerance_s, *texts, limit=tolerance_s, actual=off_s)
        if fault and (message := fault(ours.decoded)):
            raise PromiseBroken(f"Frame {count} {message}.", param=promise)
        count += 1
    yield PromiseKept("frames", str(count))
    if kind is ResultKind.MASK:
        yield PromiseKept("levels", "grey")
    yield PromiseKept("pts", f"within {1000 * worst_s:.3f} ms")
    end_s, wanted_end_s = origin_s + float(found.end or 0), float(wanted.end or 0)
    is_near = abs(end_s - wanted_end_s) <= 1.5 * tolerance_s  # start and duration are both rounded
    ends = f"ends at {end_s:.6f} s", f"ends at {wanted_end_s:.6f} s"
    yield _check("last duration", is_near, *ends)


def _level_fault(decoded: av.VideoFrame) -> str | None:
    if decoded.format.name == "bgra":  # the format of decoded gifs
        blue, green, red = np.moveaxis(decoded.to_ndarray(), 2, 0)[:3]
        has_colour = not (np.array_equal(blue, green) and np.array_equal(green, red))
        return "has a colour" if has_colour else None
    if is_full(decoded):
        return "says that its range is full, and not limited"
    step = 1 << (decoded.format.components[0].bits - 8)
    luma = plane_of(decoded, 0)
    darkest, brightest = luma.min() / step, luma.max() / step
    if darkest < _BLACK - _BEYOND or brightest > _WHITE + _BEYOND:
        return f"has luma from {darkest:g} to {brightest:g}; black is {_BLACK} and white {_WHITE}"
    for chroma in (plane_of(decoded, 1), plane_of(decoded, 2)):
        if max(chroma.max() / step - _NEUTRAL, _NEUTRAL - chroma.min() / step) > _TINT:
            return "has a colour"
    return None


def _alpha_fault(decoded: av.VideoFrame) -> str | None:
    has_alpha = any(component.is_alpha for component in decoded.format.components)
    return None if has_alpha else f"has no alpha: it is {decoded.format.name}"


_FAULTS: Final = {
    ResultKind.MASK: ("levels", _level_fault),
    ResultKind.CUTOUT: ("alpha", _alpha_fault),
}


def _alpha_blocks(made: Path) -> PromiseKept:
    """Check that each packet has alpha, and that the alpha of each keyframe is a keyframe."""
    decoder: Any = av.CodecContext.create("vp9", "r")
    count, lowest, highest = 0, 255, 0
    with open_clip(made) as opened:
        size = opened.track.codec_context.width, opened.track.codec_context.height
        for packet in opened.demuxer.demux(opened.track):
            if not packet.size:
                continue
            has_alpha = packet.has_sidedata(BLOCK_ADDITIONAL)
            data = bytes(packet.get_sidedata(BLOCK_ADDITIONAL))[8:] if has_alpha else b""
            if not data:
                raise PromiseBroken(f"Frame {count} has no alpha.", param="alpha")
            if packet.is_keyframe and data[0] & _VP9_INTER:
                details = f"Frame {count} is a keyframe, and its alpha is not."
                raise PromiseBroken(details, param="alpha")
            try:
                alphas = decoder.decode(Packet(data))
            except av.FFmpegError as error:
                details = f"The alpha of frame {count} cannot be decoded: {error.strerror}."
                raise PromiseBroken(details, param="alpha") from error
            for alpha in alphas:
                if (alpha.width, alpha.height) != size:
                    details = f"The alpha of frame {count} is {alpha.width}x{alpha.height}."
                    raise PromiseBroken(details, param="alpha")
                plane = plane_of(alpha, 0)
                lowest, highest = min(lowest, int(plane.min())), max(highest, int(plane.max()))
            count += 1
    return PromiseKept("alpha", f"{count} frames, from {lowest} to {highest}")


def _sounds(source: Path, mask: Path, start_s: float, container: str) -> Iterator[PromiseKept]:
    wanted, found = list(_sound_tracks(source)), list(_sound_tracks(mask))
    if container in HOLD_NO_EMPTY_TRACK:
        wanted = [track for track in wanted if not track.empty]
    yield _check("audio tracks", len(wanted) == len(found), f"{len(found)}", f"{len(wanted)}")
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True), 1):
        which, copied = f"track {number}: ", ours.codec == theirs.codec
        languages = f"{which}{ours.language or 'none'}", f"{theirs.language or 'none'}"
        yield _check("audio language", ours.language == theirs.language, *languages)
        tolerance_s = _COPIED_S if copied else _TRANSCODED_S
        tolerance_s += ours.tick_s / 2 + _ROUNDING_S
        is_near = abs(ours.start_s - theirs.start_s) <= tolerance_s
        starts = f"{which}{ours.start_s - start_s:+.4f} s", f"{theirs.start_s - start_s:+.4f} s"
        yield _check("audio start", is_near, *starts)
        is_near = abs(ours.end_s - theirs.end_s) <= (_COPIED_END_S if copied else 2 * _TRANSCODED_S)
        yield _check("audio end", is_near, f"{which}{ours.end_s:.4f} s", f"{theirs.end_s:.4f} s")


def _sound_tracks(path: Path) -> Iterator[_Sound]:
    with open_clip(path) as clip:
        tracks = [track for track in clip.demuxer.streams.audio if track.codec_context]
        starts: dict[int, float] = {}
        ends: dict[int, Fraction] = {}
        try:
            for packet in clip.demuxer.demux(tracks) if tracks else ():
                if packet.is_corrupt:  # masks are made without such packets
                    continue
                index = packet.stream.index
                if index not in starts and (start_s := _first_sample_s(packet)) is not None:
                    starts[index] = start_s
                if packet.pts is not None:
                    base = fraction(packet.time_base) or Fraction(1)
                    # In AVI, packets may overlap. Players then play them one after the other.
                    start = packet.pts * base
                    ends[index] = max(start, ends.get(index, start)) + (packet.duration or 0) * base
        except av.FFmpegError:
            pass  # the mask's audio ends where the source's cannot be read
        for track in tracks:
            language = language_of(track) or ""
            yield _Sound(
                track.codec_context.codec.canonical_name,
                BIBLIOGRAPHIC.get(language, language) or None,
                float(fraction(track.time_base) or 0),
                starts.get(track.index, 0.0),
                float(ends.get(track.index, 0)),
                empty=track.index not in ends,
            )


def _first_sample_s(packet: AnyPacket) -> float | None:
    try:
        frames = packet.decode()
    except av.FFmpegError:
        return None
    return next((frame.time for frame in frames if frame.pts is not None), None)
