"""Where the points of a chart go. The SVG itself is in templates/equity_chart.html; everything here is pure.

A chart's plane is 1000 units wide and stretches with the page, so its labels are HTML beside it: they stay sharp and
readable on any screen. For that, ticks lie at equal distances, the first and the last on the edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal

from dashboard import formats
from dashboard.reading.equity import EquityPoint

WIDTH = 1000
EQUITY_HEIGHT = 260
DRAWDOWN_HEIGHT = 84
STEPS = tuple(map(Decimal, ("1", "1.5", "2", "2.5", "3", "4", "5", "7.5", "10", "15", "20")))


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

    def y(self, value: Decimal, height: int) -> str:
        """Return the distance of a value from the top of a plane of this height."""
        return f"{(self.high - value) / (self.high - self.low) * height:.2f}"


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


@dataclass(frozen=True)
class EquityChart:
    """Two planes over one time axis, with their labels and what a reader without eyes on it gets."""

    equity_line: str
    equity_area: str
    drawdown_line: str
    drawdown_area: str
    equity_ticks: list[str]
    equity_grid: list[str]
    drawdown_ticks: list[str]
    drawdown_grid: list[str]
    time_ticks: list[tuple[str, str]]
    start_y: str | None
    last_x: str
    last_y: str
    title: str
    description: str
    points: list[tuple[str, EquityPoint]]


def equity_chart(points: list[EquityPoint], start: Decimal, *, zone: str) -> EquityChart | None:
    """Return the chart of an equity curve with its drawdown, or None for fewer than two points in time.

    Args:
        points: in order of time, all finite.
        start: the balance at the beginning, drawn as a dashed line where it is in sight.
        zone: what stands behind times: "UTC", or words for an unknown zone.
    """
    if len(points) < 2 or points[0].time == points[-1].time:
        return None
    first, last = points[0].time, points[-1].time
    length_s = (last - first).total_seconds()
    values = [point.equity for point in points]
    equity = scale(min(values), max(values))
    deepest = min(point.drawdown_percent for point in points)
    # shallow drawdowns stay shallow to the eye: the axis never ends above -1 %
    drawdown = scale(min(deepest, Decimal(-1)), Decimal(0), intervals=(2,))
    xs = [f"{(point.time - first).total_seconds() / length_s * WIDTH:.2f}" for point in points]
    equity_xy = [f"{x},{equity.y(p.equity, EQUITY_HEIGHT)}" for x, p in zip(xs, points, strict=True)]
    drawdown_xy = [f"{x},{drawdown.y(p.drawdown_percent, DRAWDOWN_HEIGHT)}" for x, p in zip(xs, points, strict=True)]
    top = drawdown.y(Decimal(0), DRAWDOWN_HEIGHT)
    change = (points[-1].equity / points[0].equity - 1) * 100 if points[0].equity else None
    return EquityChart(
        equity_line="M" + "L".join(equity_xy),
        equity_area=f"M{xs[0]},{EQUITY_HEIGHT}L" + "L".join(equity_xy) + f"L{xs[-1]},{EQUITY_HEIGHT}Z",
        drawdown_line="M" + "L".join(drawdown_xy),
        drawdown_area=f"M{xs[0]},{top}L" + "L".join(drawdown_xy) + f"L{xs[-1]},{top}Z",
        equity_ticks=[formats.number(tick, equity.places) if tick else "0" for tick in equity.ticks],
        equity_grid=[equity.y(tick, EQUITY_HEIGHT) for tick in equity.ticks],
        drawdown_ticks=[formats.percent(tick, drawdown.places) if tick else "0%" for tick in drawdown.ticks],
        drawdown_grid=[drawdown.y(tick, DRAWDOWN_HEIGHT) for tick in drawdown.ticks],
        time_ticks=_time_ticks(first, last),
        start_y=equity.y(start, EQUITY_HEIGHT) if equity.low <= start <= equity.high else None,
        last_x=xs[-1],
        last_y=equity.y(points[-1].equity, EQUITY_HEIGHT),
        title="Equity and drawdown",
        description=(
            f"From {formats.clock(first)} to {formats.clock(last)} {zone}: equity went from "
            f"{formats.number(points[0].equity)} to {formats.number(points[-1].equity)} "
            f"({formats.percent(change, sign=True)}), between {formats.number(min(values))} and "
            f"{formats.number(max(values))}. The deepest drawdown was {formats.percent(deepest)}."
        ),
        points=list(zip(xs, points, strict=True)),
    )


def _time_ticks(first: datetime, last: datetime, count: int = 5) -> list[tuple[str, str]]:
    """Return five (attribute, label) at equal distances, as fine as the span asks for."""
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
    moments = [first + (last - first) * i / (count - 1) for i in range(count)]
    return [(moment.isoformat(timespec="seconds"), moment.strftime(form)) for moment in moments]


def bar(part: float, whole: float) -> str:
    """Return the length of a bar on a plane 100 wide; something that is not zero is always seen."""
    if whole <= 0 or part <= 0:
        return "0"
    return f"{max(1.0, min(100.0, part / whole * 100)):.1f}"
