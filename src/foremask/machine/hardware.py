"""Finds GPUs, and measures memory within the limit of the container."""

import os
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def share_of_memory(slots: int) -> int:
    """Return one slot's memory in bytes: three quarters of all memory, divided by ``slots``."""
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no control group, or no limit ("max")
        most = min(most, int((_GROUP / "memory.max").read_text()))
    return most * 3 // 4 // slots


def available_memory() -> int:
    """The bytes that a new process can use without swapping, by the kernel's estimate."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        line_available = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line_available.split()[1]) << 10
    with suppress(OSError, ValueError, KeyError):
        most = int((_GROUP / "memory.max").read_text())
        stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
        used = int((_GROUP / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, max(0, most - used))
    return free


def nvidia_cards() -> list[Path]:
    return [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
