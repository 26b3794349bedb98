"""A directory that shows a child one job: what it may read is linked in, what it writes is moved out."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Slot:
    """Two directories that last as long as we hold their lock."""

    directory: Path
    lock: int

    @property
    def inward(self) -> Path:
        """What the job may read."""
        return self.directory / "in"

    @property
    def outward(self) -> Path:
        """What the job writes."""
        return self.directory / "out"

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self.lock)


@dataclass(frozen=True, slots=True)
class Staged:
    """A job's arguments as its child sees them, and the way back."""

    args: dict[str, Any]
    names: dict[str, str]

    def outside(self, value: object) -> object:
        """The child's result with its paths as the caller knows them."""
        back = {inside: outside for outside, inside in self.names.items()}
        return _renamed(value, back)


def stage(
    slot: Slot, args: dict[str, Any], read_paths: Sequence[Path], scratch: Path | None
) -> Staged:
    """Link what the job may read into the slot; copy it where it lies on another disk."""
    names = {}
    for number, path in enumerate(read_paths):
        inside = slot.inward / f"{number}-{path.name}"
        try:
            os.link(path.resolve(), inside)
        except OSError:
            shutil.copyfile(path, inside)
        names[str(path)] = str(inside)
    if scratch is not None:
        names[str(scratch)] = str(slot.outward)
    return Staged(_renamed(args, names), names)


def collect(slot: Slot, scratch: Path | None) -> None:
    """Move what the child wrote to the caller's scratch: plain files only."""
    if scratch is None:
        return
    for file in slot.outward.rglob("*", recurse_symlinks=False):
        if file.is_file(follow_symlinks=False):
            target = scratch / file.relative_to(slot.outward)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)


def _renamed(value: Any, names: dict[str, str]) -> Any:  # noqa: ANN401
    """``value`` with every path in it, whole or by its directory, under its other name."""
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, str):
        return value
    if value in names:
        return names[value]
    for name, other in names.items():
        if value.startswith(name + os.sep):
            return other + value[len(name) :]
    return value


def empty(slot: Slot) -> None:
    """Leave nothing of a job behind."""
    for directory in (slot.inward, slot.outward):
        for entry in directory.iterdir():
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink()


def new_slot(scratch: Path) -> Slot:
    """A slot below ``scratch``."""
    directory = Path(tempfile.mkdtemp(prefix="slot-", dir=scratch)).resolve()
    lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    slot = Slot(directory, lock)
    slot.inward.mkdir()
    slot.outward.mkdir()
    return slot


def sweep(scratch: Path) -> None:
    """Remove the slots of processes that were killed."""
    for lock in scratch.glob("slot-*/lock"):
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(lock.parent, ignore_errors=True)
        finally:
            os.close(handle)
