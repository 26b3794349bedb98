import threading
import time

import pytest

from foremask.machine import stopwatch
from foremask.machine.stopwatch import stage

A_WHILE_S = 0.1


def work() -> None:
    """Use the processor for `A_WHILE_S`."""
    until_s = time.thread_time() + A_WHILE_S
    while time.thread_time() < until_s:
        pass


def test_a_stage_within_another_pauses_it() -> None:
    with stopwatch.counting() as watch, stage("outer"):
        work()
        with stage("inner"):
            work()
            work()
        work()
        spent_s = watch.total()
    assert spent_s["outer"] == pytest.approx(2 * A_WHILE_S, rel=0.2)
    assert spent_s["inner"] == pytest.approx(2 * A_WHILE_S, rel=0.2)


def test_a_thread_that_joins_counts_its_own_stage() -> None:
    def helping(watch: stopwatch.Stopwatch | None) -> None:
        stopwatch.join(watch)
        with stage("helper"):
            work()

    with stopwatch.counting() as watch, stage("main"):
        helper = threading.Thread(target=helping, args=(stopwatch.current(),))
        helper.start()
        helper.join()
        spent_s = watch.total()
    assert spent_s["helper"] == pytest.approx(A_WHILE_S, rel=0.2)
    assert spent_s["main"] < A_WHILE_S / 2


def test_all_stages_are_together_the_time_of_the_process() -> None:
    with stopwatch.counting() as watch, stage("main"):
        before_s = time.process_time()
        work()
        strange = threading.Thread(target=work)  # as a thread that a library starts
        strange.start()
        strange.join()
        spent_s = watch.total()
        passed_s = time.process_time() - before_s
    assert spent_s[stopwatch.LIBRARIES] == pytest.approx(A_WHILE_S, rel=0.3)
    assert sum(spent_s.values()) == pytest.approx(passed_s, rel=0.05)


def test_nothing_is_counted_after_the_block() -> None:
    with stopwatch.counting() as watch, stage("main"):
        work()
    with stage("later"):
        work()
    with stopwatch.counting():
        assert "later" not in watch.total()
