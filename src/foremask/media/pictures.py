"""Reads picture files and backgrounds, and packs a sequence of pictures into a clip."""

import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.video.stream import VideoStream

from foremask import errors
from foremask.media.demux import Source
from foremask.media.frames import Frame, Orientation
from foremask.media.packets import AnyPacket, writing
from foremask.media.probe import probe
from foremask.media.reader import VideoReader
from foremask.options import UNLIMITED, Limits
from foremask.types import Rgb

_DEMUXER_OF_HEAD: Final = {
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"\xff\xd8\xff": "jpeg_pipe",
    b"II*\0": "tiff_pipe",
    b"MM\0*": "tiff_pipe",
    b"BM": "bmp_pipe",
    b"v/1\x01": "exr_pipe",
    b"SDPX": "dpx_pipe",
    b"XPDS": "dpx_pipe",
    b"\xff\x0a": "jpegxl_pipe",
    b"\0\0\0\x0cJXL ": "jpegxl_pipe",
    b"qoif": "qoi_pipe",
}
"""FFmpeg's demuxers by a file's first bytes. These demuxers open no further files."""
_AVIF_BRANDS: Final = (b"avif", b"avis")
_COPIED: Final = ("png", "mjpeg", "tiff")  # codecs that a mov can hold
_FROM_CALLERS: Final = ("png_pipe", "jpeg_pipe", "webp_pipe")
HEAD_BYTES: Final = 12
_PNG_HEAD_BYTES: Final = 24  # with width and height
MAX_PICTURE_BYTES: Final = 64 << 20
MAX_PICTURE_PIXELS: Final = 100_000_000
_ALIGNED_PX: Final = 128  # FFmpeg counts rows as long as its buffers, which are aligned


def picture_demuxer(head: bytes) -> str | None:
    """Return FFmpeg's demuxer for a picture that begins with ``head``, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp_pipe"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "mov"
    return next((name for begin, name in _DEMUXER_OF_HEAD.items() if head.startswith(begin)), None)


def is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return picture_demuxer(file.read(HEAD_BYTES)) is not None


def read_picture(
    source: Path | Source, limits: Limits = UNLIMITED, most_pixels: int = MAX_PICTURE_PIXELS
) -> Frame:
    """Read a picture file as a frame, with the orientation that the file declares.

    Without ``limits.any_format``, the file must be a PNG, JPEG or WebP of at most
    `MAX_PICTURE_BYTES` and ``most_pixels``; a larger one is not decoded. Raises CorruptVideo,
    ResolutionTooLarge or another ClipRefused.
    """
    name = source.name if isinstance(source, Path) else "The picture"
    with ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        opened = stack.enter_context(_opened(file, name, limits, most_pixels))
        return _decoded(opened, name, 0)


def pack_pictures(
    pictures: Sequence[Path], fps: Fraction, target: Path, on_picture: Callable[[int], None]
) -> None:
    """Write ``pictures`` as the frames of ``target``, a mov.

    If the first picture is a PNG, JPEG or TIFF, all must have its format, and their packets are
    copied. Otherwise all are encoded as PNG. All must have the same size. Raises CorruptVideo.
    """
    options = {"video_track_timescale": str(fps.numerator)}
    with (
        pictures[0].open("rb") as head,
        _opened(head, str(pictures[0])) as opened,
        writing(),
        av.open(f"file:{target}", "w", format="mov", container_options=options) as out,
    ):
        first = opened.streams.video[0]
        copies = first.codec_context.name in _COPIED
        stream: Any
        if copies:
            stream = out.add_stream_from_template(first, opaque=True)
        else:
            stream = out.add_stream("png", fps, {"compression_level": "1"}, pix_fmt="rgb24")
            stream.width = first.width
            stream.height = first.height
        stream.time_base = 1 / fps
        for number, path in enumerate(pictures):
            for packet in _packets(path, number, first, None if copies else stream):
                packet.pts = packet.dts = number
                packet.time_base = 1 / fps
                packet.duration = 1
                packet.stream = stream
                packet.is_keyframe = True
                out.mux(packet)
            on_picture(number + 1)


def _packets(
    path: Path, number: int, first: VideoStream, encoder: VideoStream | None
) -> list[AnyPacket]:
    with path.open("rb") as content, _opened(content, str(path)) as file:
        track = file.streams.video[0]
        sizes = [f"{each.width}x{each.height}" for each in (track, first)]
        if sizes[0] != sizes[1]:
            details = f"{path} is {sizes[0]}, and the first picture is {sizes[1]}"
            raise errors.CorruptVideo(
                f"{details}: all frames of a clip have one size.", actual=number
            )
        if encoder is not None:
            frame = _decoded(file, path.name, number).decoded.reformat(format="rgb24")
            frame.pts = number
            return encoder.encode(frame)
        codecs = [each.codec_context.name for each in (track, first)]
        if codecs[0] != codecs[1]:
            details = f"{path} is {codecs[0]}, and the first picture is {codecs[1]}"
            raise errors.CorruptVideo(
                f"{details}: all frames of a clip are coded alike.", actual=number
            )
        return [av.Packet(bytes(packet)) for packet in file.demux(track) if packet.size][:1]


def _opened(
    file: Source,
    name: str,
    limits: Limits = UNLIMITED,
    most_pixels: int = MAX_PICTURE_PIXELS,
) -> InputContainer:
    file.seek(0)
    head = file.read(_PNG_HEAD_BYTES)
    demuxer = picture_demuxer(head[:HEAD_BYTES])
    is_limited = not limits.any_format
    if demuxer is None or (is_limited and demuxer not in _FROM_CALLERS):
        raise errors.CorruptVideo(f"{name} is no picture that is read here.")
    if is_limited and (size := file.seek(0, 2)) > MAX_PICTURE_BYTES:
        details = f"{name} has {size} bytes; at most {MAX_PICTURE_BYTES} are taken."
        raise errors.ClipRefused(
            details, reason="file_too_large", limit=MAX_PICTURE_BYTES, actual=size
        )
    if is_limited and head[12:16] == b"IHDR" and len(head) == _PNG_HEAD_BYTES:
        width, height = struct.unpack(">II", head[16:])
        _check_size(width, height, name, limits, most_pixels)
    file.seek(0)
    bound = {}
    if is_limited:
        bound["max_pixels"] = str(most_pixels + _ALIGNED_PX * limits.max_side_px)
    try:
        opened: InputContainer = av.open(file, "r", format=demuxer, options=bound)
    except (av.FFmpegError, ValueError) as error:
        raise errors.CorruptVideo(f"{name} cannot be read as a picture.") from error
    with ExitStack() as refused:
        refused.enter_context(opened)
        if not opened.streams.video:
            raise errors.CorruptVideo(f"{name} has no picture in it.")
        if is_limited:
            track = opened.streams.video[0]
            _check_size(track.width, track.height, name, limits, most_pixels)
            track.codec_context.options = bound
        refused.pop_all()
    return opened


def _check_size(width: int, height: int, name: str, limits: Limits, most_pixels: int) -> None:
    side_px = max(width, height)
    if not side_px:  # FFmpeg could not read the size
        details = f"{name} cannot be decoded, or has more than {most_pixels} pixels."
        raise errors.CorruptVideo(details, limit=most_pixels)
    if side_px > limits.max_side_px:
        raise errors.ResolutionTooLarge(
            f"{name} is {width}x{height}; a side may have {limits.max_side_px} pixels.",
            limit=limits.max_side_px,
            actual=side_px,
        )
    if width * height > most_pixels:
        raise errors.ResolutionTooLarge(
            f"{name} is {width}x{height}; it may have {most_pixels} pixels.",
            limit=most_pixels,
            actual=width * height,
        )


def _decoded(file: InputContainer, name: str, index: int) -> Frame:
    try:
        decoded = next(file.decode(video=0))
    except (av.FFmpegError, StopIteration) as error:
        raise errors.CorruptVideo(f"{name} breaks before its picture is whole.") from error
    matrix = decoded.side_data.get(Type.DISPLAYMATRIX)
    orientation = Orientation()
    if matrix:
        orientation = Orientation.from_matrix(struct.unpack("<9i", bytes(matrix)))
    return Frame(decoded, index, index, 1, Fraction(1), orientation)


def check_background(file: Source, limits: Limits) -> None:
    """Raise BackgroundInvalid unless ``file`` is a picture or a video within ``limits``.

    A picture is decoded; of a video, only the header is read.
    """
    file.seek(0)
    check = probe if picture_demuxer(file.read(HEAD_BYTES)) is None else read_picture
    try:
        check(file, limits)
    except errors.ClipRefused as error:
        raise errors.BackgroundInvalid.of(error) from error


def read_background(path: Path) -> Rgb:
    """Read a picture file as an upright array; raises FieldInvalid if it is not a picture."""
    try:
        frame = read_picture(path)
    except errors.ClipRefused as error:
        details = f"The background {path.name} is no picture."
        raise errors.FieldInvalid(details, param="background") from error
    return frame.rgb(frame.width, frame.height)


class BackgroundVideo:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._frames = self._repeated()
        self._shown = next(self._frames)
        self._ahead = next(self._frames)

    def close(self) -> None:
        self._frames.close()

    def at(self, elapsed: Fraction) -> Frame:
        """Return the frame to show after ``elapsed`` seconds, which must not decrease."""
        while elapsed >= self._ahead[0]:
            self._shown = self._ahead
            self._ahead = next(self._frames)
        return self._shown[1]

    def _repeated(self) -> Generator[tuple[Fraction, Frame]]:
        start = Fraction(0)
        try:
            while True:
                with VideoReader(self._path) as reader:
                    first_pts: int | None = None
                    at = start
                    for frame in reader:
                        if first_pts is None:
                            first_pts = frame.pts
                        at = start + (frame.pts - first_pts) * reader.time_base
                        yield at, frame
                    length = (reader.end or 0) - (first_pts or 0) * reader.time_base
                    start = max(start + length, at + reader.time_base)
        except errors.ClipRefused as error:
            details = f"The background {self._path.name}: {error.details}"
            raise type(error)(
                details,
                reason=error.reason,
                param="background",
                limit=error.limit,
                actual=error.actual,
                cli_remedy=error.cli_remedy,
            ) from error
