"""A clip that is named on the command line: a file as it is, or a URL, brought here first."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foremask.cli.exits import Usage
from foremask.cli.meter import MEGABYTES, meter
from foremask.errors import OutputFailed
from foremask.options import Limits
from foremask.settings import Settings


@contextmanager
def local_file(named: str, settings: Settings) -> Iterator[Path]:
    """The clip as a file for the length of a block; a URL may bring 1 GiB, as at the service."""
    if "://" not in named:
        path = Path(named)
        if not path.is_file():
            raise Usage(f"{named} is not a file" if path.exists() else f"there is no file {named}")
        yield path
        return
    from foremask.outbound import download_file  # httpx2 takes its time to load

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
