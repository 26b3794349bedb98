"""Compares a mask file with its source: size, times, levels and audio."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet

from foremask.errors import PromiseBroken
from foremask.facts import Clip
from foremask.media.audio import BIBLIOGRAPHIC, HOLD_NO_EMPTY_TRACK
from foremask.media.colour import is_full, plane_of
from foremask.media.demux import open_clip, sniff
from foremask.media.frames import Orientation
from foremask.media.packets import AnyPacket
from foremask.media.pictures import HEAD_BYTES, is_picture, read_picture
from foremask.media.presets import BLOCK_ADDITIONAL
from foremask.media.probe import fraction, language_of
from foremask.media.promises import ROUNDING_S, PromiseKept, check, check_moment
from foremask.media.reader import NamedReader, VideoReader
from foremask.media.verify_pngs import is_sequence, verify_pngs
from foremask.options import ResultKind

_TOLERANCE_S: Final = {"mp4": 0, "mov": 0, "webm": 0.001, "mkv": 0.001, "gif": 0.01}
"""How far a frame's time may be off: half a tick of the container, and as much in the source."""
_VP9_INTER: Final = 0b100  # In profile 0, this bit of the first byte is clear in keyframes.
_BLOCK_ID_BYTES: Final = 8  # FFmpeg puts the id of Matroska's block addition before the data.
_COPIED_S: Final = 0.001
_COPIED_END_S: Final = 0.02  # Matroska rounds timestamps.
_TRANSCODED_S: Final = 0.05  # The encoder may add or lose an audio frame at each end.
# Levels of 8-bit video in limited range (ITU-R BT.709).
_BLACK: Final = 16
_WHITE: Final = 235
_NEUTRAL: Final = 128
_BEYOND: Final = 14  # Tolerance in levels; a tolerance of 16 would allow black at 0.
_TINT: Final = 2


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

    Times are those that the files store, even where they do not rise. Frames of a cut-out must
    have alpha; their levels are not checked. For a picture, only the size is checked. For a PNG
    sequence, aspect, rotation and sound are not checked. Raises PromiseBroken for the first check
    that fails; its ``param`` names the check. Raises ClipRefused, whose ``details`` begin with the
    file's name, if one of the two cannot be read.
    """
    if is_sequence(mask):
        return list(verify_pngs(source, mask, kind))
    if is_picture(source) and not _is_video(mask):  # the mask of an animated PNG is a video
        picture = read_picture(source)
        found = read_picture(mask)
        return [_same_size((found.width, found.height), (picture.width, picture.height))]
    with NamedReader(source) as wanted, NamedReader(mask) as masks:
        form = masks.clip.container
        if form not in _TOLERANCE_S:
            raise PromiseBroken(f"No mask is a {form} file.", param="container")
        has_alpha_blocks = kind is ResultKind.CUTOUT and masks.clip.codec == "vp9"
        checks = [PromiseKept("container", form)]
        checks += _picture(wanted.clip, masks.clip)
        checks += _frames(masks, wanted, None if has_alpha_blocks else kind)
        if has_alpha_blocks:
            checks.append(_alpha_blocks(mask))
    if form != "gif":
        checks += _sounds(source, mask, wanted.clip.start_s, form)
    return checks


def _is_video(mask: Path) -> bool:
    with mask.open("rb") as file:
        return sniff(file.read(HEAD_BYTES)) is not None


def _same_size(found: tuple[int, int], wanted: tuple[int, int]) -> PromiseKept:
    return check("size", found == wanted, f"{found[0]}x{found[1]}", f"{wanted[0]}x{wanted[1]}")


def _picture(wanted: Clip, found: Clip) -> Iterator[PromiseKept]:
    width = wanted.width
    height = wanted.height
    aspect = wanted.pixel_aspect
    orientation = Orientation.from_matrix(wanted.matrix)
    turn = _turned(orientation.rotation, orientation.mirrored)
    if found.container == "gif":  # its pictures are upright
        if orientation.transposed:
            width = wanted.height
            height = wanted.width
        turn = _turned(0, False)
    yield _same_size((found.width, found.height), (width, height))
    found_turn = _turned(found.rotation, found.mirrored)
    yield check("rotation", found_turn == turn, found_turn, turn)
    if found.container == "gif":
        return  # players ignore the aspect that a gif declares
    found_aspect = found.pixel_aspect
    pixel = Fraction(1, round(found.width * aspect) or 1)  # WebM rounds display sizes
    is_near = abs(found_aspect / aspect - 1) <= max(Fraction(1, 500), pixel)
    yield check("aspect", is_near, f"{found_aspect}", f"{aspect}")


def _turned(degrees: int, mirrored: bool) -> str:
    if mirrored:
        return f"{degrees} degrees, mirrored"
    return f"{degrees} degrees"


def _frames(
    masks: VideoReader, wanted: VideoReader, kind: ResultKind | None
) -> Iterator[PromiseKept]:
    tolerance_s = _TOLERANCE_S[masks.clip.container] + ROUNDING_S
    count = 0
    worst_s = 0.0
    origin_s = 0.0  # a gif begins at time zero, even if its source does not
    for found, theirs in zip_longest(masks, wanted):
        if found is None or theirs is None:
            longer = "source" if found is None else "mask"
            raise PromiseBroken(f"The {longer} goes on after {count} frames.", param="frames")
        if count == 0 and masks.clip.container == "gif":
            origin_s = theirs.time_s
        is_same = (found.width, found.height) == (theirs.width, theirs.height)
        size = f"{found.width}x{found.height} in frame {count}"
        check("size", is_same, size, f"{theirs.width}x{theirs.height} in frame {count}")
        moved_s = float(theirs.moved * theirs.time_base)
        found_s = origin_s + found.unmoved_s
        off_s = check_moment(count, found_s, theirs.unmoved_s, tolerance_s, moved_s)
        worst_s = max(worst_s, off_s)
        _check_levels(found.decoded, count, kind)
        count += 1
    yield PromiseKept("frames", str(count))
    if kind is ResultKind.MASK:
        yield PromiseKept("levels", "grey")
    yield PromiseKept("pts", f"within {1000 * worst_s:.3f} ms")
    end_s = origin_s + float(masks.unmoved_end or 0)
    wanted_end_s = float(wanted.unmoved_end or 0)
    is_near = abs(end_s - wanted_end_s) <= 1.5 * tolerance_s  # start and duration are both rounded
    found_end = f"ends at {end_s:.6f} s"
    yield check("last duration", is_near, found_end, f"ends at {wanted_end_s:.6f} s")


def _check_levels(decoded: av.VideoFrame, number: int, kind: ResultKind | None) -> None:
    match kind:
        case ResultKind.MASK:
            fault = _level_fault(decoded)
            promise = "levels"
        case ResultKind.CUTOUT:
            fault = _alpha_fault(decoded)
            promise = "alpha"
        case _:
            return
    if fault is not None:
        raise PromiseBroken(f"Frame {number} {fault}.", param=promise)


def _level_fault(decoded: av.VideoFrame) -> str | None:
    if decoded.format.name == "bgra":  # the format of decoded gifs
        blue, green, red = np.moveaxis(decoded.to_ndarray(), 2, 0)[:3]
        has_colour = not (np.array_equal(blue, green) and np.array_equal(green, red))
        if has_colour:
            return "has a colour"
        return None
    if is_full(decoded):
        return "says that its range is full, and not limited"
    step = 1 << (decoded.format.components[0].bits - 8)
    luma = plane_of(decoded, 0)
    darkest = luma.min() / step
    brightest = luma.max() / step
    if darkest < _BLACK - _BEYOND or brightest > _WHITE + _BEYOND:
        return f"has luma from {darkest:g} to {brightest:g}; black is {_BLACK} and white {_WHITE}"
    for chroma in (plane_of(decoded, 1), plane_of(decoded, 2)):
        if max(chroma.max() / step - _NEUTRAL, _NEUTRAL - chroma.min() / step) > _TINT:
            return "has a colour"
    return None


def _alpha_fault(decoded: av.VideoFrame) -> str | None:
    has_alpha = any(component.is_alpha for component in decoded.format.components)
    if has_alpha:
        return None
    return f"has no alpha: it is {decoded.format.name}"


def _alpha_blocks(made: Path) -> PromiseKept:
    """Check that each packet has alpha, and that the alpha of each keyframe is a keyframe."""
    decoder: Any = av.CodecContext.create("vp9", "r")
    count = 0
    lowest = 255
    highest = 0
    with open_clip(made) as opened:
        codec = opened.track.codec_context
        for packet in opened.demuxer.demux(opened.track):
            if not packet.size:
                continue
            for alpha in _decoded_alpha(decoder, packet, count):
                if (alpha.width, alpha.height) != (codec.width, codec.height):
                    details = f"The alpha of frame {count} is {alpha.width}x{alpha.height}."
                    raise PromiseBroken(details, param="alpha")
                plane = plane_of(alpha, 0)
                lowest = min(lowest, int(plane.min()))
                highest = max(highest, int(plane.max()))
            count += 1
    return PromiseKept("alpha", f"{count} frames, from {lowest} to {highest}")


def _decoded_alpha(decoder: Any, packet: AnyPacket, number: int) -> list[av.VideoFrame]:  # noqa: ANN401
    data = b""
    if packet.has_sidedata(BLOCK_ADDITIONAL):
        data = bytes(packet.get_sidedata(BLOCK_ADDITIONAL))[_BLOCK_ID_BYTES:]
    if not data:
        raise PromiseBroken(f"Frame {number} has no alpha.", param="alpha")
    if packet.is_keyframe and data[0] & _VP9_INTER:
        details = f"Frame {number} is a keyframe, and its alpha is not."
        raise PromiseBroken(details, param="alpha")
    try:
        return list(decoder.decode(Packet(data)))
    except av.FFmpegError as error:
        details = f"The alpha of frame {number} cannot be decoded: {error.strerror}."
        raise PromiseBroken(details, param="alpha") from error


def _sounds(source: Path, mask: Path, start_s: float, container: str) -> Iterator[PromiseKept]:
    wanted = _sound_tracks(source)
    found = _sound_tracks(mask)
    if container in HOLD_NO_EMPTY_TRACK:
        wanted = [track for track in wanted if not track.empty]
    yield check("audio tracks", len(wanted) == len(found), f"{len(found)}", f"{len(wanted)}")
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True), 1):
        which = f"track {number}: "
        language = f"{which}{ours.language or 'none'}"
        is_same = ours.language == theirs.language
        yield check("audio language", is_same, language, f"{theirs.language or 'none'}")
        start_tolerance_s = _TRANSCODED_S
        end_tolerance_s = 2 * _TRANSCODED_S
        if ours.codec == theirs.codec:
            start_tolerance_s = _COPIED_S
            end_tolerance_s = _COPIED_END_S
        start_tolerance_s += ours.tick_s / 2 + ROUNDING_S
        is_near = abs(ours.start_s - theirs.start_s) <= start_tolerance_s
        start = f"{which}{ours.start_s - start_s:+.4f} s"
        yield check("audio start", is_near, start, f"{theirs.start_s - start_s:+.4f} s")
        is_near = abs(ours.end_s - theirs.end_s) <= end_tolerance_s
        yield check("audio end", is_near, f"{which}{ours.end_s:.4f} s", f"{theirs.end_s:.4f} s")


def _sound_tracks(path: Path) -> list[_Sound]:
    with open_clip(path) as clip:
        tracks = [track for track in clip.demuxer.streams.audio if track.codec_context]
        starts: dict[int, float] = {}
        ends: dict[int, Fraction] = {}
        packets: Iterator[AnyPacket] = iter(())
        if tracks:  # without a track, `demux` gives the packets of all
            packets = clip.demuxer.demux(tracks)
        try:
            for packet in packets:
                if packet.is_corrupt:  # a copied track is written without such packets
                    continue
                index = packet.stream.index
                start_s = None if index in starts else _first_sample_s(packet)
                if start_s is not None:
                    starts[index] = start_s
                if packet.pts is not None:
                    base = fraction(packet.time_base) or Fraction(1)
                    # In AVI, packets may overlap. Players then play them one after the other.
                    start = packet.pts * base
                    ends[index] = max(start, ends.get(index, start)) + (packet.duration or 0) * base
        except av.FFmpegError:
            pass  # the mask's audio ends where the source's cannot be read
        return [_sound(track, starts, ends) for track in tracks]


def _sound(track: AudioStream, starts: dict[int, float], ends: dict[int, Fraction]) -> _Sound:
    language = language_of(track) or ""
    return _Sound(
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
