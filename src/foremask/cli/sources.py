"""A clip that is named on the command line: a file as it is, or a URL, brought here or read from afar."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foremask.cli.exits import Usage
from foremask.cli.meter import MEGABYTES, meter
from foremask.errors import OutputFailed
from foremask.options import Limits
from foremask.sandbox.remote import RemoteFile
from foremask.settings import Settings


def looked_at[T](named: str, settings: Settings, look: Callable[[Path | RemoteFile], T]) -> T:
    """What ``look`` says of the clip; of a URL it reads pieces, and all only where they do not suffice."""
    if "://" in named:
        from foremask.outbound import OutOfReach  # httpx2 takes its time to load
        from foremask.outbound.sync import open_ranges

        try:
            with open_ranges(
                named, max_bytes=Limits().max_bytes, allow_private=settings.allow_private
            ) as ranges:
                if ranges.size is not None:
                    return look(RemoteFile(ranges, ranges.size))
        except OutOfReach:  # a gif without ranges, or a header that is spread over the whole file
            pass
    with local_file(named, settings) as path:
        return look(path)


def check_there(path: Path) -> None:
    """Raise Usage where there is no such file."""
    if not path.is_file():
        raise Usage(f"{path} is not a file" if path.exists() else f"there is no file {path}")


@contextmanager
def local_file(named: str, settings: Settings) -> Iterator[Path]:
    """The clip as a file for the length of a block; a URL may bring 1 GiB, as at the service."""
    if "://" not in named:
        path = Path(named)
        check_there(path)
        yield path
        return
    from foremask.outbound.sync import download_file  # httpx2 takes its time to load

    with tempfile.TemporaryDirectory(prefix="foremask-") as folder:
        path = Path(folder) / "source"
        try:
            with meter("download", MEGABYTES) as show:
                download_file(
                    named,
                    path,
                    max_bytes=Limits().max_bytes,
                    allow_private=settings.allow_private,
                    on_bytes=show,
                )
        except OSError as error:
            raise OutputFailed(
                f"the download cannot be kept in {folder}: {error.strerror}; TMPDIR may name "
                "another directory"
            ) from error
        yield path
