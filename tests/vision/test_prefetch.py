"""Stages in threads: bounded, in order, and never left behind."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from foremask.vision.prefetch import StoppedError, prefetch, tee


def test_items_come_in_order_and_their_cost_is_noted() -> None:
    """A thousand numbers through a queue of two."""
    costs: dict[str, float] = {}
    with prefetch(range(1000), 2, "count", costs) as numbers:
        assert list(numbers) == list(range(1000))
    assert costs["count"] > 0


def test_a_stage_is_never_more_than_its_queue_ahead() -> None:
    """Nobody reads: three wait in the queue, and one in the hand of the thread."""
    drawn = 0

    def counted() -> Iterator[int]:
        nonlocal drawn
        for number in itertools.count():
            drawn = number + 1
            yield number

    with prefetch(counted(), 3, "count"):
        time.sleep(0.3)
        assert drawn == 4


def test_an_error_comes_after_what_was_made_before_it() -> None:
    """Two numbers, then the error, in the reader's thread."""

    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("the disk is gone")

    found: list[int] = []
    with (
        pytest.raises(OSError, match="the disk is gone"),
        prefetch(broken(), 2, "break") as numbers,
    ):
        found.extend(numbers)
    assert found == [1, 2]


def test_leaving_ends_a_stage_that_would_go_on_for_ever() -> None:
    """The thread is gone when the block is."""
    with prefetch(itertools.count(), 2, "endless") as numbers:
        assert next(numbers) == 0
    assert not any(each.name == "foremask endless" for each in threading.enumerate())


def test_a_stage_that_is_stopped_tells_its_reader() -> None:
    """What is read from another thread must not look like the end."""
    stop = threading.Event()
    with prefetch(iter([1]), 2, "stopped", stop=stop) as numbers:
        stop.set()
        with pytest.raises(StoppedError):
            next(numbers)


def test_what_one_thread_has_drawn_another_gets_too() -> None:
    """All of it, in order, and nothing before the first has it."""
    first, second = tee(range(5), threading.Event())
    assert [next(first), next(first)] == [0, 1]
    assert [next(second), next(second)] == [0, 1]
    assert list(first) == [2, 3, 4]
    assert list(second) == [2, 3, 4]


def test_when_the_first_breaks_the_second_ends_after_what_was_drawn() -> None:
    """The error is told once, to whoever drew."""

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    first, second = tee(broken(), threading.Event())
    with pytest.raises(OSError, match="the disk is gone"):
        list(first)
    assert list(second) == [1]


def test_the_second_does_not_wait_for_a_first_that_was_stopped() -> None:
    """Nobody draws any more: waiting would be for ever."""
    stop = threading.Event()
    _first, second = tee(itertools.count(), stop)
    stop.set()
    with pytest.raises(StoppedError):
        next(second)
