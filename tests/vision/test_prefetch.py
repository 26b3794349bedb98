import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from foremask.vision.prefetch import (
    StoppedError,
    prefetch,
    raise_if_stopped,
    stoppable,
    tee,
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
    with pytest.raises(KeyboardInterrupt), prefetch(slow(), 2, "slow"):
        pass
    assert not any(thread.name == "foremask slow" for thread in threading.enumerate())


def test_a_stage_that_is_stopped_tells_its_reader() -> None:
    stop = threading.Event()
    with prefetch(iter([1]), 2, "stopped", stop=stop) as numbers:
        stop.set()
        with pytest.raises(StoppedError):
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
    with prefetch(worked(), 1, "stopped", stop=stop) as read, pytest.raises(StoppedError):
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

    with prefetch(networks(), 1, "stopped", stop=stop) as read, pytest.raises(StoppedError):
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
        with prefetch(numbers(works=works), 1, "stopped", stop=stop) as read:
            assert next(read) == 1
        stop.clear()
    assert heard == ["closed", "work ended"]


def test_what_waits_between_two_readers_is_bounded() -> None:
    drawn = 0

    def counted() -> Iterator[int]:
        nonlocal drawn
        for drawn in range(1, 1001):
            yield drawn - 1

    first, second = tee(counted(), threading.Event(), 4)
    with prefetch(first, 1000, "first") as numbers:
        wait_until(lambda: drawn == 5)
        time.sleep(0.3)
        assert drawn == 5
        assert list(itertools.islice(second, 10)) == list(range(10))
        wait_until(lambda: drawn == 15)
        assert list(second) == list(range(10, 1000))
        assert list(numbers) == list(range(1000))


def test_a_first_reader_that_waits_for_room_can_be_stopped() -> None:
    stop = threading.Event()
    first, _second = tee(itertools.count(), stop, 1)
    assert next(first) == 0
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(StoppedError):
        next(first)


def test_when_the_first_fails_the_second_ends_after_what_was_drawn() -> None:
    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    first, second = tee(broken(), threading.Event(), 9)
    with pytest.raises(OSError, match="the disk is gone"):
        list(first)
    assert list(second) == [1, 2]
