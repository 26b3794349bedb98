"""The directory of a local store: free space, flushing, and what obstore leaves behind."""

import os
import re
import secrets
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from foremask.errors import StorageFull

RESERVE_BYTES = 2 << 30
RESERVE_SHARE = 0.05

_HALF_WRITTEN = re.compile(r"#\d+$")


def check_free(directory: Path, size: int) -> None:
    """Raise StorageFull unless the disk has ``size`` bytes more than the reserve."""
    usage = shutil.disk_usage(directory)
    kept = min(int(RESERVE_SHARE * usage.total), RESERVE_BYTES)
    if usage.free - size < kept:
        raise StorageFull(
            f"The disk has {usage.free} bytes free; {size} are needed beside {kept} in reserve.",
            limit=kept,
            actual=usage.free,
        )


def make_local_key(path: Path) -> None:
    """Make the signing key where there is none, readable by its owner only."""
    if path.exists():
        path.chmod(0o600)  # earlier versions left it as the umask would have it
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_bytes(32))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(part, path)
        except FileExistsError:  # another process was first
            return
        except OSError:  # a file system without hard links
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def flush(root: Path, key: str) -> None:
    """Flush the file and its two directories to disk: a finished job survives a power cut."""
    path = root / key
    for each in (path, path.parent, path.parent.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sweep_tree(top: Path, before: datetime) -> None:
    """Remove old files that obstore has not finished, and old empty directories."""
    for directory, _, files in os.walk(top, topdown=False):
        for name in files:
            path = Path(directory, name)
            with suppress(OSError):
                if _HALF_WRITTEN.search(name) and path.stat().st_mtime < before.timestamp():
                    path.unlink()
        with suppress(OSError):  # there is something in it, or it is new
            if Path(directory).stat().st_mtime < before.timestamp():
                Path(directory).rmdir()
