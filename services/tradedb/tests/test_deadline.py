from __future__ import annotations

import threading
import time

from tradedb.deadline import Watchdog


def test_an_abort_comes_at_the_deadline_and_not_before() -> None:
    dog, aborted = Watchdog(), threading.Event()
    started = time.monotonic()
    with dog.guard(started + 0.2) as guard:
        guard.watch(1, aborted.set)
        assert aborted.wait(5)
        assert 0.19 <= time.monotonic() - started < 2
        assert guard.expired


def test_a_transaction_that_is_over_is_left_alone() -> None:
    dog, aborted = Watchdog(), threading.Event()
    with dog.guard(time.monotonic() + 0.05) as guard:
        guard.watch(1, aborted.set)
    assert not aborted.wait(0.2)
    assert not guard.expired


def test_an_earlier_deadline_overtakes_a_later_one() -> None:
    dog, order = Watchdog(), list[str]()
    done = threading.Event()

    def hold(name: str, after_s: float) -> None:
        with dog.guard(time.monotonic() + after_s) as guard:
            guard.watch(1, lambda: order.append(name))
            done.wait(5)

    threads = [threading.Thread(target=hold, args=pair) for pair in (("late", 0.5), ("early", 0.1))]
    for thread in threads:
        thread.start()
    time.sleep(0.8)
    done.set()
    for thread in threads:
        thread.join()
    assert order == ["early", "late"]


def test_an_inner_guard_cannot_outlive_the_outer_one() -> None:
    dog = Watchdog()
    at = time.monotonic() + 1
    with dog.guard(at) as outer:
        with dog.guard(at + 100) as inner:
            assert dog.current() is inner
            assert inner.at == at
        assert dog.current() is outer
    assert dog.current() is None


def test_what_is_watched_after_the_deadline_is_aborted_at_once() -> None:
    dog, aborted = Watchdog(), threading.Event()
    with dog.guard(time.monotonic() - 1) as guard:
        deadline = time.monotonic() + 5
        while not guard.expired and time.monotonic() < deadline:
            time.sleep(0.01)
        guard.watch(1, aborted.set)
        assert aborted.is_set()


def test_a_closed_connection_is_forgotten() -> None:
    dog, aborted = Watchdog(), threading.Event()
    with dog.guard(time.monotonic() + 0.1) as guard:
        guard.watch(1, aborted.set)
        guard.forget(1)
        assert not aborted.wait(0.3)


def test_a_guard_costs_microseconds() -> None:
    """Generous by far: a thread for each transaction would cost ten times as much."""
    dog = Watchdog()
    started = time.perf_counter()
    for _ in range(2000):
        with dog.guard(time.monotonic() + 60):
            pass
    assert (time.perf_counter() - started) / 2000 < 0.0005
