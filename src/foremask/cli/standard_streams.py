"""Reads clips from standard input, and writes results to standard output."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from foremask.cli.exits import Usage, writing_output
from foremask.errors import OutputFailed

STANDARD_INPUT: Final = "/dev/stdin"
STANDARD_OUTPUT: Final = "/dev/stdout"
EMPTY: Final = "standard input is empty: the program before the pipe sent nothing"
LEAST_FREE_BYTES: Final = 1 << 30
LEAST_FREE_SHARE: Final = 0.1  # of a disk that is smaller than 10 GiB, such as a /tmp in memory
_HEAD_BYTES: Final = 4096
_PIECE_BYTES: Final = 1 << 20


def named(words: Sequence[str]) -> list[str]:
    """Replace each ``-`` by the path of the standard stream: cyclopts takes ``-`` for an option."""
    for word in words:  # an empty INPUT would mean the current folder
        if not word or (word.startswith("--") and word.endswith("=")):
            raise Usage(f"{word!r} is empty: is a variable of the shell not set?")
    paths = []
    for last, word in zip(["", *words], words, strict=False):
        if word != "-":
            paths.append(word)
        elif last in ("-o", "--output"):
            paths.append(STANDARD_OUTPUT)
        else:
            paths.append(STANDARD_INPUT)
    return paths


def check_standard_input() -> None:
    if sys.stdin.isatty():
        raise Usage("standard input is a terminal: pipe a clip into it")


def read_head() -> bytes:
    check_standard_input()
    head = sys.stdin.buffer.read(_HEAD_BYTES)
    if not head:
        raise Usage(EMPTY)
    return head


@contextmanager
def spooled_input(head: bytes) -> Iterator[Path]:
    """Save ``head``, which has been read already, and the rest of standard input to a file.

    Raises OutputFailed if the disk has less than 1 GiB left, and less than a tenth of its size.
    """
    with spool_folder() as folder:
        path = folder / "stdin"
        with path.open("wb") as file:
            piece = head
            source = sys.stdin.buffer
            while piece:
                disk = shutil.disk_usage(folder)
                if disk.free < min(LEAST_FREE_BYTES, LEAST_FREE_SHARE * disk.total):
                    raise OutputFailed(
                        f"standard input is kept in {folder.parent}, which is nearly full after"
                        f" {file.tell() / 1e6:.0f} MB: {disk.free / 1e6:.0f} of"
                        f" {disk.total / 1e6:.0f} MB are free; TMPDIR may name another directory"
                    )
                file.write(piece)
                piece = source.read(_PIECE_BYTES)
        yield path


@contextmanager
def spool_folder() -> Iterator[Path]:
    # Clips may be large: use /var/tmp, since /tmp may be in memory.
    parent = None
    if "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK):  # noqa: S108
        parent = "/var/tmp"  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="foremask-", dir=parent) as folder:
        yield Path(folder)


def check_standard_output(*, as_json: bool) -> None:
    if as_json:
        raise Usage("--json and -o - both write to standard output: choose one")
    if sys.stdout.isatty():
        raise Usage("standard output is a terminal: pipe it to a program, or into a file by >")


def send(path: Path) -> None:
    with path.open("rb") as file, writing_output():
        shutil.copyfileobj(file, sys.stdout.buffer, _PIECE_BYTES)
        sys.stdout.buffer.flush()
