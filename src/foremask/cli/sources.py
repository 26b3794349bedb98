"""Which clips the words of a command line name.

Files, folders, globs, URLs, a list on standard input.
"""

import glob
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from foremask.cli.exits import Usage

CLIP_SUFFIXES = frozenset({
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif", ".3gp", ".3g2"),
})  # fmt: skip
"""What is taken from a folder; a file that is named is taken whatever its ending."""
MASK_STEM = re.compile(r".+\.mask$")
"""How a mask is named by default; folders and globs leave such files out."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """One thing to mask.

    ``below`` is the folder that it was found in, relative to the folder that was named.
    ``is_found`` says that a folder or a glob brought it, and not its own name.
    """

    named: str
    below: Path = Path()
    is_found: bool = False

    @property
    def is_url(self) -> bool:
        """Whether it has to be downloaded."""
        return "://" in self.named

    @property
    def path(self) -> Path:
        """The file; for a URL, what the file would be called."""
        if self.is_url:
            return Path(Path(urlsplit(self.named).path).name or "clip")
        return Path(self.named)


def find_sources(
    words: Sequence[str], *, recursive: bool, listed: Iterable[str] | None = None
) -> list[ClipSource]:
    """All clips that ``words`` name, each once, in order; ``-`` reads names from ``listed``.

    Raises Usage where a word names nothing: nothing has been masked then.
    """
    sources: dict[object, ClipSource] = {}
    for word in words:
        if word == "-":
            found = [_named(line) for line in _lines(sys.stdin if listed is None else listed)]
        else:
            found = list(_expanded(word, recursive=recursive))
        for source in found:
            identity = source.named if source.is_url else file_identity(source.path)
            sources.setdefault(identity, source)
    if not sources:
        raise Usage("no INPUT is named; `foremask mask --help` has examples")
    return list(sources.values())


def _expanded(word: str, *, recursive: bool) -> Iterator[ClipSource]:
    path = Path(word)
    if "://" not in word and path.is_dir():
        yield from _in_folder(path, recursive=recursive)
    elif "://" not in word and not path.exists() and glob.has_magic(word):
        yield from _matching(word, recursive=recursive)
    else:
        yield _named(word)


def _named(word: str) -> ClipSource:
    source = ClipSource(word)
    if not source.is_url and not source.path.is_file():
        raise Usage(f"{word} is not a file" if source.path.exists() else f"there is no file {word}")
    return source


def _lines(listed: Iterable[str]) -> list[str]:
    """One name a line, or separated by NUL, as `find -print0` writes them."""
    text = "".join(listed)
    return [line for line in text.split("\0" if "\0" in text else "\n") if line.strip()]


def _in_folder(folder: Path, *, recursive: bool) -> Iterator[ClipSource]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    clips = [
        path for path in found if _is_wanted(path, folder) and path.suffix.lower() in CLIP_SUFFIXES
    ]
    if not clips:
        deeper = "" if recursive else "; --recursive looks into its folders"
        raise Usage(f"there is no clip in {folder}{deeper}")
    for path in sorted(clips, key=natural_order):
        yield ClipSource(str(path), path.relative_to(folder).parent, is_found=True)


def _matching(pattern: str, *, recursive: bool) -> Iterator[ClipSource]:
    deep = recursive or "**" in pattern
    names = glob.glob(pattern, recursive=deep)  # noqa: PTH207  # of any folder
    found = [Path(name) for name in names]
    clips = [path for path in found if _is_wanted(path, Path())]
    if not clips:
        raise Usage(f"no file matches {pattern}")
    for path in sorted(clips, key=natural_order):
        yield ClipSource(str(path), is_found=True)


def _is_wanted(path: Path, folder: Path) -> bool:
    """Whether it is a file that is not hidden, and no mask of ours."""
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    hidden = any(part.startswith(".") and part not in (".", "..") for part in inside.parts)
    return path.is_file() and not hidden and not MASK_STEM.match(path.stem)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A key by which clip 9 comes before clip 10."""
    return [
        (int(piece), "") if piece.isdigit() else (-1, piece.casefold())
        for piece in re.split(r"(\d+)", str(path))
    ]


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file that ``path`` leads to, whatever the links.

    None where there is none.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
