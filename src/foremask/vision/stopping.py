"""Ends long work when the thread that does it is told to stop."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait


class StoppedError(Exception):
    """Raised in a thread that was told to stop."""


_of_thread = threading.local()


def stop_with(stop: threading.Event) -> None:
    """Let `raise_if_stopped` raise in this thread once ``stop`` is set."""
    _of_thread.stop = stop


def raise_if_stopped() -> None:
    """Raise StoppedError in a thread that was told to stop: long work calls this."""
    stop: threading.Event | None = getattr(_of_thread, "stop", None)
    if stop is not None and stop.is_set():
        raise StoppedError


def stoppable[T](items: Iterable[T]) -> Iterator[T]:
    """Yield the items of long work, and call `raise_if_stopped` before each.

    A generator is closed at the end. An executor's ``map`` then cancels what it has not begun.
    """
    try:
        for item in items:
            raise_if_stopped()
            yield item
    finally:
        if isinstance(items, Generator):
            items.close()


def unless_stopped[T](work: Callable[[], T]) -> T:
    """Do ``work``, which cannot be interrupted, in a thread of its own; return its result.

    Ctrl-C and a stop (`raise_if_stopped`) end the wait at once. The work then goes on, and its
    result is lost.
    """
    threads = ThreadPoolExecutor(1, "foremask work")
    done = threads.submit(work)
    threads.shutdown(wait=False)
    while not wait([done], timeout=0.05).done:
        raise_if_stopped()
    return done.result()
