"""Recognises the container of a clip by its first bytes, and opens the clip."""

import os
import re
import select
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol, Self

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from foremask import errors
from foremask.media import boxes

# With logging on, FFmpeg's threads need the GIL to log. They deadlock with a Python thread that
# holds the GIL while it frees their decoder: docs/adr/0010.
av.logging.set_level(None)


class Container(StrEnum):
    MP4 = "mp4"
    MOV = "mov"
    WEBM = "webm"
    MKV = "mkv"
    AVI = "avi"
    GIF = "gif"
    OTHER = "other"
    """Any container of `_OTHER_DEMUXERS`; the service refuses it by default (docs/adr/0121)."""


_DEMUXER = {
    Container.MP4: "mov",
    Container.MOV: "mov",
    Container.WEBM: "matroska",
    Container.MKV: "matroska",
    Container.AVI: "avi",
    Container.GIF: "gif",
}
_OTHER_DEMUXERS: Final = ",".join(
    [
        *("mpegts", "mpeg", "mpegvideo", "flv", "live_flv", "mxf", "gxf", "lxf", "dv", "asf"),
        *("wtv", "ogg", "nut", "ivf", "nsv", "rm", "yuv4mpegpipe", "apng", "m4v", "h263"),
        *("h264", "hevc", "vvc", "obu", "av1", "dirac", "dnxhd", "vc1"),
    ]
)
"""FFmpeg's demuxers for `Container.OTHER`. They open no further files."""
_OUR_DEMUXERS: Final = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif"
_NO_OUTSIDE_FILES = {"enable_drefs": "0", "use_absolute_path": "0"}
_MP4_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"pnot", b"styp", b"moof"}
_STILL_BRANDS = {b"heic", b"heix", b"mif1", b"avif", b"avis", b"crx "}
_LISTS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<MPD", b"<?xml", b"[playlist]")
"""First bytes of playlists, concat scripts and session descriptions, which name other files."""
_WEBM: Final = re.compile(rb"\x42\x82[^w]{1,8}webm")  # the DocType element
_PICTURE_HEADS: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_PICTURE: Final = "The file is a picture; a video is wanted here. `foremask cutout` takes pictures."
_NONE_OF_OURS: Final = "The file is none of mp4, mov, webm, avi and gif, whatever its name says."
_UNREADABLE: Final = "The file is no video that FFmpeg reads here, whatever its name says."
_NO_INDEX_REMEDY: Final = (
    "Copy, download or export it once more: ffmpeg cannot mend it. If a camera stopped while it"
    " wrote it, put the card back, and the camera may finish it; or"
    " `untrunc WHOLE.mp4 CUT.mp4` may, with a whole file of the same camera."
)
STREAM_REMEDY: Final = (
    "A pipe is read from its start, and the index of an mp4 may be at the file's end:"
    " `ffmpeg -i clip.mp4 -c copy -f nut - | foremask live -`"
)
_Y4M: Final = b"YUV4MPEG2 "
_BLOCK_BYTES: Final = 1 << 16
_MAX_BLOCKS: Final = 64  # 4 MiB: a header that is read in pieces is fetched once


class Source(Protocol):
    """An open file, local or remote; ``read`` may return fewer than ``size`` bytes."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...


class ReadWindow:
    """Reads and caches a source in aligned blocks, so that a remote header takes few requests.

    ``read`` returns at most ``size`` bytes: PyAV would write more bytes beyond its buffer. After
    ``max_bytes`` have been fetched, reading another block raises OSError.
    """

    def __init__(self, source: Source, *, max_bytes: int = sys.maxsize) -> None:
        self._source = source
        self._position = 0
        self.size = source.seek(0, 2)
        self._bytes_read = 0
        self.max_bytes = max_bytes
        self._block = lru_cache(_MAX_BLOCKS)(self._fetched)

    def _fetched(self, index: int) -> bytes:
        if self._bytes_read >= self.max_bytes:
            raise OSError(f"more than {self.max_bytes} bytes were needed")
        self._source.seek(index * _BLOCK_BYTES)
        want = min(_BLOCK_BYTES, self.size - index * _BLOCK_BYTES)
        pieces = []
        while want > 0 and (piece := self._source.read(want)[:want]):
            pieces.append(piece)
            want -= len(piece)
            self._bytes_read += len(piece)
        return b"".join(pieces)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._position)
        if size < 0 or size > left:
            size = left
        if not size:
            return b""
        index, offset = divmod(self._position, _BLOCK_BYTES)
        piece = self._block(index)[offset : offset + size]
        self._position += len(piece)
        return piece

    def read_at(self, offset: int, size: int) -> bytes:
        """Read ``size`` bytes, or fewer at the end of the file, without moving the position."""
        keep = self._position
        self._position = offset
        pieces = []
        while size > 0 and (piece := self.read(size)):
            pieces.append(piece)
            size -= len(piece)
        self._position = keep
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def sniff(head: bytes) -> Container | None:
    """Return the container that a file's first bytes show, or None for unknown bytes."""
    if head[4:8] in _MP4_FIRST_BOXES:
        if head[4:8] != b"ftyp":
            return Container.MOV
        if head[8:12] in _STILL_BRANDS:
            return None
        if head[8:12] == b"qt  ":
            return Container.MOV
        return Container.MP4
    if head[:4] == b"\x1aE\xdf\xa3":
        if _WEBM.search(head[:128]):
            return Container.WEBM
        return Container.MKV
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return Container.AVI
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return Container.GIF
    return None


def _is_text(head: bytes) -> bool:
    end = head.rfind(b" ") + 1 or len(head)  # the last character may be incomplete
    try:
        text = head[:end].decode()
    except UnicodeDecodeError:
        return False
    return all(each.isprintable() or each in "\t\n\r\f" for each in text)


def _head(source: Path | ReadWindow) -> bytes:
    if isinstance(source, ReadWindow):
        return source.read_at(0, 12)
    with source.open("rb") as file:
        return file.read(12)


def _is_picture(head: bytes) -> bool:
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return is_webp or head.startswith(_PICTURE_HEADS)


def recognise(window: ReadWindow, *, any_format: bool = False) -> Container:
    """Return the container of a file by its content; raises a subclass of ClipRefused.

    With ``any_format``, unknown content is `Container.OTHER`, unless it is text or a playlist.
    """
    if not window.size:
        raise errors.ClipRefused("The file has no bytes.", reason="empty_file", actual=0)
    head = window.read_at(0, 4096)
    container = sniff(head)
    if container is None:
        is_list = head.lstrip().startswith(_LISTS)
        if not is_list and not head.startswith(_Y4M) and _is_text(head):
            raise errors.ClipRefused(
                "The file is text, whatever its name says.", reason="not_a_video"
            )
        if any_format and not is_list:
            return Container.OTHER
        details = _PICTURE if _is_picture(head) else _NONE_OF_OURS
        raise errors.ClipRefused(details, reason="container_unsupported")
    if container in (Container.MP4, Container.MOV):
        has_header, is_encrypted = boxes.survey(window.read_at, window.size)
        if is_encrypted:
            raise errors.ClipRefused(
                "The video is protected by DRM; send it unprotected.", reason="encrypted"
            )
        if not has_header:
            details = "The file has no moov box: it was cut off, or never finished; send it whole."
            raise errors.CorruptVideo(details, cli_remedy=_NO_INDEX_REMEDY)
    return container


def open_container(
    container: Container, source: Path | ReadWindow, **options: str
) -> InputContainer:
    """Open ``source`` as ``container``, with a demuxer that may open no other files."""
    is_other = container is Container.OTHER
    demuxer = _DEMUXER.get(container)
    options["format_whitelist"] = _OUR_DEMUXERS
    if is_other:
        options["format_whitelist"] = _OTHER_DEMUXERS
    if demuxer == "mov":
        options |= _NO_OUTSIDE_FILES
    target: Any = source
    if isinstance(source, Path):
        options["protocol_whitelist"] = "file"
        target = f"file:{source}"
    try:
        opened: InputContainer = av.open(
            target, "r", format=demuxer, container_options=options, buffer_size=_BLOCK_BYTES
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        if is_other:
            details = _PICTURE if _is_picture(_head(source)) else _UNREADABLE
            raise errors.ClipRefused(details, reason="container_unsupported") from error
        details = f"The file looks like {container} but cannot be read: {_reason(error)}."
        raise errors.CorruptVideo(details) from error
    return opened


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


@dataclass(frozen=True, slots=True)
class OpenClip:
    container: Container
    demuxer: InputContainer
    size_bytes: int

    @property
    def container_name(self) -> str:
        if self.container is Container.OTHER:
            return self.demuxer.format.name.split(",")[0]
        return self.container.value

    @property
    def track(self) -> VideoStream:
        """The default video track, or else the first one; cover pictures are ignored."""
        stills = Disposition.attached_pic | Disposition.timed_thumbnails
        tracks = [each for each in self.demuxer.streams.video if not each.disposition & stills]
        if not tracks:
            raise errors.ClipRefused(
                "The file has no video track: only sound, or a cover picture.",
                reason="no_video_stream",
            )
        defaults = (track for track in tracks if track.disposition & Disposition.default)
        return next(defaults, tracks[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.demuxer.close()


def open_clip(path: Path) -> OpenClip:
    """Open a clip in any `Container`, even if `probe.probe` refuses the clip."""
    with path.open("rb") as file:
        window = ReadWindow(file)
        container = recognise(window, any_format=True)
    return OpenClip(container, open_container(container, path), window.size)


def open_stream(path: Path) -> OpenClip:
    asked = {"format_whitelist": f"{_OUR_DEMUXERS},{_OTHER_DEMUXERS}", "fpsprobesize": "0"}
    asked |= {"protocol_whitelist": "pipe", **_NO_OUTSIDE_FILES}
    try:
        if path.is_char_device():
            opened = av.open(str(path), "r", format="v4l2")
        else:
            pipe = os.open(path, os.O_RDONLY)
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            ((_, events),) = poll.poll()
            if not events & select.POLLIN:  # only POLLHUP: the writer has ended without a byte
                raise errors.ClipRefused(f"{path} has no bytes.", reason="empty_file", actual=0)
            opened = av.open(f"pipe:{pipe}", "r", container_options=asked)
    except (av.FFmpegError, OSError) as error:
        raise errors.ClipRefused(
            f"{path} gives no video: {_reason(error)}.",
            reason="container_unsupported",
            cli_remedy=STREAM_REMEDY,
        ) from error
    return OpenClip(Container.OTHER, opened, 0)
