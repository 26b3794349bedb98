"""Checks the clips that a command line names, and makes them local files."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from foremask.cli.exits import Usage
from foremask.cli.progress_bar import progress_bar
from foremask.cli.sources import ClipSource
from foremask.cli.standard_streams import spool_folder, spooled_input
from foremask.errors import OutputFailed
from foremask.options import Limits
from foremask.settings import Settings


def check_there(path: Path) -> None:
    """Raise Usage where ``path`` is no file, or may not be read."""
    try:
        if not path.is_file():
            raise Usage(f"{path} is not a file" if path.exists() else f"there is no file {path}")
        path.open("rb").close()
    except OSError as error:
        raise Usage(f"{path} cannot be read: {error.strerror}") from None


def check_clip(path: Path) -> None:
    """Raise Usage where ``path`` is no file, may not be read, or is a picture."""
    from foremask.media.pictures import is_picture  # av is slow to import

    check_there(path)
    if is_picture(path):
        raise Usage(f"{path} is a picture: `foremask mask` and `cutout` take it; this takes clips")


@contextmanager
def local_clip(
    source: ClipSource, settings: Settings, fps: Fraction, *, shows: bool = True
) -> Iterator[Path]:
    """As `local_file`; standard input is saved, and pictures are packed into a clip of ``fps``."""
    if source.is_piped:
        with spooled_input(source.head) as path:
            yield path
        return
    if not source.pictures:
        with local_file(source.named, settings, shows=shows) as path:
            yield path
        return
    from foremask.media.pictures import pack_pictures  # av is slow to import

    with spool_folder() as folder:
        path = folder / "source.mov"
        total = len(source.pictures)
        with progress_bar("read", "pictures", shows=shows) as show:
            pack_pictures(source.pictures, fps, path, lambda done: show(done, total))
        yield path


@contextmanager
def local_file(named: str, settings: Settings, *, shows: bool = True) -> Iterator[Path]:
    """Yield the file's path; a URL is downloaded, 1 GiB at most, and kept during the block."""
    if "://" not in named:
        path = Path(named)
        check_there(path)
        yield path
        return
    from foremask.fetch.client import download_file  # httpx2 is slow to import

    with spool_folder() as folder:
        path = folder / "source"
        try:
            with progress_bar("download", "MB", shows=shows) as show:
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
