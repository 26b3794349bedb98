"""Runs pipeline stages in threads, with bounded queues between them."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

from foremask.machine import stopwatch
from foremask.machine.stopwatch import WAITING


class _End: ...


class StoppedError(Exception):
    """Raised by the iterators of `prefetch` and `tee` after their ``stop`` is set."""


_of_thread = threading.local()


def raise_if_stopped() -> None:
    """Raise StoppedError in a thread of `prefetch` whose ``stop`` is set: long work calls this."""
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


def do_nothing() -> None: ...


@contextmanager
def prefetch[T](
    items: Iterable[T],
    size: int,
    stage: str,
    stop: threading.Event | None = None,
    meanwhile: Callable[[], None] = do_nothing,
) -> Iterator[Iterator[T]]:
    """Iterate over ``items`` in a thread; at most ``size`` items are queued for the caller.

    The caller gets the errors of ``items``. While the caller waits for an item, it runs
    ``meanwhile`` every 0.1 s. Setting ``stop`` ends the thread, which closes ``items`` if they are
    a generator. Leaving the ``with`` block sets ``stop`` and joins the thread. A stopwatch of the
    caller counts the thread's processor time for ``stage``, outside of the stages of ``items``.
    """
    stop = stop or threading.Event()
    ready = _Queue[T](size, stop)
    begun = threading.Event()
    failures: list[BaseException] = []
    watch = stopwatch.current()

    def work() -> None:
        _of_thread.stop = stop
        begun.set()
        try:
            stopwatch.join(watch)
            with stopwatch.stage(stage):
                failures.extend(_passed_on(items, ready))
        finally:
            ready.end()

    def read() -> Iterator[T]:
        yield from ready.read(meanwhile)
        for failure in failures:
            raise failure

    thread = threading.Thread(target=work, name=f"foremask {stage}", daemon=True)
    try:
        _start(thread, begun)
        yield read()
    finally:
        stop.set()
        if begun.is_set():
            thread.join()


def _passed_on[T](items: Iterable[T], ready: "_Queue[T]") -> list[BaseException]:
    """Put the items into the queue; return the error that ended them, for the reader to raise."""
    try:
        for item in items:
            ready.put(item)
    except BaseException as error:  # noqa: BLE001  (raised in the reader)
        if isinstance(items, Generator):
            items.close()
        return [error]
    return []


def _start(thread: threading.Thread, begun: threading.Event) -> None:
    """Wait until the thread runs, even after Ctrl-C: `prefetch` joins only a running thread."""
    try:
        thread.start()
    except Exception:
        raise  # the thread has not started
    except BaseException:
        begun.wait()
        raise
    begun.wait()


def tee[T](items: Iterable[T], stop: threading.Event, size: int) -> tuple[Iterator[T], Iterator[T]]:
    """Return two iterators over the same items, for two threads.

    Only the first iterator reads ``items``. It waits when it is ``size`` items ahead of the second.
    When it ends or fails, the second yields the remaining items and ends. After ``stop`` is set,
    both raise StoppedError.
    """
    waiting = _Queue[T](size, stop)

    def first() -> Iterator[T]:
        try:
            for item in items:
                waiting.put(item)
                yield item
        finally:
            waiting.end()

    return first(), waiting.read(do_nothing)


class _Queue[T]:
    """A bounded queue whose `put` and `read` raise StoppedError after ``stop`` is set."""

    def __init__(self, size: int, stop: threading.Event) -> None:
        self._stop = stop
        self._room = threading.Semaphore(size)
        self._items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()

    @stopwatch.stage(WAITING)
    def put(self, item: T) -> None:
        while not self._stop.is_set():
            if self._room.acquire(timeout=0.1):
                self._items.put(item)
                return
        raise StoppedError

    def end(self) -> None:
        self._items.put(_End())

    @stopwatch.stage(WAITING)
    def _next(self) -> "T | _End":
        return self._items.get(timeout=0.1)

    def read(self, meanwhile: Callable[[], None]) -> Iterator[T]:
        while not self._stop.is_set():
            try:
                item = self._next()
            except queue.Empty:
                meanwhile()
                continue
            if isinstance(item, _End):
                return
            self._room.release()
            yield item
        raise StoppedError
