"""Clips of a red disc that moves over a grey board; the right mask is known to the pixel."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from foremask.facts import Clip, Report
from foremask.masking.runner import run
from foremask.media.demux import open_clip
from foremask.media.frames import Orientation
from foremask.media.probe import clip_of
from foremask.options import Files, Form, JobSpec
from foremask.pipeline.stage_list import Pipeline
from foremask.pipeline.values import ImageMasker, MaskedFrame
from foremask.types import Alpha, Image, Levels, Rgb

TIME_BASE = Fraction(1, 30_000)
RATE_HZ = 48_000
CODECS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "prores": "prores_ks"}
QUIET = {
    "libx264": {"preset": "ultrafast", "crf": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:info=0:no-cutree=1"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "12", "b": "0"},
    "mjpeg": {"qmin": "2", "qmax": "2"},
}
TURNS: dict[str, tuple[int, bool]] = {
    "upright": (0, False),
    "90": (90, False),
    "180": (180, False),
    "270": (270, False),
    "mirrored": (0, True),
    "mirrored 90": (90, True),
}


@dataclass(frozen=True, slots=True)
class Tone:
    codec: str = "aac"
    seconds: float = 1.0
    start_s: float = 0.0
    language: str | None = None
    title: str | None = None
    layout: str = "stereo"


@dataclass(frozen=True, slots=True)
class Spec:
    """A clip; ``turn`` is the clockwise rotation that players apply, and whether they mirror."""

    width: int = 64
    height: int = 48
    pts: tuple[int, ...] = tuple(range(0, 10_000, 1_000))
    time_base: Fraction = TIME_BASE
    last_duration: int = 1_000
    codec: str = "h264"
    pixel_format: str = "yuv420p"
    turn: tuple[int, bool] = (0, False)
    aspect: Fraction = Fraction(1)
    b_frames: int = 0
    keyframe_every: int = 12
    open_gop: bool = False
    full_range: bool = False
    sound: tuple[Tone, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    muxer_options: dict[str, str] = field(default_factory=dict)


def disc(width: int, height: int, moment: float) -> tuple[Rgb, Levels]:
    """Return the frame at ``moment`` (0 to 1) and its mask."""
    rows, columns = np.mgrid[:height, :width]
    radius = max(0.5, min(width, height) / 4)
    x = radius + moment * max(0.0, width - 2 * radius) - 0.5
    y = (height - 1) / 2
    inside = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    board = (64 + 96 * ((columns // 8 + rows // 8) % 2)).astype(np.uint8)
    picture = np.repeat(board[:, :, None], 3, axis=2)
    picture[inside] = (220, 30, 30)
    return picture, np.where(inside, 255, 0).astype(np.uint8)


def discs(width: int, height: int, *discs: tuple[int, int, int]) -> Rgb:
    """Draw red discs on grey lines; a disc is the column and row of its centre, and its radius."""
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[::7] = 130
    for x, y, radius in discs:
        cv2.circle(picture, (x, y), radius, (220, 30, 30), -1)
    return picture


def draw(spec: Spec) -> Iterator[tuple[Rgb, Levels]]:
    for index in range(len(spec.pts)):
        yield disc(spec.width, spec.height, index / max(1, len(spec.pts) - 1))


def greys(spec: Spec) -> Iterator[Rgb]:
    for _, mask in draw(spec):
        yield np.repeat(mask[:, :, None], 3, axis=2)


def even(frames: int, fps: Fraction, start: int = 0) -> tuple[int, ...]:
    return tuple(start + round(index / fps / TIME_BASE) for index in range(frames))


def numbered(index: int, width: int = 96, height: int = 32) -> Rgb:
    """Draw the number in eight blocks, black for 0 and white for 1."""
    bits = np.array([index >> bit & 1 for bit in range(8)], np.uint8)
    row = np.repeat(bits * 255, width // 8)
    return np.repeat(np.repeat(row[None, :, None], height, axis=0), 3, axis=2)


def number_of(picture: NDArray[np.uint8]) -> int:
    """Return the number that `numbered` drew into a grey or a coloured picture."""
    grey = picture if picture.ndim == 2 else picture[:, :, 1]
    height, width = grey.shape
    blocks = [
        grey[height // 4 : -height // 4, at : at + width // 8][:, 3:-3].mean() > 127
        for at in range(0, width, width // 8)
    ]
    return sum(int(block) << bit for bit, block in enumerate(blocks))


def write(path: Path, spec: Spec = Spec(), pictures: Iterable[Rgb] | None = None) -> Path:
    if pictures is None:
        pictures = (picture for picture, _ in draw(spec))
    encoder = CODECS.get(spec.codec, spec.codec)
    with av.open(str(path), "w", container_options=dict(spec.muxer_options)) as out:
        rate = Fraction(len(spec.pts), 1) / max(
            Fraction(1, 1000), (spec.pts[-1] - spec.pts[0] + spec.last_duration) * spec.time_base
        )
        video: Any = out.add_stream(encoder, rate=rate.limit_denominator(1001))
        video.width, video.height, video.pix_fmt = spec.width, spec.height, spec.pixel_format
        time_base = Fraction(1, 100) if spec.codec == "gif" else spec.time_base
        video.codec_context.time_base = video.time_base = time_base
        video.codec_context.sample_aspect_ratio = spec.aspect
        video.codec_context.gop_size = spec.keyframe_every
        video.codec_context.max_b_frames = spec.b_frames
        video.codec_context.color_range = 2 if spec.full_range else 1
        video.codec_context.options = _options(encoder, spec)
        degrees, mirrored = spec.turn
        if degrees or mirrored:
            video.set_display_matrix(matrix(degrees, mirrored))
        tracks = [_tone(out, tone) for tone in spec.sound]
        tracks.append(_encode(video, spec, time_base, pictures))
        for packet in heapq.merge(*tracks, key=lambda each: (each.dts or 0) * each.time_base):
            out.mux(packet)
    return path


def matrix(degrees: int, mirrored: bool) -> list[int]:
    one = 1 << 16
    x = -one if mirrored else one
    turned = {0: (x, 0, 0, one), 90: (0, x, -one, 0), 180: (-x, 0, 0, -one), 270: (0, -x, one, 0)}
    a, b, c, d = turned[degrees]
    return [a, b, 0, c, d, 0, 0, 0, 1 << 30]


def _options(encoder: str, spec: Spec) -> dict[str, str]:
    options = dict(QUIET.get(encoder, {}))
    group = (
        f"keyint={spec.keyframe_every}:min-keyint={spec.keyframe_every}"
        f":open-gop={int(spec.open_gop)}:bframes={spec.b_frames}:scenecut=0"
    )
    if encoder == "libx265":
        options["x265-params"] += f":{group}"
    if encoder == "libx264":
        options["x264-params"] = f"{group}:b-pyramid=none"
    return options | spec.options


def _encode(
    video: VideoStream, spec: Spec, time_base: Fraction, pictures: Iterable[Rgb]
) -> Iterator[Any]:
    last = spec.pts[-1] + spec.last_duration
    scale = spec.time_base / time_base
    shown = [round(pts * scale) for pts in (*spec.pts, last)]
    ends = dict(itertools.pairwise(shown))

    def timed(packets: list[Any]) -> Iterator[Any]:
        for packet in packets:
            if not spec.b_frames:
                packet.duration = max(1, ends[packet.pts] - packet.pts)
            yield packet

    for pts, picture in zip(spec.pts, pictures, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        frame = frame.reformat(
            format="rgb8" if spec.codec == "gif" else spec.pixel_format,
            dst_color_range=2 if spec.full_range else 1,
        )
        frame.pts, frame.time_base = round(pts * scale), time_base
        yield from timed(video.encode(frame))
    yield from timed(video.encode(None))


def _tone(out: OutputContainer, tone: Tone) -> Iterator[Any]:
    name = {"opus": "libopus", "mp3": "libmp3lame"}.get(tone.codec, tone.codec)
    stream = cast("AudioStream", out.add_stream(name, rate=RATE_HZ))
    stream.codec_context.layout = tone.layout
    stream.codec_context.time_base = Fraction(1, RATE_HZ)
    if tone.language:
        stream.metadata["language"] = tone.language
    if tone.title:
        stream.metadata["title"] = tone.title
    return _play(stream, tone)


def _play(stream: AudioStream, tone: Tone) -> Iterator[Any]:
    total, first = round(tone.seconds * RATE_HZ), round(tone.start_s * RATE_HZ)
    channels = len(av.AudioLayout(tone.layout).channels)
    for at in range(0, total, 1024):
        samples = np.arange(at, min(at + 1024, total))
        wave = (8_000 * np.sin(2 * np.pi * 440 * samples / RATE_HZ)).astype(np.int16)
        interleaved = np.repeat(wave, channels)[None]
        frame = av.AudioFrame.from_ndarray(interleaved, "s16", tone.layout)
        frame.sample_rate, frame.pts = RATE_HZ, first + at
        frame.time_base = Fraction(1, RATE_HZ)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def red_is_foreground(pictures: Iterable[Image], /) -> Iterator[Alpha]:
    for picture in pictures:
        rgb = picture.rgb(picture.width, picture.height).astype(np.float32)
        yield np.clip((rgb[:, :, 0] - rgb[:, :, 1]) / 128, 0, 1)


def bright_is_foreground(pictures: Iterable[Image], /) -> Iterator[Alpha]:
    for picture in pictures:
        yield (picture.rgb(picture.width, picture.height)[:, :, 1] > 127).astype(np.float32)


class Stretched:
    """Enlarges masks without a look at the picture."""

    name = "edges"

    def __call__(self, masked: Iterator[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for frame, alpha in masked:
            size = frame.decoded.width, frame.decoded.height
            levels = np.rint(255 * frame.orientation.to_coded(alpha)).astype(np.uint8)
            large = cv2.resize(levels, size, interpolation=cv2.INTER_LINEAR)
            yield MaskedFrame(frame, np.asarray(large, np.uint8))


def stretched_edges(pipeline: Pipeline) -> Pipeline:
    return pipeline.instead_of("edges", Stretched())


def mask(
    source: Path,
    target: Path,
    asked: JobSpec | Form = Form.MP4_H264,
    masker: ImageMasker = red_is_foreground,
    *,
    replace: bool = False,
    **more: Any,  # noqa: ANN401
) -> Report:
    if isinstance(asked, Form):
        asked = JobSpec(form=asked)
    files = Files(source=source, target=target, replace=replace)
    return run(asked, files, masker=masker, change=stretched_edges, **more)


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        for packet in _tone(out, Tone()):
            out.mux(packet)
    return path


def broken(path: Path, source: Path) -> Path:
    """Copy ``source``, with 6000 bytes of noise in its packets and an intact header."""
    data = bytearray(source.read_bytes())
    start = data.index(b"mdat") + 2000
    data[start : start + 6000] = b"\xff" * 6000
    path.write_bytes(data)
    return path


def decode_grey(path: Path) -> list[NDArray[np.uint8]]:
    """Return the frames of a mask as full-range grey levels, in the coded orientation."""
    found = []
    with av.open(str(path)) as opened:
        for frame in opened.decode(video=0):
            if frame.format.components[0].bits == 10:  # FFmpeg's conversion is off by a level
                plane = frame.planes[0]
                rows = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width]
                levels = np.clip(np.rint((rows.astype(np.float32) - 64) * (255 / 876)), 0, 255)
                found.append(levels.astype(np.uint8))
            else:
                rgb = frame.reformat(format="rgb24").to_ndarray()
                found.append(np.asarray(rgb[:, :, 1], np.uint8))
    return found


def shown_at(path: Path) -> list[Fraction]:
    with av.open(str(path)) as opened:
        base = opened.streams.video[0].time_base
        scale = Fraction(base.numerator, base.denominator)
        return [(frame.pts or 0) * scale for frame in opened.decode(video=0)]


def spread(frames: int, steps: Sequence[int]) -> tuple[int, ...]:
    """Return the pts of a variable frame rate, whose ``steps`` repeat."""
    repeated = itertools.islice(itertools.cycle(steps), frames - 1)
    return tuple(itertools.accumulate(repeated, initial=0))


def cropped(path: Path, source: Path, right: int, bottom: int) -> Path:
    """Crop an HEVC clip by its header: encoders refuse fewer than 16 columns or rows."""
    with av.open(str(source)) as opened, av.open(str(path), "w") as out:
        track: Any = opened.streams.video[0]
        width, height = track.width - right, track.height - bottom
        copy: Any = out.add_mux_stream("hevc", rate=track.average_rate, width=width, height=height)
        copy.time_base = track.time_base
        crop = BitStreamFilterContext(
            f"hevc_metadata=crop_right={right}:crop_bottom={bottom}", in_stream=track
        )
        packets = [packet for packet in opened.demux(track) if packet.size]
        for packet in [*packets, None]:
            for less in crop.filter(packet):
                less.stream, less.time_base = copy, track.time_base
                out.mux(less)
    return path


def without_rate(path: Path, source: Path) -> Path:
    """Copy a WebM without the frame rate in its header, as browsers record it."""
    data = source.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # the default duration
    length = data[at + 3] & 0x7F
    void = b"\xec" + bytes((0x80 | (length + 2),)) + bytes(length + 2)
    path.write_bytes(data[:at] + void + data[at + len(void) :])
    return path


def concat(path: Path, parts: Sequence[Path]) -> Path:
    """Join the packets of several files, whatever the sizes of their frames."""
    with av.open(str(path), "w") as out:
        copy: VideoStream | None = None
        at = 0
        for part in parts:
            with av.open(str(part)) as opened:
                track = opened.streams.video[0]
                copy = copy or out.add_stream_from_template(track, opaque=True)
                for packet in opened.demux(track):
                    if packet.size:
                        packet.pts = packet.dts = at
                        packet.stream = copy
                        out.mux(packet)
                        at += 1
    return path


def orientation_of(spec: Spec) -> Orientation:
    return Orientation.from_matrix(tuple(matrix(*spec.turn)))


def describe(path: Path) -> Clip:
    with open_clip(path) as opened:
        return clip_of(opened)
