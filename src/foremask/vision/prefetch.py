"""Work that runs ahead: each stage in a thread of its own, never far before the one that reads from it."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_END = object()


class StoppedError(Exception):
    """Nobody reads on: raised into a stage that waits for the one before it."""


def do_nothing() -> None:
    """Do nothing while a reader waits."""


@contextmanager
def prefetch[T](
    items: Iterable[T],
    size: int,
    stage: str,
    costs: dict[str, float] | None = None,
    stop: threading.Event | None = None,
    meanwhile: Callable[[], None] = do_nothing,
) -> Iterator[Iterator[T]]:
    """Draw from ``items`` in a thread, at most ``size`` ahead; its errors surface where it is read.

    ``meanwhile`` is called now and then while the reader waits. ``stop`` ends it, and leaving the
    block sets ``stop`` and waits for the thread. The thread's processor time is noted under
    ``stage`` in ``costs``.
    """
    stop = stop or threading.Event()
    ready: queue.Queue[object] = queue.Queue(size)
    failure: list[BaseException] = []

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  (carried to the reader)
            failure.append(error)
        if costs is not None:
            costs[stage] = time.thread_time()
        put(_END)

    def draw() -> Iterator[T]:
        yield from _drawn(ready, stop, meanwhile)
        if failure:
            raise failure[0]

    thread = threading.Thread(target=work, name=f"foremask {stage}", daemon=True)
    thread.start()
    try:
        yield draw()
    finally:
        stop.set()
        thread.join()


def tee[T](items: Iterable[T], stop: threading.Event) -> tuple[Iterator[T], Iterator[T]]:
    """The items for two threads: the second gets what the first has drawn already, and what is between them waits in memory.

    When the first ends or fails, the second ends after what was drawn; setting ``stop`` ends it at
    once.
    """
    waiting: queue.SimpleQueue[object] = queue.SimpleQueue()

    def first() -> Iterator[T]:
        try:
            for item in items:
                waiting.put(item)
                yield item
        finally:
            waiting.put(_END)

    return first(), _drawn(waiting, stop, do_nothing)


def _drawn[T](
    ready: queue.Queue[object] | queue.SimpleQueue[object],
    stop: threading.Event,
    meanwhile: Callable[[], None],
) -> Iterator[T]:
    """What comes in, up to the end; raises StoppedError when it is stopped before."""
    while not stop.is_set():
        try:
            item = ready.get(timeout=0.1)
        except queue.Empty:
            meanwhile()
            continue
        if item is _END:
            return
        yield item  # type: ignore[misc]
    raise StoppedError
