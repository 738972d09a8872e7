"""Axes of round numbers, and where their labels stand. Everything here is pure.

A chart's plane is 1000 units wide and stretches with the page, so its labels are text beside it: they stay sharp and
readable on any screen. For that, the ticks of a vertical axis lie at equal distances, the ends on the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

WIDTH = 1000
STEPS = tuple(map(Decimal, ("1", "1.5", "2", "2.5", "3", "4", "5", "7.5", "10", "15", "20")))
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Scale:
    """A vertical axis: equal steps from ``low`` to ``high``."""

    low: Decimal
    high: Decimal
    step: Decimal
    places: int

    @property
    def ticks(self) -> list[Decimal]:
        """Return the values of the ticks, the highest first, as they stand on the page from top to bottom."""
        intervals = int((self.high - self.low) / self.step)
        return [self.high - self.step * i for i in range(intervals + 1)]


@dataclass(frozen=True)
class Label:
    """A word under a chart, ``at`` percent of its width. ``rare``: left out on narrow screens."""

    at: str
    text: str
    anchor: Anchor
    rare: bool = False


def scale(low: Decimal, high: Decimal, intervals: Sequence[int] = (4, 5, 6)) -> Scale:
    """Return the axis of round numbers that holds two values with the least room to spare.

    Args:
        low: the smallest value.
        high: the largest; may equal the smallest.
        intervals: how many there may be between ticks.
    """
    if low == high:
        margin = max(abs(low) * Decimal("0.001"), Decimal("0.01"))
        low, high = low - margin, high + margin
    found: list[tuple[Decimal, int, Decimal, Decimal]] = []
    for count in intervals:
        exponent = ((high - low) / count).adjusted()
        for factor in STEPS:
            step = factor.scaleb(exponent)
            bottom = (low / step).to_integral_value(rounding=ROUND_FLOOR) * step
            if bottom + step * count >= high:
                found.append((step * count, count, bottom, step))
                break
    span, _, bottom, step = min(found)
    return Scale(bottom, bottom + span, step, max(0, -int(step.normalize().as_tuple().exponent)))


def counts(most: int) -> Scale:
    """Return an axis for whole numbers from zero up.

    Args:
        most: the largest, at least 1.
    """
    step = max(1, -(-most // 4))
    magnitude = 10 ** (len(str(step)) - 1)
    step = -(-step // magnitude) * magnitude
    high = -(-most // step) * step
    return Scale(Decimal(0), Decimal(high), Decimal(step), 0)


def time_labels(first: datetime, last: datetime, count: int = 5) -> tuple[Label, ...]:
    """Return labels at equal distances, as fine as the span asks for.

    Args:
        first: at the left edge.
        last: at the right edge, later.
        count: how many.
    """
    span_s = (last - first).total_seconds()
    form = (
        "%H:%M:%S"
        if span_s < 1800
        else "%H:%M"
        if span_s < 86_400
        else "%b %d, %H:%M"
        if span_s < 5 * 86_400
        else "%b %d, %Y"
    )
    return tuple(
        Label(
            f"{100 * i / (count - 1):g}%",
            (first + (last - first) * i / (count - 1)).strftime(form),
            "start" if i == 0 else "end" if i == count - 1 else "middle",
            rare=i % 2 == 1 or ("%Y" in form and 0 < i < count - 1),
        )
        for i in range(count)
    )


def bar(part: float, whole: float) -> str:
    """Return the length of a bar on a plane 100 wide; something that is not zero is always seen."""
    if whole <= 0 or part <= 0:
        return "0"
    return f"{max(1.0, min(100.0, part / whole * 100)):.1f}"
