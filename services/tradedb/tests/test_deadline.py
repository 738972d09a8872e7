from __future__ import annotations

import threading
import time

import pytest
from tradedb.deadline import Watchdog


def test_an_abort_comes_at_the_deadline_and_not_before() -> None:
    dog, aborted = Watchdog(), threading.Event()
    started = time.monotonic()
    with dog.guard(started + 0.2) as guard:
        guard.watch(1, aborted.set)
        assert aborted.wait(60)
        assert time.monotonic() - started >= 0.19
        assert guard.expired


def test_a_transaction_that_is_over_is_left_alone() -> None:
    dog, aborted = Watchdog(), threading.Event()
    with dog.guard(time.monotonic() + 1) as guard:
        guard.watch(1, aborted.set)
    assert not aborted.wait(1.2)
    assert not guard.expired


def test_an_earlier_deadline_overtakes_a_later_one() -> None:
    dog = Watchdog()
    aborted = {"late": threading.Event(), "early": threading.Event()}
    done = threading.Event()

    def hold(name: str, after_s: float) -> None:
        with dog.guard(time.monotonic() + after_s) as guard:
            guard.watch(1, aborted[name].set)
            done.wait(60)

    threads = [threading.Thread(target=hold, args=pair) for pair in (("late", 600), ("early", 0.1))]
    for thread in threads:
        thread.start()
    early = aborted["early"].wait(60)
    done.set()
    for thread in threads:
        thread.join()
    assert early
    assert not aborted["late"].is_set()


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
        deadline = time.monotonic() + 60
        while not guard.expired and time.monotonic() < deadline:
            time.sleep(0.01)
        guard.watch(1, aborted.set)
        assert aborted.is_set()


def test_a_closed_connection_is_forgotten() -> None:
    dog, aborted = Watchdog(), threading.Event()
    with dog.guard(time.monotonic() + 1) as guard:
        guard.watch(1, aborted.set)
        guard.forget(1)
        deadline = time.monotonic() + 60
        while not guard.expired and time.monotonic() < deadline:
            time.sleep(0.01)
        assert guard.expired
        assert not aborted.is_set()


def test_all_guards_share_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard costs microseconds; a thread for each transaction would cost ten times as much."""
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    dog = Watchdog()
    for _ in range(2000):
        with dog.guard(time.monotonic() + 60):
            pass
    assert started == ["tradedb-deadlines"]
