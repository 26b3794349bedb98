"""Reads the properties of a clip from its header, and refuses clips that cannot be masked."""

import re
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Final

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.rational import AVRational
from av.video.stream import VideoStream

from foremask import errors
from foremask.facts import AudioTrack, Clip
from foremask.media import boxes, ebml
from foremask.media.colour import FULL_RANGE, HLG, PQ
from foremask.media.demux import Container, OpenClip, ReadWindow, Source, open_container, recognise
from foremask.media.frames import Orientation
from foremask.options import UNLIMITED, Excerpt, Limits

ACCEPTED_CODECS: Final = ("h264", "hevc", "vp9", "av1", "mjpeg", "gif")
_MAX_HEADER_BYTES: Final = 64 << 20
_REMOTE_TAIL_BYTES: Final = 1 << 20
_NTSC: Final = 1.001  # At 30000/1001 fps, 1800 frames last 60.06 s, and count as a minute.
_ROUNDING_S: Final = 0.002  # Headers round durations to milliseconds.
_MAX_ESTIMATED_FPS: Final = 1000  # FFmpeg's guess may be the time base, such as 90,000 per second.
MAX_TEXT: Final = 256  # characters of a title or a language
_TAGGED_DURATION: Final = re.compile(r"(\d+):(\d\d):(\d\d\.\d+)\0?")


def probe(
    source: Path | Source, limits: Limits = UNLIMITED, excerpt: Excerpt | None = None
) -> Clip:
    """Read the properties of a clip from its header.

    If an ``excerpt`` is given, the limits of length apply to it, and not to the whole clip.

    Raises ClipRefused: CorruptVideo, ResolutionTooLarge, or by another of its reasons.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _probe(file, limits, excerpt, source)
    return _probe(source, limits, excerpt, None)


def _probe(source: Source, limits: Limits, excerpt: Excerpt | None, path: Path | None) -> Clip:
    window = ReadWindow(source, max_bytes=_MAX_HEADER_BYTES)
    if window.size > limits.max_bytes:
        details = f"The file has {window.size} bytes; at most {limits.max_bytes} are taken."
        raise errors.ClipRefused(
            details, reason="file_too_large", limit=limits.max_bytes, actual=window.size
        )
    container = recognise(window, any_format=limits.any_format)
    if container is Container.MKV and not limits.any_format:
        raise errors.ClipRefused(
            "The file is Matroska (mkv); send mp4, mov, webm, avi or gif.",
            reason="container_unsupported",
        )
    if container is Container.GIF:
        window.max_bytes = max(_MAX_HEADER_BYTES, limits.max_bytes)
    quick: dict[str, str] = {}
    if path is None:  # a remote clip: read no more of it than its header
        quick = {"probesize": str(1 << 20), "analyzeduration": "0"}
    with open_container(container, path or window, **quick) as demuxer:
        clip = clip_of(OpenClip(container, demuxer, window.size))
    if container is Container.GIF and not clip.pixels:  # FFmpeg reports a huge size as 0
        width, height = struct.unpack("<HH", window.read_at(6, 4))
        clip = replace(clip, width=width, height=height)
    if clip.duration_s is None and container is Container.WEBM:
        ticks = ebml.last_block_ticks(window.read_at, window.size)
        if ticks is not None:
            end_s = ticks / 1000 + _nominal_s(clip)
            clip = replace(clip, duration_s=end_s - clip.start_s)
    declared = _declared_size(container, window, source, is_remote=path is None)
    if declared > window.size:
        there = f"{window.size} of at least {declared} bytes are there, and the end is missing"
        clip = replace(clip, warnings=(*clip.warnings, f"the file was cut off: {there}"))
    _refuse(clip, limits, excerpt)
    return clip


def _declared_size(
    container: Container, window: ReadWindow, source: Source, *, is_remote: bool
) -> int:
    """Return the size that the file had at least before any cut; little of a remote one is read."""

    def read_at(offset: int, size: int) -> bytes:  # few bytes in each of many places
        source.seek(offset)
        return source.read(size)

    match container:
        case Container.MP4 | Container.MOV if is_remote:
            return boxes.declared_size_nearby(window.read_at, window.size)
        case Container.MP4 | Container.MOV:
            return boxes.declared_size(read_at, window.size)
        case Container.WEBM | Container.MKV if is_remote:
            return ebml.declared_size(window.read_at, window.size, _REMOTE_TAIL_BYTES)
        case Container.WEBM | Container.MKV:
            return ebml.declared_size(read_at, window.size)
        case Container.GIF | Container.AVI | Container.OTHER:
            return 0


def excerpt_of(clip: Clip, excerpt: Excerpt | None) -> Clip:
    """Return the properties of the excerpt, or of the whole clip if there is none.

    ``start_s`` remains the clip's. Raises no_frames if the excerpt begins after the clip's end.
    """
    if excerpt is None:
        return clip
    length_s = clip.duration_s
    if length_s is not None and excerpt.start_s >= length_s:
        details = (
            f"The clip lasts {length_s:.3f} s: no frame is shown from {excerpt.start_s:g} s on."
        )
        raise errors.ClipRefused(
            details, reason="no_frames", param="start_s", limit=length_s, actual=excerpt.start_s
        )
    ends_s = [end for end in (length_s, excerpt.end_s) if end is not None]
    duration_s = min(ends_s) - excerpt.start_s if ends_s else None
    return replace(clip, frames=None, duration_s=duration_s)


def frame_bytes(clip: Clip) -> int:
    """Return the size of a decoded frame, with 8 bytes per pixel for an unknown format."""
    if clip.pixel_format is None:
        return 8 * clip.pixels
    layout = av.VideoFormat(clip.pixel_format, clip.width, clip.height)
    return clip.pixels * layout.padded_bits_per_pixel // 8


def _refuse(clip: Clip, limits: Limits, excerpt: Excerpt | None) -> None:
    is_ours = clip.codec in ACCEPTED_CODECS and (clip.codec == "gif") == (clip.container == "gif")
    if not is_ours and not limits.any_format:
        raise errors.ClipRefused(
            f"The video is {clip.codec} in {clip.container};"
            " send H.264, HEVC, VP9, AV1 or Photo-JPEG (or an animated gif).",
            reason="codec_unsupported",
        )
    side_px = max(clip.width, clip.height)
    most_px = limits.max_side_px
    if side_px > most_px:
        details = (
            f"The video is {clip.width}x{clip.height}; a side may have {most_px} pixels."
            " Scale it down."
        )
        raise errors.ResolutionTooLarge(details, limit=most_px, actual=side_px)
    if not clip.width or not clip.height or clip.frames == 0:
        raise errors.ClipRefused("The video track has no frame.", reason="no_frames", actual=0)
    part = excerpt_of(clip, excerpt)
    check_length(part, limits, part.duration_s, part.expected_frames)


def check_length(clip: Clip, limits: Limits, duration_s: float | None, frames: int | None) -> None:
    """Raise duration_too_long, too_many_frames or ResolutionTooLarge if ``limits`` are exceeded."""
    longest_s = _NTSC * limits.max_duration_s + _nominal_s(clip) + _ROUNDING_S
    if duration_s is not None and duration_s > longest_s:
        raise errors.ClipRefused(
            f"{duration_s:.2f} s are to be masked; at most {limits.max_duration_s:g} s are taken."
            " Choose a part of the video by start_s and end_s.",
            reason="duration_too_long",
            limit=limits.max_duration_s,
            actual=round(duration_s, 3),
        )
    if frames is not None and frames > limits.max_frames + 1:  # allow one extra frame
        details = f"The video has {frames} frames or more; at most {limits.max_frames} are taken."
        raise errors.ClipRefused(
            details, reason="too_many_frames", limit=limits.max_frames, actual=frames
        )
    if frames is not None and frames * clip.pixels > limits.max_frame_pixels:
        raise errors.ResolutionTooLarge(
            f"{frames} frames of {clip.width}x{clip.height} are {frames * clip.pixels} pixels;"
            f" at most {limits.max_frame_pixels} in all are taken. Scale it down, or send a part.",
            limit=limits.max_frame_pixels,
            actual=frames * clip.pixels,
        )


def _nominal_s(clip: Clip) -> float:
    """The duration of a frame at the clip's frame rate, or 0 if this is unknown."""
    if not clip.fps:
        return 0.0
    return 1 / clip.fps


def fraction(value: AVRational | Fraction | None) -> Fraction | None:
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)


def clip_of(opened: OpenClip) -> Clip:
    track = opened.track
    codec = track.codec_context
    if codec is None:
        raise errors.ClipRefused("The video codec is unknown.", reason="codec_unsupported")
    if "encryption_init_info" in codec.coded_side_data:
        raise errors.ClipRefused(
            "The video is protected by DRM; send it unprotected.", reason="encrypted"
        )
    time_base = fraction(track.time_base) or Fraction(1, 1000)
    display = codec.coded_side_data.get("display_matrix")
    matrix = struct.unpack("<9i", display[:36]) if display else None
    orientation = Orientation.from_matrix(matrix)
    aspect = fraction(track.sample_aspect_ratio)
    if aspect is None or aspect <= 0:
        aspect = Fraction(1)
    parts = codec.format.components if codec.format else ()
    alpha_modes = track.metadata.get("ALPHA_MODE"), track.metadata.get("alpha_mode")
    return Clip(
        container=opened.container_name,
        codec=codec.codec.canonical_name,
        pixel_format=codec.pix_fmt,
        width=codec.width,
        height=codec.height,
        rotation=orientation.rotation,
        mirrored=orientation.mirrored,
        matrix=matrix,
        sample_aspect_ratio=(aspect.numerator, aspect.denominator),
        fps=_fps(track, opened.container),
        vfr=_is_variable(track),
        frames=_declared_frames(track, opened.container),
        start_s=float((track.start_time or 0) * time_base),
        duration_s=_duration_s(opened.demuxer, track, time_base),
        time_base=(time_base.numerator, time_base.denominator),
        hdr={PQ: "pq", HLG: "hlg"}.get(codec.color_trc),
        full_range=codec.color_range == FULL_RANGE or (codec.pix_fmt or "").startswith("yuvj"),
        interlaced=codec.field_order > 1,
        alpha=any(part.is_alpha for part in parts) or "1" in alpha_modes,
        audio=tuple(_audio(sound) for sound in opened.demuxer.streams.audio if sound.codec_context),
        size_bytes=opened.size_bytes,
        warnings=_remarks(opened.demuxer, track),
    )


def _fps(track: VideoStream, container: Container) -> float:
    """The average frame rate, or 0 if it is unknown."""
    average = fraction(track.average_rate)
    is_counted = container in (Container.MP4, Container.MOV) and track.frames > 1
    if is_counted and average:
        return float(average)
    for rate in (average, fraction(track.guessed_rate)):
        if rate and 0 < rate <= _MAX_ESTIMATED_FPS:
            return float(rate)
    return 0.0


def _declared_frames(track: VideoStream, container: Container) -> int | None:
    if container in (Container.MP4, Container.MOV):
        entries = track.index_entries
        if track.frames and len(entries) == track.frames:
            return sum(not entry.is_discard for entry in entries)
    return track.frames or None


def _duration_s(opened: InputContainer, track: VideoStream, time_base: Fraction) -> float | None:
    if track.duration is not None and track.duration > 0:
        return float(track.duration * time_base)
    end_s = tagged_end_s(track)
    if end_s is not None:
        return float(end_s - (track.start_time or 0) * time_base) or None
    if opened.duration is not None and opened.duration > 0:
        return opened.duration / av.time_base
    return None


def tagged_end_s(track: VideoStream) -> Fraction | None:
    """Return the end of a Matroska track in seconds, from its DURATION tag."""
    tagged = _TAGGED_DURATION.fullmatch(track.metadata.get("DURATION", ""))
    if tagged is None:
        return None
    hours, minutes, seconds = tagged.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def _is_variable(track: VideoStream) -> bool:
    times = sorted(entry.timestamp for entry in track.index_entries)
    if len(times) > 3 and len(times) >= track.frames > 0:
        steps = [later - sooner for sooner, later in pairwise(times)]
        return max(steps) - min(steps) > max(1, 0.05 * sum(steps) / len(steps))
    average = fraction(track.average_rate)
    base = fraction(track.base_rate)
    return bool(average and base and abs(average / base - 1) > Fraction(1, 100))


def language_of(sound: AudioStream) -> str | None:
    if sound.language == "und":
        return None
    return _text_of(sound.language)


def _text_of(value: str | None) -> str | None:
    if value is None:
        return None
    return value[:MAX_TEXT].encode(errors="surrogateescape").decode(errors="replace")


def _audio(sound: AudioStream) -> AudioTrack:
    codec = sound.codec_context
    time_base = fraction(sound.time_base) or Fraction(1)
    duration_s: float | None = None
    if sound.duration:
        duration_s = float(sound.duration * time_base)
    return AudioTrack(
        codec=codec.codec.canonical_name,
        channels=codec.channels,
        sample_rate_hz=codec.sample_rate,
        language=language_of(sound),
        title=_text_of(sound.metadata.get("title")),
        start_s=float((sound.start_time or 0) * time_base),
        duration_s=duration_s,
    )


def _remarks(opened: InputContainer, track: VideoStream) -> tuple[str, ...]:
    tracks = len(opened.streams.video)
    others = len(opened.streams.get()) - tracks - len(opened.streams.audio)
    remarks = {
        f"the file has {tracks} video tracks; number {track.index} is the default one": tracks > 1,
        f"{others} track(s) of data or subtitles are not carried over": others > 0,
    }
    return tuple(remark for remark, applies in remarks.items() if applies)
