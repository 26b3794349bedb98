"""Counts the processor time of each stage of a run, over all threads of the process.

A thread has one stage at a time, and a stage within another one pauses it. Threads that libraries
start, those of the network and of codecs, have no stage: they are counted together.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DECODE: Final = "decode"
ENCODE: Final = "encode"
WAITING: Final = "waiting"
LIBRARIES: Final = "libraries"


class _Thread(threading.local):
    watch: "Stopwatch | None" = None
    stage: str | None = None
    since_s: float = 0.0  # of this thread's processor time


_thread = _Thread()


class Stopwatch:
    """The processor seconds of the stages of a run, from its making until `total`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent_s = defaultdict[str, float](float)
        self._started_s = time.process_time()

    def count(self, stage: str, spent_s: float) -> None:
        with self._lock:
            self._spent_s[stage] += spent_s

    def total(self) -> dict[str, float]:
        """The processor seconds by stage, together those of the process; call it in a stage."""
        if _thread.stage is not None:
            _switch(self, _thread.stage)
        with self._lock:
            spent_s = dict(self._spent_s)
        all_s = time.process_time() - self._started_s
        spent_s[LIBRARIES] = max(0.0, all_s - sum(spent_s.values()))
        return spent_s


@contextmanager
def counting() -> Iterator[Stopwatch]:
    """Count the stages of this thread, and of threads that `join`, with a new stopwatch."""
    before = _thread.watch
    watch = Stopwatch()
    join(watch)
    try:
        yield watch
    finally:
        join(before)


def current() -> Stopwatch | None:
    """The stopwatch of this thread, for threads that it starts."""
    return _thread.watch


def join(watch: Stopwatch | None) -> None:
    """Let ``watch`` count the stages of this thread, if there is one."""
    _thread.watch = watch


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count this thread's processor time for the stage ``name``; also a decorator."""
    watch = _thread.watch
    if watch is None:
        yield
        return
    outer = _switch(watch, name)
    try:
        yield
    finally:
        _switch(watch, outer)


def _switch(watch: Stopwatch, name: str | None) -> str | None:
    now_s = time.thread_time()
    outer = _thread.stage
    if outer is not None:
        watch.count(outer, now_s - _thread.since_s)
    _thread.stage = name
    _thread.since_s = now_s
    return outer
