"""A filter that refuses system calls; the one home of libseccomp, called through ctypes.

Only what a list of refusals needs is bound: docs/adr/0042 says why no package is used.
"""

import ctypes
import os
from typing import Final

_LIBRARY: Final = "libseccomp.so.2"  # its ABI since 2012
_ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
_NOT_EQUAL, _MASKED_EQUAL = 1, 7
_UNKNOWN_CALL: Final = -1
_INT: Final = 0xFFFF_FFFF

# Calls that are younger than the libseccomp of distributions in use. From 424 on a call has the
# same number on every architecture.
_YOUNG_CALLS: Final = {
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "set_mempolicy_home_node": 450,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}


class When(ctypes.Structure):
    """A condition on one argument of a call; a rule holds when all of its conditions do."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def is_int(argument: int, value: int) -> When:
    """The lower 32 bits of the argument are ``value``; the kernel ignores the upper 32."""
    return When(argument, _MASKED_EQUAL, _INT, value & _INT)


def is_not(argument: int, value: int) -> When:
    """All 64 bits of the argument differ from ``value``."""
    return When(argument, _NOT_EQUAL, value)


def bits_are(argument: int, mask: int, value: int) -> When:
    """The argument's bits in ``mask`` equal those of ``value``."""
    return When(argument, _MASKED_EQUAL, mask, value)


class Refusals:
    """Rules to be loaded once; raises OSError where libseccomp is not installed."""

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(_LIBRARY)
        library.seccomp_init.argtypes = (ctypes.c_uint32,)
        library.seccomp_init.restype = ctypes.c_void_p
        library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
        library.seccomp_rule_add_array.argtypes = (
            *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p),
        )
        library.seccomp_load.argtypes = (ctypes.c_void_p,)
        self._rules = library.seccomp_init(_ALLOW)
        if self._rules is None:
            raise OSError("libseccomp cannot begin a filter")

    def refuse(self, call: str, *conditions: When, error: int) -> None:
        """Let ``call`` fail with ``error`` when all conditions hold; ignore a call unknown here."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == _UNKNOWN_CALL:
            number = _YOUNG_CALLS.get(call, _UNKNOWN_CALL)
        if number < 0:  # another architecture's, or unknown
            return
        compared = (When * len(conditions))(*conditions)
        failed = self._library.seccomp_rule_add_array(
            self._rules, _ERRNO | error, number, len(conditions), compared
        )
        if failed:
            raise OSError(-failed, f"no seccomp rule for {call}: {os.strerror(-failed)}")

    def load(self) -> None:
        failed = self._library.seccomp_load(self._rules)
        if failed:
            raise OSError(-failed, f"seccomp filter not loaded: {os.strerror(-failed)}")
