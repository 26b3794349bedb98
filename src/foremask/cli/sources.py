"""Finds and checks the inputs of a command line, and yields each input as a local file."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from foremask.cli.exits import Usage
from foremask.cli.progress_bar import progress_bar
from foremask.cli.standard_streams import STANDARD_INPUT, read_head, spool_folder, spooled_input
from foremask.errors import OutputFailed
from foremask.options import Limits
from foremask.settings import Settings, read_settings

DOWNLOAD_S: Final = 3600.0
_CLIPS: Final = (
    "mp4 m4v mov webm mkv avi gif 3gp 3g2 ts m2ts mts mxf flv f4v mpg mpeg vob y4m dv wmv asf ogv"
    " nut ivf apng"
)
_PICTURES: Final = "png jpg jpeg webp avif tif tiff bmp exr dpx jxl qoi"
PICTURE_SUFFIXES: Final = frozenset(f".{name}" for name in _PICTURES.split())
_TAKEN: Final = PICTURE_SUFFIXES | {f".{name}" for name in _CLIPS.split()}
_MADE_STEM: Final = re.compile(r".+\.(mask|cutout|sheet)$")  # names of outputs
_NUMBERED: Final = re.compile(r"(.*?)%0?((?:[1-9]\d{0,2})?)d(.*)")


@dataclass(frozen=True, slots=True)
class ClipSource:
    """One input: a file, a URL, an image sequence, or standard input.

    ``path`` is the file's path. Other inputs have a path, too, from which the output's is made.
    ``below`` is the folder of a file, relative to the folder that was named on the command line.
    ``head`` has the first bytes of standard input. ``first_number`` is in the name of the first of
    the ``pictures``.
    """

    named: str
    path: Path
    below: Path = Path()
    pictures: tuple[Path, ...] = ()
    head: bytes = b""
    first_number: int = 1

    @property
    def is_piped(self) -> bool:
        return bool(self.head)

    @property
    def is_url(self) -> bool:
        return "://" in self.named

    @property
    def is_picture(self) -> bool:
        return not self.pictures and self.path.suffix.lower() in PICTURE_SUFFIXES

    @property
    def is_named_as_made(self) -> bool:
        return bool(self.files) and _MADE_STEM.match(self.path.stem) is not None

    @property
    def files(self) -> tuple[Path, ...]:
        if self.is_url or self.is_piped:
            return ()
        return self.pictures or (self.path,)


def find_sources(
    words: Sequence[str], *, recursive: bool = False, joined: bool = False
) -> list[ClipSource]:
    """List the inputs in the order of ``words``, without duplicates.

    With ``joined``, the pictures of a folder are one clip. Raises Usage if a word names no input.
    """
    sources: dict[object, ClipSource] = {}
    for word in words:
        if word == STANDARD_INPUT:
            found = [_piped(alone=len(words) == 1)]
        else:
            found = list(_expanded(word, recursive=recursive, joined=joined))
        for source in found:
            files = tuple(file_identity(path) for path in source.files)
            sources.setdefault(files or source.named, source)
    return list(sources.values())


def file_identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of ``path``, following links; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _expanded(word: str, *, recursive: bool, joined: bool) -> Iterator[ClipSource]:
    path = Path(word)
    if "://" in word:
        name = Path(unquote(urlsplit(word).path)).name.replace("\0", "")
        yield ClipSource(word, Path("clip" if name in ("", "..") else name))
    elif path.is_file():
        yield ClipSource(word, path)
    elif path.is_dir():
        yield from _in_folder(path, recursive=recursive, joined=joined)
    elif _NUMBERED.fullmatch(path.name):
        yield _numbered(path)
    elif glob.has_magic(word):
        yield from _matching(word, recursive=recursive)
    else:
        check_there(path)  # raises Usage


def _piped(*, alone: bool) -> ClipSource:
    if not alone:
        raise Usage("a clip by standard input is the only INPUT: leave out the others")
    from foremask.media.pictures import picture_demuxer  # av is slow to import

    head = read_head()
    suffix = ".mp4" if picture_demuxer(head) is None else ".png"
    return ClipSource("-", Path(f"stdin{suffix}"), head=head)


def is_clip_name(word: str) -> bool:
    path = Path(word)
    return "://" in word or path.suffix.lower() in _TAKEN or path.is_file()


def _in_folder(folder: Path, *, recursive: bool, joined: bool) -> Iterator[ClipSource]:
    pictures: dict[Path, list[Path]] = {}
    paths = folder.rglob("*") if recursive else folder.iterdir()
    wanted = [path for path in paths if path.suffix.lower() in _TAKEN and _is_wanted(path, folder)]
    if not wanted:
        deeper = "" if recursive else "; --recursive looks into its folders"
        raise Usage(f"there is no clip in {folder}{deeper}")
    for path in sorted(wanted, key=_natural_order):
        source = ClipSource(str(path), path, path.relative_to(folder).parent)
        if joined and source.is_picture:
            pictures.setdefault(path.parent, []).append(path)
        else:
            yield source
    for parent, files in pictures.items():
        called = parent if parent.name else parent.absolute()
        below = parent.relative_to(folder).parent  # Path(), for `folder` itself
        yield ClipSource(f"{parent}/", called, below, tuple(files))


def _numbered(pattern: Path) -> ClipSource:
    """Find the files of a pattern like ``%04d.png``; raises Usage if a number is missing."""
    before, digits, after = _NUMBERED.findall(pattern.name)[0]
    name = re.compile(rf"{re.escape(before)}(\d{{{int(digits or 1)},}}){re.escape(after)}")
    matches = ((path, name.fullmatch(path.name)) for path in pattern.parent.glob("*"))
    by_number = {int(match[1]): path for path, match in matches if match and path.is_file()}
    if not by_number:
        raise Usage(f"no file matches {pattern}")
    first = min(by_number)
    last = max(by_number)
    gap = next((number for number in range(first, last) if number not in by_number), None)
    if gap is not None:
        raise Usage(f"{pattern} goes from {first} to {last}, and {gap} is missing")
    called = before.rstrip("-_. ") or pattern.parent.name or "frames"
    pictures = tuple(by_number[number] for number in sorted(by_number))
    path = pattern.with_name(called)
    return ClipSource(str(pattern), path, pictures=pictures, first_number=first)


def _matching(pattern: str, *, recursive: bool) -> Iterator[ClipSource]:
    deep = recursive or "**" in pattern
    found = map(Path, glob.glob(pattern, recursive=deep))  # noqa: PTH207  # Path.glob refuses /*
    wanted = [path for path in found if _is_wanted(path, Path())]
    if not wanted:
        raise Usage(f"no file matches {pattern}")
    for path in sorted(wanted, key=_natural_order):
        yield ClipSource(str(path), path)


def _is_wanted(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    hidden = any(part.startswith(".") and part not in (".", "..") for part in inside.parts)
    return path.is_file() and not hidden and not _MADE_STEM.match(path.stem)


def _natural_order(path: Path) -> list[tuple[int, str]]:
    # clip 9 comes before clip 10
    return [
        (int(piece), "") if piece.isdecimal() else (-1, piece.casefold())
        for piece in re.split(r"(\d+)", str(path))
    ]


def check_there(path: Path) -> None:
    """Raise Usage if ``path`` is no file that can be read, and say what to name instead."""
    if path.parts and path.parts[0] in ("http:", "https:"):
        url = path.as_posix().replace(":/", "://", 1)  # a path has no empty parts
        raise Usage(f"{url} is a URL: download it, and name the file")
    try:
        if not path.exists():
            raise Usage(f"there is no file {path}")
        if path.is_dir():
            raise Usage(f"{path} is a folder: name a file in it")
        if not path.is_file():
            raise Usage(f"{path} is not a file")
        path.open("rb").close()
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from None


def check_clip(path: Path) -> None:
    """Raise Usage if ``path`` is missing, cannot be read, or is a picture."""
    from foremask.media.pictures import is_picture  # av is slow to import

    check_there(path)
    if is_picture(path):
        raise Usage(f"{path} is a picture: `foremask mask` and `cutout` take it; this takes clips")


@contextmanager
def clip_file(path: Path, fps: Fraction | int = 25) -> Iterator[Path]:
    """Yield the file of a clip, which may be named as pictures, like ``%04d.png``.

    Raises Usage as `check_clip` does.
    """
    if is_sequence(path):
        with local_clip(_numbered(path), read_settings(os.environ), fps) as packed:
            yield packed
    else:
        check_clip(path)
        yield path


def sequence_path(path: Path) -> Path:
    """The path from which outputs of a clip are named: that of pictures has no number."""
    return _numbered(path).path if is_sequence(path) else path


def is_sequence(path: Path) -> bool:
    """Whether the name stands for many pictures, like ``%04d.png``."""
    return _NUMBERED.fullmatch(path.name) is not None and not path.exists()


@contextmanager
def local_clip(
    source: ClipSource, settings: Settings, fps: Fraction | int = 25, *, shows: bool = True
) -> Iterator[Path]:
    """Yield the path of a local file with the clip; a temporary file is deleted after the block.

    Standard input is saved. A URL is downloaded; more than 1 GiB is refused. Pictures are packed
    into a clip of ``fps`` frames a second.
    """
    if source.is_piped:
        with spooled_input(source.head) as path:
            yield path
    elif source.is_url:
        with spool_folder() as folder:
            _download(source.named, folder / "source", settings, shows=shows)
            yield folder / "source"
    elif source.pictures:
        from foremask.media.pictures import pack_pictures  # av is slow to import

        with spool_folder() as folder:
            path = folder / "source.mov"
            total = len(source.pictures)
            with progress_bar("read", "pictures", shows=shows) as show:
                pack_pictures(source.pictures, Fraction(fps), path, lambda done: show(done, total))
            yield path
    else:
        check_there(source.path)
        yield source.path


def _download(url: str, path: Path, settings: Settings, *, shows: bool) -> None:
    import asyncio  # asyncio and httpx2 are slow to import

    from foremask.fetch.client import Outbound

    async def fetch() -> None:
        async with Outbound(allow_private=settings.allow_private) as outbound:
            await outbound.download(
                url, file.write, max_bytes=Limits().max_bytes, deadline_s=DOWNLOAD_S, on_bytes=show
            )

    try:
        with progress_bar("download", "MB", shows=shows) as show, path.open("wb") as file:
            asyncio.run(fetch())
    except OSError as error:
        raise OutputFailed(
            f"the download cannot be kept in {path.parent}: {error.strerror}; TMPDIR may name "
            "another directory"
        ) from error
