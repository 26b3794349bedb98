"""Lists the system calls of a confined child. Any other call fails, as if the kernel lacked it.

Measured with strace, on all kinds of work. Where the C library makes a related call on another
kernel, processor or version, that call is listed too. docs/adr/0042 has the numbers.
"""

import os
from typing import Final

# From the Linux headers; these numbers are the same on x86-64 and ARM.
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NEW: Final = 0x7E02_0000  # the CLONE_NEW* flags of clone
_MAP_LOCKED: Final = 0x2000
_MAP_HUGETLB: Final = 0x4_0000  # takes huge pages that are reserved for other processes
_O_PATH: Final = 0x20_0000
_F_DUPFD: Final = 0
_F_GETFD: Final = 1
_F_SETFD: Final = 2
_F_GETFL: Final = 3
_F_SETFL: Final = 4
_F_DUPFD_CLOEXEC: Final = 1030
_TCGETS: Final = 0x5401
_TCGETS2: Final = 0x802C_542A
_FIONCLEX: Final = 0x5450
_FIOCLEX: Final = 0x5451
_PR_SET_NAME: Final = 15
_PR_GET_NAME: Final = 16
_XCOMP: Final = (0x1021, 0x1022, 0x1023)  # of arch_prctl; matrix instructions of x86-64

ALLOWED: Final[dict[str, tuple[str, ...]]] = {
    "memory": (
        *("brk", "munmap", "mprotect", "mremap", "madvise"),
        *("mbind", "get_mempolicy", "set_mempolicy"),  # NUMA nodes of its own memory
    ),
    "threads": (
        *("futex", "set_robust_list", "rseq", "set_tid_address", "exit", "exit_group"),
        *("sched_yield", "sched_getaffinity", "sched_getparam", "sched_getscheduler"),
        *("sched_get_priority_max", "sched_get_priority_min", "getcpu", "getpriority"),
    ),
    "signals to itself": (
        *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    ),
    "time": (
        *("clock_gettime", "clock_getres", "gettimeofday", "time"),
        *("clock_nanosleep", "nanosleep", "poll", "ppoll"),
    ),
    "open files": (
        *("read", "readv", "pread64", "preadv", "preadv2"),
        *("write", "writev", "pwrite64", "pwritev", "pwritev2"),
        *("close", "close_range", "dup", "dup2", "dup3", "lseek", "fstat", "fstatfs", "getdents64"),
        *("ftruncate", "fallocate", "fadvise64", "fsync", "fdatasync", "flock"),
        *("sendfile", "copy_file_range"),
    ),
    "paths, which Landlock restricts": (
        *("unlink", "unlinkat", "rename", "renameat", "renameat2"),
    ),
    "facts of paths, which Landlock does not restrict": (
        *("stat", "lstat", "newfstatat", "statx", "statfs", "access", "faccessat", "faccessat2"),
        *("readlink", "readlinkat", "getcwd"),
    ),
    "facts of itself and the machine": (
        *("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid"),
        *("uname", "sysinfo", "getrandom", "getrusage", "times", "getrlimit"),
    ),
}
"""Calls that are allowed with all arguments, by what they are needed for."""

Bits = dict[int, tuple[int, int]]
"""By the number of an argument: a mask, and the value that the masked argument must have."""
_INT: Final = 0xFFFF_FFFF  # the kernel ignores the upper 32 bits of an int


def _one_of(argument: int, values: tuple[int, ...]) -> tuple[Bits, ...]:
    return tuple({argument: (_INT, value)} for value in values)


def _opened(flags: int) -> tuple[Bits, ...]:
    # Before version 3, Landlock allows O_TRUNC on a file that is opened for reading. Access mode 3
    # opens any file for ioctl, and O_PATH any file for calls that name a directory.
    reading = os.O_ACCMODE | os.O_TRUNC | _O_PATH
    writing = os.O_ACCMODE | _O_PATH
    return (
        {flags: (reading, os.O_RDONLY)},
        {flags: (writing, os.O_WRONLY)},
        {flags: (writing, os.O_RDWR)},
    )


def allowed_with(pid: int) -> dict[str, tuple[Bits, ...]]:
    """Return the calls that process ``pid`` may make if all bits of one of the sets match."""
    return {
        "mmap": ({3: (_MAP_LOCKED | _MAP_HUGETLB, 0)},),
        "clone": ({0: (_CLONE_THREAD | _CLONE_NEW, _CLONE_THREAD)},),
        "tgkill": _one_of(0, (pid,)),  # abort() must work
        "sched_setaffinity": _one_of(0, (0,)),  # 0 is the calling thread
        "prlimit64": _one_of(0, (0,)),  # 0 is the calling process
        "open": _opened(1),
        "openat": _opened(2),
        # Only for the close-on-exec flag, and whether a file is a terminal.
        "ioctl": _one_of(1, (_TCGETS, _TCGETS2, _FIOCLEX, _FIONCLEX)),
        "fcntl": (
            *_one_of(1, (_F_DUPFD, _F_DUPFD_CLOEXEC, _F_GETFD, _F_SETFD, _F_GETFL)),
            {1: (_INT, _F_SETFL), 2: (os.O_ASYNC, 0)},  # O_ASYNC sends signals to the file's owner
        ),
        "prctl": _one_of(0, (_PR_SET_NAME, _PR_GET_NAME)),  # of a thread
        "arch_prctl": _one_of(0, _XCOMP),
    }
