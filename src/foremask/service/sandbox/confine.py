"""Restricts the calling process by Landlock and seccomp; only this module calls libseccomp."""

import ctypes
import errno
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foremask.errors import SettingsInvalid
from foremask.options import Device
from foremask.service.sandbox import system_calls
from foremask.settings import Sandbox

_LIBRARY: Final = "libseccomp.so.2"  # ABI unchanged since 2012: docs/adr/0042
_ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
_LACKS_CALL: Final = _ERRNO | errno.ENOSYS  # libraries then use another call, or go without
_BAD_ARCHITECTURE: Final = 2  # the attribute of a filter: what 32-bit and x32 calls lead to
_MASKED_EQUAL: Final = 7


class When(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


# From the Linux headers; these numbers are the same on x86-64 and ARM.
_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_ADD_RULE = 445
_LANDLOCK_RESTRICT_SELF = 446
_RULESET_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_FILE = 1 << 5
_MAKE_REG = 1 << 8
_TRUNCATE = 1 << 14
_FILE_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # number of rights by Landlock version
_TCP = 0b11  # bind and connect
_SIGNALS_AND_SOCKETS = 0b11
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_GET_SECCOMP = 21
_PR_SET_NO_NEW_PRIVS = 38
_OF_ITSELF: Final = (
    *("cgroup", "cmdline", "environ", "maps", "mountinfo", "mounts", "stat", "statm", "status"),
    *("fd", "limits", "smaps_rollup", "auxv"),
)
"""Readable entries of /proc/self, without net and task, which show the machine's network."""

_OPEN_FILES: Final = 256
LEAST_LANDLOCK: Final = 1  # Linux 5.13; stops all attacks in tests/service/sandbox


@dataclass(frozen=True, slots=True)
class Level:
    """How a process is confined. ``landlock`` is the version of Landlock, or 0."""

    landlock: int = 0
    seccomp: bool = False

    @property
    def full(self) -> bool:
        return self.landlock >= LEAST_LANDLOCK and self.seccomp

    def __str__(self) -> str:
        held = [f"landlock v{self.landlock}"] * (self.landlock > 0) + ["seccomp"] * self.seccomp
        return " + ".join(held) or "none"


def available() -> Level:
    return Level(_landlock_version(), _seccomp() is not None)


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent thread ends."""
    if sys.platform != "linux":
        return
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # the parent ended before the call
        os._exit(1)


def cap(address_space_bytes: int, file_bytes: int) -> None:
    """Limit memory, file size, open files and core dumps. A lower hard limit stays."""
    for kind, wanted in (
        (resource.RLIMIT_AS, address_space_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = wanted
        if hard != resource.RLIM_INFINITY:
            most = min(wanted, hard)
        resource.setrlimit(kind, (most, most))


def confine(
    read: Iterable[Path], write: Iterable[Path], landlock_at_most: int | None = None
) -> Level:
    """Deny this process files outside ``read`` and ``write``, and calls outside system_calls.py.

    Missing paths are ignored. ``landlock_at_most`` limits the version of Landlock. Returns the
    level that was reached. Raises RuntimeError if the process has other threads, which
    NumPy starts when it is imported.
    """
    if sys.platform != "linux":
        return Level()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("a process with threads cannot be confined as a whole")
    seccomp = _seccomp()  # before the files of libseccomp become unreadable
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Level()
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    version = _restrict_files(libc, read, write, landlock_at_most)
    _drop_capabilities(libc)
    if seccomp is not None:
        _restrict_calls(seccomp)
    return Level(version, seccomp is not None)


def python_paths() -> list[Path]:
    """Return the paths that Python and its libraries read while they run."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    named = [sysconfig.get_path(name) for name in names]
    named += [sysconfig.get_config_var("LIBDIR") or "", *sys.path]
    libraries = filter(os.path.isabs, named)  # no prefix: all of /usr can be below it
    system = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    itself = [f"/proc/self/{name}" for name in _OF_ITSELF]
    kernel = ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/sys/devices/system"]
    devices = ["/dev/urandom", "/dev/null", "/dev/zero"]
    here = str(Path(__file__).parents[2])
    return [Path(name) for name in (*libraries, *system, *itself, *kernel, *devices, here)]


def _restrict_files(
    libc: ctypes.CDLL, read: Iterable[Path], write: Iterable[Path], at_most: int | None
) -> int:
    version = _landlock_version()
    if at_most is not None:
        version = min(version, at_most)
    if version == 0:
        return 0
    known = (1 << _FILE_RIGHTS_BY_ABI.get(version, 16)) - 1
    # A ruleset denies access to files. It also denies TCP from version 4 on, and from version 6 on
    # signals to other processes and connections to their abstract sockets. The struct grew, too.
    attributes = struct.pack("Q", known)
    if version >= 4:
        attributes += struct.pack("Q", _TCP)
    if version >= 6:
        attributes += struct.pack("Q", _SIGNALS_AND_SOCKETS)
    ruleset = libc.syscall(
        _LANDLOCK_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        return 0
    try:
        for paths, rights in ((read, _READ), (write, _WRITE)):
            for path in paths:
                _allow(libc, ruleset, path, rights & known)
        if libc.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) != 0:
            return 0
    finally:
        os.close(ruleset)
    return version


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, rights: int) -> None:
    try:
        there = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if not path.is_dir():
            rights &= _OF_A_FILE
        rule = struct.pack("<Qi", rights, there)
        if libc.syscall(_LANDLOCK_ADD_RULE, ruleset, _PATH_BENEATH, rule, ctypes.c_uint32(0)) != 0:
            raise OSError(ctypes.get_errno(), "cannot allow a path in the sandbox", str(path))
    finally:
        os.close(there)


def _seccomp() -> ctypes.CDLL | None:
    """Load libseccomp. Returns None if the library is missing or the kernel lacks seccomp."""
    if sys.platform != "linux" or _libc().prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        return None
    try:
        library = ctypes.CDLL(_LIBRARY)
        library.seccomp_init.argtypes = (ctypes.c_uint32,)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        library.seccomp_rule_add_array.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_void_p,
        )
        library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
        library.seccomp_load.argtypes = (ctypes.c_void_p,)
    except (OSError, AttributeError):  # AttributeError: another library of this name
        return None
    return library


def _restrict_calls(library: ctypes.CDLL) -> None:
    rules = library.seccomp_init(_LACKS_CALL)
    if rules is None:
        raise OSError("libseccomp cannot begin a filter")
    if failed := library.seccomp_attr_set(rules, _BAD_ARCHITECTURE, _LACKS_CALL):
        raise OSError(-failed, "seccomp cannot refuse the calls of other architectures")

    def allow(call: str, bits: system_calls.Bits) -> None:
        """Allow ``call`` if all ``bits`` match. Ignores calls that this machine lacks."""
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        conditions = (
            When(argument, _MASKED_EQUAL, mask, value) for argument, (mask, value) in bits.items()
        )
        compared = (When * len(bits))(*conditions)
        if failed := library.seccomp_rule_add_array(rules, _ALLOW, number, len(bits), compared):
            raise OSError(-failed, f"no seccomp rule for {call}: {os.strerror(-failed)}")

    for names in system_calls.ALLOWED.values():
        for call in names:
            allow(call, {})
    for call, conditions in system_calls.allowed_with(os.getpid()).items():
        for bits in conditions:
            allow(call, bits)
    if failed := library.seccomp_load(rules):
        raise OSError(-failed, f"seccomp filter not loaded: {os.strerror(-failed)}")


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    # Without capabilities, file permissions apply to root, too.
    header = struct.pack("Ii", 0x2008_0522, 0)  # version 3 of the header, for this process
    libc.capset(header, bytes(24))


def _landlock_version() -> int:
    if sys.platform != "linux":
        return 0
    version = _libc().syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_RULESET_VERSION)
    )
    return max(0, int(version))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


_NEEDS = f"Landlock v{LEAST_LANDLOCK} (Linux 5.13) and seccomp (libseccomp 2)"


def check_level(wanted: Sandbox, level: Level) -> None:
    """Raise SettingsInvalid if ``level`` is too low for ``wanted`` and this user."""
    if wanted is Sandbox.REQUIRE and not level.full:
        files = level.landlock < LEAST_LANDLOCK
        could = ["read and change every file that this user can"] * files
        could += ["connect to your network and signal other processes"] * (not level.seccomp)
        raise SettingsInvalid(
            f"FOREMASK_SANDBOX=require needs {_NEEDS}, and there is {level}: a clip that takes over"
            f" its decoder could {', and '.join(could)}."
            " FOREMASK_SANDBOX=best-effort accepts that.",
            param="FOREMASK_SANDBOX",
        )
    is_at_risk = level.landlock < LEAST_LANDLOCK and os.geteuid() == 0
    if wanted is Sandbox.BEST_EFFORT and is_at_risk:
        raise SettingsInvalid(
            f"As root without Landlock (there is {level}), a clip that takes over its decoder could"
            " change every file. Run foremask as another user, enable Landlock (Linux 5.13), or"
            " accept it with FOREMASK_SANDBOX=even-root.",
            param="FOREMASK_SANDBOX",
        )


def level_of(wanted: Sandbox) -> Level:
    level = Level()
    if wanted is not Sandbox.OFF:
        level = available()
    check_level(wanted, level)
    return level


def is_gpu(device: Device) -> bool:
    return device.on_gpu or device.unit.startswith(("GPU", "NPU"))


def check_device(device: Device, wanted: Sandbox) -> None:
    """Raise SettingsInvalid for a GPU or NPU, unless the sandbox is off."""
    if is_gpu(device) and wanted is not Sandbox.OFF:
        raise SettingsInvalid(
            f"FOREMASK_DEVICE={device} needs FOREMASK_SANDBOX=off, for a confined child opens no"
            " device: do so only where the worker is confined otherwise, as in a container.",
            param="FOREMASK_DEVICE",
        )
