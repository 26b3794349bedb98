"""A child ends with the process that has started it, also when that is killed."""

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def end_with_us(number: signal.Signals) -> Callable[[], None]:
    """For the child between fork and exec: this signal when the thread that started it ends."""
    libc, parent = ctypes.CDLL(None), os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it has ended before we asked
            os.kill(os.getpid(), number)

    return arrange
