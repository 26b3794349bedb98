"""Finds GPUs, and measures memory within the limit of the container."""

import os
import sys
from contextlib import suppress
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int:
    return _pages_bytes("SC_PHYS_PAGES")


def share_of_memory(slots: int) -> int:
    """Return one slot's memory in bytes: three quarters of all memory, divided by ``slots``."""
    most = total_memory()
    with suppress(OSError, ValueError):  # no control group, or no limit ("max")
        most = min(most, int((_GROUP / "memory.max").read_text()))
    return most * 3 // 4 // slots


def available_memory() -> int:
    """The bytes that a new process can use without swapping, by the kernel's estimate.

    Where the system does not say it, `sys.maxsize`.
    """
    free = _pages_bytes("SC_AVPHYS_PAGES")
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


def _pages_bytes(name: str) -> int:
    """The bytes of a number of pages; macOS does not have all names, and Windows none."""
    if sys.platform == "win32" or name not in os.sysconf_names:
        return sys.maxsize
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def nvidia_cards() -> list[Path]:
    return [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
