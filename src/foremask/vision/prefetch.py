"""Stages in threads, and one stream for two threads; what waits between them is bounded."""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_END = object()


class StoppedError(Exception):
    """Raised in a reader whose stage was stopped, and in a tee whose other reader has stopped."""


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
    """Draw from ``items`` in a thread, at most ``size`` ahead; its errors surface in the reader.

    ``meanwhile`` is called about ten times a second while the reader waits. Setting ``stop`` ends
    the stage; leaving the block sets it and waits for the thread. ``costs`` gets, under ``stage``,
    the processor time of this thread alone, without that of helpers that ``items`` starts.
    """
    running = _Stage(items, size, stop or threading.Event())
    thread = threading.Thread(
        target=running.work, args=(stage, costs), name=f"foremask {stage}", daemon=True
    )
    try:
        _start(thread, running.begun)
        yield running.read(meanwhile)
    finally:
        running.stop.set()
        if running.begun.is_set():
            thread.join()


def _start(thread: threading.Thread, begun: threading.Event) -> None:
    """Start ``thread``, which sets ``begun``; where Ctrl-C comes meanwhile, wait until it runs.

    It runs all the same then, and what it reads must not be closed before it is joined.
    """
    try:
        thread.start()
    except Exception:
        raise  # there is no thread
    except BaseException:
        begun.wait()
        raise
    begun.wait()


class _Stage[T]:
    """A queue between a thread that draws from ``items`` and its reader."""

    def __init__(self, items: Iterable[T], size: int, stop: threading.Event) -> None:
        self.stop = stop
        self.begun = threading.Event()
        self._items = items
        self._ready: queue.Queue[object] = queue.Queue(size)
        self._failure: BaseException | None = None

    def work(self, stage: str, costs: dict[str, float] | None) -> None:
        self.begun.set()
        try:
            for item in self._items:
                self._put(item)
                if self.stop.is_set():
                    break
        except BaseException as error:  # noqa: BLE001  (raised in the reader)
            self._failure = error
        if costs is not None:
            costs[stage] = time.thread_time()
        self._put(_END)

    def _put(self, item: object) -> None:
        while not self.stop.is_set():
            try:
                self._ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read(self, meanwhile: Callable[[], None]) -> Iterator[T]:
        while not self.stop.is_set():
            try:
                item = self._ready.get(timeout=0.1)
            except queue.Empty:
                meanwhile()
                continue
            if item is _END:
                if self._failure is not None:
                    raise self._failure
                return
            yield item  # type: ignore[misc]
        raise StoppedError


def tee[T](
    items: Iterable[T], stop: threading.Event, max_bytes: int, size_of: Callable[[T], int]
) -> tuple[Iterator[T], Iterator[T]]:
    """The items for two threads: the second gets what the first has drawn.

    At most ``max_bytes`` wait between them, and at least one item: the first waits for the second
    before it draws more. When the first ends or fails, the second ends after what was drawn;
    setting ``stop`` ends both.
    """
    waiting = _Waiting[T](stop, max_bytes)

    def first() -> Iterator[T]:
        try:
            for item in items:
                waiting.put(item, size_of(item))
                yield item
        finally:
            waiting.end()

    return first(), waiting.read()


class _Waiting[T]:
    """What one reader of a tee has drawn and the other has not."""

    def __init__(self, stop: threading.Event, max_bytes: int) -> None:
        self._stop = stop
        self._max_bytes = max_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = threading.Condition()

    def put(self, item: T, size_bytes: int) -> None:
        with self._changed:
            while self._items and self._bytes + size_bytes > self._max_bytes:
                self._wait()
            self._items.append((item, size_bytes))
            self._bytes += size_bytes
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def read(self) -> Iterator[T]:
        while (item := self._next()) is not _END:
            yield item  # type: ignore[misc]

    def _next(self) -> object:
        with self._changed:
            while not self._items:
                if self._ended and not self._stop.is_set():
                    return _END
                self._wait()
            if self._stop.is_set():
                raise StoppedError
            item, size_bytes = self._items.popleft()
            self._bytes -= size_bytes
            self._changed.notify_all()
            return item

    def _wait(self) -> None:
        if self._stop.is_set():
            raise StoppedError
        self._changed.wait(0.1)
