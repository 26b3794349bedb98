"""Counts the processor time of each stage of a run, over all threads of the process.

A thread has one stage at a time, and a stage within another one pauses it. Threads that a library
starts have no stage: those of codecs are known by their names, and the others are the network's.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

DECODE: Final = "decode"
ENCODE: Final = "encode"
NETWORK: Final = "network"
WAITING: Final = "waiting"
_TASKS: Final = Path("/proc/self/task")  # on Linux: the threads of this process
_OWN_NAME: Final = Path("/proc/thread-self/comm")
_FFMPEG: Final = "av:"  # starts the names that FFmpeg gives its threads


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
        self._codecs_before_s = _codec_threads_s()

    def count(self, stage: str, spent_s: float) -> None:
        with self._lock:
            self._spent_s[stage] += spent_s

    def total(self) -> dict[str, float]:
        """The processor seconds by stage, together those of the process; call it in a stage.

        Codecs must be open still, since the time of a thread that has ended is not known. Where the
        system does not tell the names of threads, those of codecs count for the network.
        """
        if _thread.stage is not None:
            _switch(self, _thread.stage)
        with self._lock:
            spent_s = self._spent_s.copy()
        natively_s = time.process_time() - self._started_s - sum(spent_s.values())
        for stage, codec_s in _codec_threads_s().items():
            since_s = max(0.0, codec_s - self._codecs_before_s[stage])
            spent_s[stage] += since_s
            natively_s -= since_s
        spent_s[NETWORK] += max(0.0, natively_s)
        return dict(spent_s)


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


@contextmanager
def starting_encoders() -> Iterator[None]:
    """Name the threads that an encoder starts in this block, so that `Stopwatch` knows them.

    A thread inherits its name from the thread that starts it.
    """
    own = _renamed(ENCODE)
    try:
        yield
    finally:
        if own is not None:
            _renamed(own)


def _renamed(name: str) -> str | None:
    """Rename this thread, and return its name before; None where the system cannot."""
    with suppress(OSError):
        before = _OWN_NAME.read_text().strip()
        _OWN_NAME.write_text(name)
        return before
    return None


def _codec_threads_s() -> dict[str, float]:
    """The processor seconds of the codecs' threads that run now."""
    spent_s = {DECODE: 0.0, ENCODE: 0.0}
    own = str(threading.get_native_id())
    with suppress(OSError):
        for task in _TASKS.iterdir():
            with suppress(OSError):  # the thread may end meanwhile
                name = (task / "comm").read_text().strip()
                if name == ENCODE and task.name != own:
                    spent_s[ENCODE] += _spent_s(task)
                elif name.startswith(_FFMPEG):
                    spent_s[DECODE] += _spent_s(task)
    return spent_s


def _spent_s(task: Path) -> float:
    """The seconds for which a thread ran, from nanoseconds, the first number of the file."""
    return int((task / "schedstat").read_text().split()[0]) / 1e9
