import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from foremask.pipeline.threads import BoundedQueue, prefetch
from foremask.vision.stopping import (
    StoppedError,
    raise_if_stopped,
    stoppable,
    unless_stopped,
)
from tests.support.patience import wait_until


def test_ctrl_c_while_a_thread_starts_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread runs by then: what it reads is not closed under its hands."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.3)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), prefetch(slow(), BoundedQueue(2), "slow"):
        pass
    assert not any(thread.name == "foremask slow" for thread in threading.enumerate())


def test_a_stage_that_is_stopped_tells_its_reader() -> None:
    stop = threading.Event()

    def stopping() -> Iterator[int]:
        stop.set()
        yield 1

    with (
        prefetch(stopping(), BoundedQueue(2), "stopped", stop=stop) as numbers,
        pytest.raises(StoppedError),
    ):
        next(numbers)


def test_long_work_that_is_stopped_does_not_begin_what_it_has_not_begun() -> None:
    stop = threading.Event()
    over = threading.Event()
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            stop.set()
        if number == 3:
            over.wait()
        return number

    def worked() -> Iterator[int]:
        with ThreadPoolExecutor(1) as threads:
            try:
                yield from list(stoppable(threads.map(work, range(100))))
            finally:
                over.set()

    assert list(stoppable([1, 2])) == [1, 2]  # nothing to stop in this thread
    with (
        prefetch(worked(), BoundedQueue(1), "stopped", stop=stop) as read,
        pytest.raises(StoppedError),
    ):
        next(read)
    assert max(begun) <= 3


def test_work_that_nothing_breaks_off_is_not_waited_for_after_a_stop() -> None:
    stop = threading.Event()
    may_end = threading.Event()
    ended = threading.Event()

    def compiled() -> int:
        stop.set()
        may_end.wait()
        ended.set()
        return 1

    def networks() -> Iterator[int]:
        yield unless_stopped(compiled)

    with (
        prefetch(networks(), BoundedQueue(1), "stopped", stop=stop) as read,
        pytest.raises(StoppedError),
    ):
        next(read)
    assert not ended.is_set()
    may_end.set()
    wait_until(ended.is_set)
    assert unless_stopped(lambda: 2) == 2


def test_a_stopped_stage_closes_its_generator_and_long_work_in_it_ends() -> None:
    stop = threading.Event()
    heard: list[str] = []

    def numbers(*, works: bool) -> Iterator[int]:
        try:
            yield 1
            while works:
                raise_if_stopped()
            yield 2
            yield 3
        except StoppedError:
            heard.append("work ended")
            raise
        except GeneratorExit:
            heard.append("closed")
            raise

    raise_if_stopped()  # nothing to stop in this thread
    for works in (False, True):
        with prefetch(numbers(works=works), BoundedQueue(1), "stopped", stop=stop) as read:
            assert next(read) == 1
        stop.clear()
    assert heard == ["closed", "work ended"]


def test_what_waits_in_a_queue_is_bounded_and_counted() -> None:
    put = 0
    waiting = BoundedQueue[int](4)

    def counted() -> Iterator[int]:
        nonlocal put
        for number in range(1000):
            waiting.put(number)
            put = number + 1
            yield number
        waiting.end()

    with prefetch(counted(), BoundedQueue(1000), "first") as numbers:
        wait_until(lambda: put == 4)
        time.sleep(0.3)
        assert put == 4
        read = waiting.read()
        assert list(itertools.islice(read, 10)) == list(range(10))
        wait_until(lambda: put == 14)
        assert list(read) == list(range(10, 1000))
        assert list(numbers) == list(range(1000))
    assert 0 < waiting.mean_waiting <= 4


def test_a_thread_that_waits_for_room_can_be_stopped() -> None:
    stop = threading.Event()
    full = BoundedQueue[int](1)
    full.put(0)

    def blocked() -> Iterator[int]:
        threading.Timer(0.05, stop.set).start()
        full.put(1)
        yield 1

    with (
        prefetch(blocked(), BoundedQueue(1), "blocked", stop=stop) as read,
        pytest.raises(StoppedError),
    ):
        next(read)
