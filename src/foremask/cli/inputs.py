"""Clips named on the command line, as files: a URL is downloaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from foremask.cli.exits import Usage
from foremask.cli.progress_bar import MEGABYTES, PICTURES, progress_bar
from foremask.cli.sources import ClipSource
from foremask.cli.standard_streams import spool_folder, spooled_input
from foremask.errors import OutputFailed
from foremask.options import Limits
from foremask.settings import Settings


def check_there(path: Path) -> None:
    """Raise Usage where there is no such file, or where it may not be read."""
    try:
        if not path.is_file():
            raise Usage(f"{path} is not a file" if path.exists() else f"there is no file {path}")
        path.open("rb").close()
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from None


def check_clip(path: Path) -> None:
    """As `check_there`; a picture is refused, too."""
    from foremask.media.pictures import is_picture  # av takes its time to load

    check_there(path)
    if is_picture(path):
        raise Usage(f"{path} is a picture: `foremask mask` and `cutout` take it; this takes clips")


@contextmanager
def local_clip(
    source: ClipSource, settings: Settings, fps: Fraction, *, shows: bool = True
) -> Iterator[Path]:
    """As `local_file`; pictures that are a clip are put into one file, at ``fps``."""
    if source.is_piped:
        with spooled_input(source.head) as path:
            yield path
        return
    if not source.pictures:
        with local_file(source.named, settings, shows=shows) as path:
            yield path
        return
    from foremask.media.pictures import pack_pictures  # av takes its time to load

    with spool_folder() as folder:
        path = folder / "source.mov"
        total = len(source.pictures)
        with progress_bar("read", PICTURES, shows=shows) as show:
            pack_pictures(source.pictures, fps, path, lambda done: show(done, total))
        yield path


@contextmanager
def local_file(named: str, settings: Settings, *, shows: bool = True) -> Iterator[Path]:
    """The clip as a file for the length of a block; a URL may have 1 GiB, as in the service."""
    if "://" not in named:
        path = Path(named)
        check_there(path)
        yield path
        return
    from foremask.fetch.client import download_file  # httpx2 takes its time to load

    with spool_folder() as folder:
        path = folder / "source"
        try:
            with progress_bar("download", MEGABYTES, shows=shows) as show:
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
