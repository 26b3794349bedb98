"""Reads a picture file as a frame, or packs many picture files into a clip."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type

from foremask.errors import CorruptVideo, FileTooLarge, ResolutionTooLarge
from foremask.media.demux import Source
from foremask.media.frames import Frame
from foremask.media.orientation import Orientation
from foremask.media.write_errors import writing
from foremask.options import UNLIMITED, Limits

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
"""FFmpeg's demuxer by first bytes; its own choice may be image2, which opens other files too."""
_AVIF_BRANDS: Final = (b"avif", b"avis")
_COPIED: Final = ("png", "mjpeg", "tiff")  # a mov can hold these
_FROM_CALLERS: Final = ("png_pipe", "jpeg_pipe", "webp_pipe")
HEAD_BYTES: Final = 12
MAX_PICTURE_BYTES: Final = 64 << 20
MAX_PICTURE_PIXELS: Final = 100_000_000


def picture_demuxer(head: bytes) -> str | None:
    """FFmpeg's demuxer for a picture file with these first `HEAD_BYTES`; None for other files."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp_pipe"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "mov"
    return next((name for begin, name in _DEMUXER_OF_HEAD.items() if head.startswith(begin)), None)


def is_picture(path: Path) -> bool:
    """Whether the file is a picture, by its first bytes."""
    with path.open("rb") as file:
        return picture_demuxer(file.read(HEAD_BYTES)) is not None


def read_picture(source: Path | Source, limits: Limits = UNLIMITED) -> Frame:
    """Read a picture file as a frame, oriented as viewers show it.

    Unless ``limits`` take any format, it must be a PNG, a JPEG or a WebP of at most
    `MAX_PICTURE_BYTES` and `MAX_PICTURE_PIXELS`; both are checked before decoding. Raises
    CorruptVideo if it is no such picture, FileTooLarge and ResolutionTooLarge.
    """
    if isinstance(source, Path):
        with source.open("rb") as file, _opened(file, source.name, limits) as opened:
            return _decoded(opened, source.name, 0)
    with _opened(source, "The picture", limits) as opened:
        return _decoded(opened, "The picture", 0)


def pack_pictures(
    pictures: Sequence[Path], fps: Fraction, target: Path, on_picture: Callable[[int], None]
) -> None:
    """Write ``pictures``, in order, as the frames of ``target``, a mov.

    PNG, JPEG and TIFF are copied; other formats are encoded as PNG. Raises CorruptVideo for a
    file that is no picture, or whose size (or format, if copied) differs from the first one's.
    """
    with pictures[0].open("rb") as head, _opened(head, str(pictures[0])) as first:
        track = first.streams.video[0]
        codec, size = track.codec_context.name, (track.width, track.height)
        copies = codec in _COPIED
        options = {"video_track_timescale": str(fps.numerator)}
        with (
            writing(),
            av.open(f"file:{target}", "w", format="mov", container_options=options) as out,
        ):
            stream: Any = (
                out.add_stream_from_template(track, opaque=True)
                if copies
                else out.add_stream("png", rate=fps)
            )
            if not copies:
                stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
                stream.codec_context.options = {"compression_level": "1"}
            stream.time_base = 1 / fps
            for number, path in enumerate(pictures):
                for packet in _packets(path, number, (codec, size), None if copies else stream):
                    packet.pts = packet.dts = number
                    packet.time_base, packet.duration = 1 / fps, 1
                    packet.stream, packet.is_keyframe = stream, True
                    out.mux(packet)
                on_picture(number + 1)


def _packets(
    path: Path,
    number: int,
    wanted: tuple[str, tuple[int, int]],
    encoder: Any | None,  # noqa: ANN401  (a stream)
) -> Iterable[Any]:
    with path.open("rb") as content, _opened(content, str(path)) as file:
        track = file.streams.video[0]
        size = track.width, track.height
        if size != wanted[1]:
            raise CorruptVideo(
                f"{path} is {size[0]}x{size[1]}, and the first picture is"
                f" {wanted[1][0]}x{wanted[1][1]}: all frames of a clip have one size.",
                actual=number,
            )
        if encoder is not None:
            frame = _decoded(file, path.name, number).decoded.reformat(format="rgb24")
            frame.pts = number
            return list(encoder.encode(frame))
        if track.codec_context.name != wanted[0]:
            raise CorruptVideo(
                f"{path} is {track.codec_context.name}, and the first picture is {wanted[0]}: all"
                " frames of a clip are coded alike.",
                actual=number,
            )
        return [av.Packet(bytes(packet)) for packet in file.demux(track) if packet.size][:1]


def _opened(file: Source, name: str, limits: Limits = UNLIMITED) -> InputContainer:
    file.seek(0)
    demuxer = picture_demuxer(file.read(HEAD_BYTES))
    is_limited = not limits.any_format
    if demuxer is None or (is_limited and demuxer not in _FROM_CALLERS):
        raise CorruptVideo(f"{name} is no picture that is read here.")
    if is_limited and (size := file.seek(0, 2)) > MAX_PICTURE_BYTES:
        details = f"{name} has {size} bytes; at most {MAX_PICTURE_BYTES} are taken."
        raise FileTooLarge(details, limit=MAX_PICTURE_BYTES, actual=size)
    file.seek(0)
    bound = {"max_pixels": str(MAX_PICTURE_PIXELS)} if is_limited else {}
    try:
        opened: InputContainer = av.open(file, "r", format=demuxer, options=bound)
    except (av.FFmpegError, ValueError) as error:
        raise CorruptVideo(f"{name} cannot be read as a picture.") from error
    try:
        _check_track(opened, name, limits)
    except BaseException:
        opened.close()
        raise
    return opened


def _check_track(opened: InputContainer, name: str, limits: Limits) -> None:
    if not opened.streams.video:
        raise CorruptVideo(f"{name} has no picture in it.")
    track = opened.streams.video[0]
    side_px = max(track.width, track.height)
    if limits.any_format:
        return
    if not side_px:  # FFmpeg has not decoded it
        details = f"{name} cannot be decoded, or has more than {MAX_PICTURE_PIXELS} pixels."
        raise CorruptVideo(details, limit=MAX_PICTURE_PIXELS)
    if side_px > limits.max_side_px:
        raise ResolutionTooLarge(
            f"{name} is {track.width}x{track.height}; a side may have {limits.max_side_px} pixels.",
            limit=limits.max_side_px,
            actual=side_px,
        )
    track.codec_context.options = {"max_pixels": str(MAX_PICTURE_PIXELS)}


def _decoded(file: InputContainer, name: str, index: int) -> Frame:
    try:
        decoded = next(file.decode(video=0))
    except (av.FFmpegError, StopIteration) as error:
        raise CorruptVideo(f"{name} breaks before its picture is whole.") from error
    found = decoded.side_data.get(Type.DISPLAYMATRIX)
    matrix = None if found is None else struct.unpack("<9i", bytes(found))
    orientation = Orientation.from_matrix(matrix)
    return Frame(decoded, index, index, 1, Fraction(1), orientation)
