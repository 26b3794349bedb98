"""Watches a folder: each clip is given out once it has stopped growing."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from foremask.cli.exits import Usage, note, warn
from foremask.cli.products import Job, Product
from foremask.cli.sources import ClipSource, clips_in, is_made
from foremask.cli.targets import plan_jobs

POLL_S: Final = 0.5
SETTLED_S: Final = 2.0
"""A clip whose size and time of change are the same for so long has been written."""

type _Version = tuple[int, int]  # bytes and nanoseconds, as the file system has them


def settled_clips(folder: Path, *, recursive: bool) -> Iterator[ClipSource]:
    """The clips of ``folder``, those that come later too, for ever.

    One that changes after it was given out is given out again. An empty file is still awaited.
    """
    since_s: dict[Path, tuple[_Version, float]] = {}
    given: dict[Path, _Version] = {}
    while True:
        for source in clips_in(folder, recursive=recursive):
            version = _version_of(source.path)
            if version is None or given.get(source.path) == version:
                continue
            known, unchanged_since_s = since_s.get(source.path, (None, 0.0))
            if known != version:
                since_s[source.path] = version, time.monotonic()
            elif time.monotonic() - unchanged_since_s >= SETTLED_S:
                given[source.path] = version
                del since_s[source.path]
                yield source
        time.sleep(POLL_S)


def watched_jobs(
    folder: Path, output: str | None, product: Product, *, recursive: bool, replace: bool
) -> Iterator[Job]:
    """A job for each clip of the folder whose mask is not there, for ever.

    Raises Usage at once where the folder is none, where OUTPUT is one file for all clips, or where
    a mask would be taken for a clip itself.
    """
    if not folder.is_dir():
        raise Usage(f"{folder} is no folder that can be watched")
    examples = [ClipSource(name, folder / name) for name in ("one.mp4", "two.mp4")]
    for job in plan_jobs(examples, output, product)[0]:
        _check_elsewhere(job.target, folder, recursive=recursive)
    note(f"watching {folder}; Ctrl-C ends it")
    return _jobs(settled_clips(folder, recursive=recursive), output, product, replace=replace)


def _jobs(
    sources: Iterable[ClipSource], output: str | None, product: Product, *, replace: bool
) -> Iterator[Job]:
    begun: set[Path] = set()
    for source in sources:
        (job,), _ = plan_jobs([source], output, product)
        if not job.target.exists() or replace:
            begun.add(source.path)
            yield job
        elif source.path in begun:
            warn(
                f"{source.named} has changed, and {job.target} is of what it was: remove that, or"
                " use --force"
            )


def _version_of(path: Path) -> _Version | None:
    """None where the file is gone, or has no bytes yet."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None


def _check_elsewhere(target: Path, folder: Path, *, recursive: bool) -> None:
    place, watched = target.parent.resolve(), folder.resolve()
    inside = place.is_relative_to(watched) if recursive else place == watched
    if inside and not is_made(target):
        raise Usage(
            f"{target} would be watched and masked itself: choose an OUTPUT outside {folder}, or"
            " a name that ends in .mask"
        )
