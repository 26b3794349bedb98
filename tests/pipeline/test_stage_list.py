import gc
import threading
import time
from collections.abc import Iterator

import pytest

from foremask.machine import stopwatch
from foremask.pipeline.stage_list import Pipeline, Queue
from foremask.pipeline.threads import Workers
from tests.support.patience import wait_until


class Add:
    """Adds a number to each value, and notes the thread and the end of its work."""

    def __init__(self, number: int, name: str = "add", fails_at: int | None = None) -> None:
        self.number = number
        self.name = name
        self.fails_at = fails_at
        self.threads = set[str]()
        self.is_closed = False

    def __call__(self, values: Iterator[int], /) -> Iterator[int]:
        try:
            for value in values:
                self.threads.add(threading.current_thread().name)
                if value == self.fails_at:
                    raise OSError("the disk is gone")
                yield value + self.number
        finally:
            self.is_closed = True


def all_of(pipeline: Pipeline) -> list[int]:
    with pipeline.running() as values:
        return list(values)


def ours() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("foremask")}


def test_values_pass_the_stages_in_order_and_each_queue_ends_a_thread() -> None:
    first, second, third = Add(1, "first"), Add(10, "second"), Add(100, "third")
    pipeline = Pipeline(range(50), [first, second, Queue(3), third])
    assert all_of(pipeline) == list(range(111, 161))
    assert first.threads == second.threads == {"foremask second"}
    assert third.threads == {threading.current_thread().name}
    assert ours() == set()


def test_the_list_of_stages_can_be_read_and_changed_by_name() -> None:
    pipeline = Pipeline(range(3), [Add(1, "first"), Queue(2), Add(10, "second")])
    assert str(pipeline) == "first\n  at most 2 wait\nsecond"
    assert pipeline.names == ("first", "second")
    assert all_of(pipeline.after("first", Add(100, "more"))) == [111, 112, 113]
    assert all_of(pipeline.instead_of("second", Add(20, "other"))) == [21, 22, 23]
    assert str(pipeline.without("second")) == "first"
    assert all_of(pipeline.without("first", "second")) == [0, 1, 2]
    assert str(pipeline.at_end(Add(5, "last"))).endswith("second\nlast")
    assert all_of(pipeline) == [11, 12, 13], "changes make another pipeline"
    with pytest.raises(ValueError, match="no stage 'third': there are first, second"):
        pipeline.without("third")


@pytest.mark.parametrize("name", ["first", "second"])
def test_an_error_names_its_stage_and_ends_all_threads(name: str) -> None:
    stages = {each: Add(1, each, 7 if each == name else None) for each in ("first", "second")}
    pipeline = Pipeline(range(100), [stages["first"], Queue(2), stages["second"], Queue(2)])
    with pytest.raises(OSError, match="the disk is gone") as caught:
        all_of(pipeline)
    assert caught.value.__notes__ == [f"in the stage {name!r} of the pipeline"]
    assert ours() == set()
    assert all(each.is_closed for each in stages.values())


def test_a_pipeline_that_is_left_in_the_middle_ends_all_stages_at_once() -> None:
    first, second, third = Add(1, "first"), Add(1, "second"), Add(1, "third")

    def without_end() -> Iterator[int]:
        while True:
            yield 1

    pipeline = Pipeline(without_end(), [first, Queue(2), second, Queue(2), third])
    began_s = time.monotonic()
    with pipeline.running() as values:
        assert next(values) == 4
    assert time.monotonic() - began_s < 0.5
    assert ours() == set()
    assert all(each.is_closed for each in (first, second, third))


def test_a_pipeline_whose_reader_is_abandoned_ends() -> None:
    def read() -> Iterator[int]:
        with Pipeline(iter(int, 1), [Add(1), Queue(2), Add(1, "more")]).running() as values:
            yield from values

    abandoned = read()
    assert next(abandoned) == 2
    assert ours() == {"foremask add"}
    del abandoned
    gc.collect()
    wait_until(lambda: ours() == set())


def test_each_stage_is_charged_for_its_own_work_and_for_what_its_workers_do() -> None:
    def work(_: int) -> int:
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.01:
            pass
        return 1

    class Busy(Add):
        def __init__(self, workers: Workers) -> None:
            super().__init__(0, "busy")
            self.workers = workers

        def __call__(self, values: Iterator[int], /) -> Iterator[int]:
            for _ in values:
                with stopwatch.stage("a part"):
                    work(0)
                yield sum(self.workers.map(work, range(2)))

    with stopwatch.counting() as watch, Workers() as workers:
        pipeline = Pipeline(range(5), [Add(0, "idle"), Queue(4), Busy(workers)])
        assert all_of(pipeline) == [2] * 5
    idle, busy = pipeline.costs(watch.of_pipeline())
    assert (idle.stage, idle.waiting, idle.room) == ("idle", None, None)
    assert (busy.stage, busy.room) == ("busy", 4)
    assert busy.waiting is not None
    assert 0 <= busy.waiting <= 4
    assert idle.cpu_s < 0.05
    assert 0.14 <= busy.cpu_s < 0.3
    assert watch.total()["a part"] == pytest.approx(0.05, abs=0.02)
