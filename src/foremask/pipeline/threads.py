"""The threads of a pipeline, and the bounded queues between them."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from foremask.machine import stopwatch
from foremask.machine.stopwatch import WAITING
from foremask.vision.stopping import raise_if_stopped, stop_with

WORKERS: Final = 2  # for flow and propagation; the network has its own threads


class _End: ...


class Workers(ThreadPoolExecutor):
    """Threads for what stages do side by side; their time counts for the stage that submits it."""

    def __init__(self) -> None:
        super().__init__(WORKERS, "foremask worker")

    def submit[**P, T](
        self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        return super().submit(stopwatch.carried(work), *args, **kwargs)


class BoundedQueue[T]:
    """Hands items from one thread to another; at most ``size`` wait.

    Both wait for each other, unless their threads are told to stop (`raise_if_stopped`).
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._room = threading.Semaphore(size)
        self._items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._read = 0
        self._found = 0  # sum of what waited at each read

    @property
    def mean_waiting(self) -> float:
        """How many items waited, on the average, when one was asked for."""
        return self._found / max(1, self._read)

    @stopwatch.stage(WAITING)
    def put(self, item: T) -> None:
        raise_if_stopped()
        while not self._room.acquire(timeout=0.1):
            raise_if_stopped()
        self._items.put(item)

    def end(self) -> None:
        self._items.put(_End())

    @stopwatch.stage(WAITING)
    def _next(self) -> "T | _End":
        return self._items.get(timeout=0.1)

    def read(self, meanwhile: Callable[[], object] = lambda: None) -> Iterator[T]:
        """Yield the items up to the `end`. Every 0.1 s of waiting, call ``meanwhile``."""
        while True:
            self._found += self._items.qsize()
            self._read += 1
            item = self._waited_for(meanwhile)
            if isinstance(item, _End):
                return
            self._room.release()
            yield item

    def _waited_for(self, meanwhile: Callable[[], object]) -> "T | _End":
        while True:
            raise_if_stopped()
            try:
                return self._next()
            except queue.Empty:
                meanwhile()


@contextmanager
def prefetch[T](
    items: Iterable[T],
    ready: BoundedQueue[T],
    stage: str,
    stop: threading.Event | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[Iterator[T]]:
    """Iterate over ``items`` in a thread, which puts them into the queue ``ready``.

    The caller reads the yielded iterator, and gets the errors of ``items``. While the caller waits
    for an item, it runs ``meanwhile`` every 0.1 s. Setting ``stop`` ends the thread, which closes
    ``items`` if they are a generator. Leaving the ``with`` block sets ``stop`` and joins the
    thread. A stopwatch of the caller counts the thread's processor time for ``stage``, outside of
    the stages of ``items``.
    """
    stop = stop or threading.Event()
    begun = threading.Event()
    failures: list[BaseException] = []
    watch = stopwatch.current()

    def work() -> None:
        stop_with(stop)
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


def _passed_on[T](items: Iterable[T], ready: BoundedQueue[T]) -> list[BaseException]:
    """Put the items into the queue; return the error that ended them, for the reader to raise."""
    try:
        for item in items:
            ready.put(item)
    except BaseException as error:  # noqa: BLE001  (raised in the reader)
        close(items)
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


def close(items: Iterable[Any]) -> None:
    """Close ``items`` if they are a generator, so that it ends now."""
    if isinstance(items, Generator):
        items.close()
