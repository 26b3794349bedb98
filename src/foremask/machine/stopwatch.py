"""Counts the processor time of each stage of a run, over all threads of the process.

A thread has one stage at a time, and a stage within another one pauses it. The stages of a pipeline
are counted a second time, each with the stages within it. Threads that libraries start, those of
the network and of codecs, have no stage: they are counted together.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

DECODE: Final = "decode"
ENCODE: Final = "encode"
WAITING: Final = "waiting"
LIBRARIES: Final = "libraries"


class _Thread(threading.local):
    watch: "Stopwatch | None" = None
    stage: str | None = None
    of_pipeline: str | None = None  # the stage of the pipeline that this one is in
    since_s: float = 0.0  # of this thread's processor time


_thread = _Thread()


class Stopwatch:
    """The processor seconds of the stages of a run, from its making until `total`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent_s = defaultdict[str, float](float)
        self._of_pipeline_s = defaultdict[str, float](float)
        self._started_s = time.process_time()

    def count(self, stage: str, of_pipeline: str | None, spent_s: float) -> None:
        with self._lock:
            self._spent_s[stage] += spent_s
            if of_pipeline is not None and stage != WAITING:
                self._of_pipeline_s[of_pipeline] += spent_s

    def total(self) -> dict[str, float]:
        """The processor seconds by stage, together those of the process; call it in a stage."""
        if _thread.stage is not None:
            _switch(self, _thread.stage, _thread.of_pipeline)
        with self._lock:
            spent_s = dict(self._spent_s)
        all_s = time.process_time() - self._started_s
        spent_s[LIBRARIES] = max(0.0, all_s - sum(spent_s.values()))
        return spent_s

    def of_pipeline(self) -> dict[str, float]:
        """The processor seconds of the pipeline's stages, each with the stages within it."""
        with self._lock:
            return dict(self._of_pipeline_s)


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
def stage(name: str, *, is_of_pipeline: bool = False) -> Iterator[None]:
    """Count this thread's processor time for the stage ``name``; also a decorator."""
    watch = _thread.watch
    if watch is None:
        yield
        return
    outer = _switch(watch, name, name if is_of_pipeline else _thread.of_pipeline)
    try:
        yield
    finally:
        _switch(watch, *outer)


def carried[**P, T](work: Callable[P, T]) -> Callable[P, T]:
    """Return ``work`` for another thread, counted there for the pipeline's stage of this one."""
    watch = _thread.watch
    of_pipeline = _thread.of_pipeline

    def counted(*args: P.args, **kwargs: P.kwargs) -> T:
        join(watch)
        if of_pipeline is None:
            return work(*args, **kwargs)
        with stage(of_pipeline, is_of_pipeline=True):
            return work(*args, **kwargs)

    return counted


def _switch(
    watch: Stopwatch, name: str | None, of_pipeline: str | None
) -> tuple[str | None, str | None]:
    """Begin a stage of this thread; return the one that was before."""
    now_s = time.thread_time()
    before = _thread.stage
    of_before = _thread.of_pipeline
    if before is not None:
        watch.count(before, of_before, now_s - _thread.since_s)
    _thread.stage = name
    _thread.of_pipeline = of_pipeline
    _thread.since_s = now_s
    return before, of_before
