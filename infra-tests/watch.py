"""Waiting for something that must become true, and watching what services say while it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from targets import SERVICES, Target

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float, what: str, every_s: float = 0.2) -> T:
    """Return the first true result of ``condition``; fail after ``timeout_s`` with what was seen last."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(every_s)


def ready(target: Target, timeout_s: float = 90) -> None:
    """Wait until both services say that they are ready."""
    for service in SERVICES[1:]:
        until(
            lambda service=service: target.answer(service, "/readyz")[0] == 200, timeout_s, f"{service} /readyz is 200"
        )


@dataclass
class Seen:
    """What a service said, in order: (seconds since the watch began, code, body)."""

    answers: list[tuple[float, int, Any]] = field(default_factory=list)

    def codes(self) -> set[int]:
        """Every code that was seen."""
        return {code for _, code, _ in self.answers}


@contextmanager
def watching(target: Target, *places: tuple[str, str], every_s: float = 0.4) -> Iterator[dict[tuple[str, str], Seen]]:
    """Ask each (service, path) again and again while the block runs."""
    seen = {place: Seen() for place in places}
    end = threading.Event()
    began = time.monotonic()

    def ask(service: str, path: str) -> None:
        while not end.is_set():
            asked = time.monotonic() - began
            code, body = target.get(service, path)
            seen[service, path].answers.append((asked, code, body))
            end.wait(every_s)

    threads = [threading.Thread(target=ask, args=place, daemon=True) for place in places]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        end.set()
        for thread in threads:
            thread.join(60)
