"""Caches compiled neural networks on disk.

This module does not import OpenVINO, so that looking for cached networks is quick: docs/adr/0171.
"""

import contextlib
import hashlib
import mmap
import os
import platform
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Final

import msgspec

from foremask.errors import ModelUnavailable
from foremask.machine import hardware
from foremask.machine.locks import locked
from foremask.weights.catalogue import compiled_dir_of, spec_of

SIZES_PX: Final = (1024, 768)  # Side of IS-Net's square input, for a picture and for a crop.
LIVE_PX: Final = 896  # Side of IS-Net's input for a live stream, on most machines.
HINTED_PX: Final = 512  # Side of IS-Net's input for a crop round a hint.
PROMPTED_PX: Final = 512  # Side of the input of the network that reads prompts.
ABANDONED_AFTER_S: Final = 600
_SOURCES: Final = (
    *("session.py", "graph.py", "isnet_int8.json"),
    *("reduction.py", "isnet_reduced.npz", "isnet_reduced_int8.json"),
    *("prompted.py", "isnet_prompts.npz"),
)
_HEADER_BYTES: Final = 64 << 10
# The file is written in small pieces. Linux may cache one large write() as large folios, and map
# a whole folio when a process reads one byte. This cost 36 MB of memory per process.
_WRITTEN_BYTES: Final = 16 << 10
_ALIGNED_BYTES: Final = 64  # Alignment of the network's offset in the file.
_CPU_LINES: Final = Path("/proc/cpuinfo")  # only on Linux
# The lines of this file that identify the processor. Other lines differ between cores.
_CPU_FACTS: Final = frozenset(
    [
        *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
        *("Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part"),
    ]
)
_KERNEL_CHOICE: Final = ("ONEDNN_", "DNNL_")  # prefixes of environment variables of oneDNN


class CompiledForm(StrEnum):
    """The networks that are made of IS-Net's weights."""

    REDUCED = ""
    PROMPTED = "prompted"


COMPILED: Final = (
    *((CompiledForm.REDUCED, size_px) for size_px in (*SIZES_PX, LIVE_PX, HINTED_PX)),
    (CompiledForm.PROMPTED, PROMPTED_PX),
)
"""The networks that are compiled ahead, and the sides of their inputs."""
KEPT_FILES: Final = 2 * len(COMPILED)  # for each of two versions or machines


class Facts(msgspec.Struct, frozen=True):
    is_isnet: bool
    is_reduced: bool
    enlargement_is_cut: bool
    precision: str
    capabilities: tuple[str, ...]


class _Header(msgspec.Struct, frozen=True):
    facts: Facts
    sha256: str


@dataclass(frozen=True, slots=True)
class CompiledNetworks:
    """The cache of networks that are compiled from one file of weights."""

    directory: Path
    weights: Path
    precision: str | None = None
    threads: int = 0
    form: CompiledForm = CompiledForm.REDUCED

    @classmethod
    def of(cls, weights: Path) -> "CompiledNetworks | None":
        """The cache for IS-Net's weights; None for other or missing weights."""
        directory = compiled_dir_of(weights)
        return cls(directory, weights) if directory else None

    def read(self, size: tuple[int, int]) -> tuple[Facts, mmap.mmap, int] | None:
        """Return facts, mapped file and the network's offset in it; None if no file is intact."""
        path = self._path(size)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                header = msgspec.json.decode(file.readline(_HEADER_BYTES), type=_Header)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
                start = file.tell()
        except (OSError, msgspec.MsgspecError):
            return None
        is_whole = header.sha256 == _checksum(header.facts, memoryview(mapped)[start:])
        return (header.facts, mapped, start) if is_whole else None

    def keep(self, size: tuple[int, int], facts: Facts, blob: memoryview) -> None:
        """Write a compiled network, and keep only the newest files; ignore disk errors."""
        path = self._path(size)
        if path is None or not _may_keep:
            return
        header = _Header(facts, _checksum(facts, blob))
        with contextlib.suppress(OSError):
            self.directory.mkdir(exist_ok=True)
            part = self.directory / f".{secrets.token_hex(8)}.part"
            try:
                # All users may read the file, since a service may run as another user.
                created = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                with os.fdopen(created, "wb", buffering=0) as file:
                    line = msgspec.json.encode(header)
                    file.write(line + b" " * (-(len(line) + 1) % _ALIGNED_BYTES) + b"\n")
                    for start in range(0, len(blob), _WRITTEN_BYTES):
                        file.write(blob[start : start + _WRITTEN_BYTES])
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            self._remove_oldest()

    def missing(self) -> list[str]:
        """Name the networks of `COMPILED` that have no compiled file yet."""
        return [
            f"{form} {size_px} px".lstrip()
            for form, size_px in COMPILED
            if replace(self, form=form).read((size_px, size_px)) is None
        ]

    def kept_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in self.directory.glob("*.compiled"))
        return 0

    def can_keep(self) -> bool:
        folder = self.directory if self.directory.exists() else self.directory.parent
        return _may_keep and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold a lock between processes; if the lock file is not writable, hold no lock."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                self.directory.mkdir(exist_ok=True)
                stack.enter_context(locked(self.directory / ".lock"))
            yield

    def _path(self, size: tuple[int, int]) -> Path | None:
        """Return the file's path, or None if the weights or the machine's facts are unreadable."""
        try:
            weights = self.weights.stat()
            origin = (
                metadata.version("openvino"),
                _digest_of_sources(),
                (self.weights.name, weights.st_size, weights.st_mtime_ns),
                repr(spec_of(self.weights)),
                (self.precision, self.threads, self.form, size),
                (_cpu(), hardware.cores(), _variables()),
            )
        except (OSError, ModelUnavailable, metadata.PackageNotFoundError):
            return None
        name = hashlib.sha256(msgspec.json.encode(origin)).hexdigest()[:32]
        return self.directory / f"{name}.compiled"

    def _remove_oldest(self) -> None:
        def age(path: Path) -> float:
            return now - path.stat().st_mtime

        now = time.time()
        for path in sorted(self.directory.glob("*.compiled"), key=age)[KEPT_FILES:]:
            path.unlink(missing_ok=True)
        for part in self.directory.glob(".*.part"):  # left by killed processes
            if age(part) > ABANDONED_AFTER_S:
                part.unlink(missing_ok=True)


def _checksum(facts: Facts, blob: memoryview) -> str:
    checksum = hashlib.sha256(msgspec.json.encode(facts))
    checksum.update(blob)
    return checksum.hexdigest()


_may_keep = True


def only_read() -> None:
    """Stop this process from writing compiled networks, since other processes would run them."""
    global _may_keep
    _may_keep = False


@cache
def _digest_of_sources() -> str:
    here = resources.files("foremask.vision.network")
    return hashlib.sha256(
        b"".join(here.joinpath(each).read_bytes() for each in _SOURCES)
    ).hexdigest()


@cache
def _cpu() -> str:
    facts = []
    with contextlib.suppress(FileNotFoundError), _CPU_LINES.open(errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if not name.strip():
                break
            if name.strip() in _CPU_FACTS:
                facts.append(f"{name.strip()}={value.strip()}")
    if not facts:
        facts = [platform.machine()]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _variables() -> tuple[str, ...]:
    chosen = [name for name in os.environ if name.startswith(_KERNEL_CHOICE)]
    return tuple(f"{name}={os.environ[name]}" for name in sorted(chosen))
