"""Pictures as files: one of them as a frame, or many as the frames of a clip."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
from av.container import InputContainer
from av.sidedata.sidedata import Type

from foremask.errors import CorruptVideo
from foremask.media.frames import Frame
from foremask.media.orientation import Orientation
from foremask.media.write_errors import writing

_DEMUXER_OF_HEAD: Final = {
    b"\x89PNG\r\n\x1a\n": "png_pipe",
    b"\xff\xd8\xff": "jpeg_pipe",
    b"RIFF": "webp_pipe",
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
"""By the first bytes. FFmpeg's own recognition may take image2, which reads other files too."""
_AVIF_BRANDS: Final = (b"avif", b"avis")
_COPIED: Final = ("png", "mjpeg", "tiff")  # what a mov holds as it is


def read_picture(path: Path) -> Frame:
    """The picture, oriented as viewers show it; raises CorruptVideo where it is none."""
    with _opened(path) as file:
        return _decoded(file, path, 0)


def pack_pictures(
    pictures: Sequence[Path], fps: Fraction, target: Path, on_picture: Callable[[int], None]
) -> None:
    """Make ``target``, a mov, whose frames are ``pictures`` in order.

    They are copied where it can hold them, else coded as PNG. All must have the size of the first.
    Raises CorruptVideo where one has not, or is no picture.
    """
    with _opened(pictures[0]) as first:
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
    """Of one picture: its own, or those of ``encoder``."""
    with _opened(path) as file:
        track = file.streams.video[0]
        size = track.width, track.height
        if size != wanted[1]:
            raise CorruptVideo(
                f"{path} is {size[0]}x{size[1]}, and the first picture is"
                f" {wanted[1][0]}x{wanted[1][1]}: all frames of a clip have one size.",
                actual=number,
            )
        if encoder is not None:
            frame = _decoded(file, path, number).decoded.reformat(format="rgb24")
            frame.pts = number
            return list(encoder.encode(frame))
        if track.codec_context.name != wanted[0]:
            raise CorruptVideo(
                f"{path} is {track.codec_context.name}, and the first picture is {wanted[0]}: all"
                " frames of a clip are coded alike.",
                actual=number,
            )
        return [av.Packet(bytes(packet)) for packet in file.demux(track) if packet.size][:1]


def _opened(path: Path) -> InputContainer:
    with path.open("rb") as picture:  # what is not there is Python's own error
        head = picture.read(12)
    demuxer = "mov" if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS else None
    for begin, name in _DEMUXER_OF_HEAD.items():
        if head.startswith(begin):
            demuxer = name
    if demuxer is None:
        raise CorruptVideo(f"{path.name} is no picture that is read here.")
    try:
        file = av.open(
            f"file:{path}", "r", format=demuxer, container_options={"protocol_whitelist": "file"}
        )
    except (av.FFmpegError, ValueError) as error:
        raise CorruptVideo(f"{path.name} cannot be read as a picture.") from error
    if not file.streams.video:
        file.close()
        raise CorruptVideo(f"{path.name} has no picture in it.")
    return file


def _decoded(file: InputContainer, path: Path, index: int) -> Frame:
    try:
        decoded = next(file.decode(video=0))
    except (av.FFmpegError, StopIteration) as error:
        raise CorruptVideo(f"{path.name} breaks before its picture is whole.") from error
    found = decoded.side_data.get(Type.DISPLAYMATRIX)
    data = b"" if found is None else bytes(found)
    matrix = tuple(
        int.from_bytes(data[at : at + 4], "little", signed=True) for at in range(0, len(data), 4)
    )
    orientation = Orientation.from_matrix(matrix or None)
    return Frame(decoded, index, index, 1, Fraction(1), orientation)
