"""The charts of the pages: which values go where, what they are called, and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby

from markupsafe import Markup

from dashboard import formats
from dashboard.charts import drawing
from dashboard.charts.drawing import Bar
from dashboard.charts.scales import WIDTH, Label, Scale, counts, scale, time_labels
from dashboard.reading.equity import EquityPoint
from dashboard.reading.overview import DayBar
from dashboard.reading.strategies import Bucket

EQUITY_HEIGHT = 260
DRAWDOWN_HEIGHT = 84
BARS_HEIGHT = 150
SMALL_HEIGHT = 110
GAP = 0.1  # of a bar's room, on each side
FEWEST_RANGES = 4  # fewer stand side by side from the left, not one across the whole plane
FOLDED_FROM = 2  # so many empty ranges in a row are drawn, and listed, as one
_Words = Callable[[Decimal], str]
_Kind = Callable[[Bucket], str]


@dataclass(frozen=True)
class Plane:
    """One picture with the labels of its vertical axis, from top to bottom."""

    kind: str
    svg: Markup
    ticks: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of a chart's table: what is read, what it is exactly, and how it is coloured."""

    text: str
    exact: str | None = None
    tone: str = ""


@dataclass(frozen=True)
class Chart:
    """Planes over one horizontal axis, the key to their marks, and the numbers behind them.

    ``rows`` begin with where they stand, 0 to WIDTH. ``key`` is unique on its page.
    """

    key: str
    title: str
    description: str
    planes: tuple[Plane, ...]
    labels: tuple[Label, ...]
    legend: tuple[tuple[str, str], ...]
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def equity_chart(points: Sequence[EquityPoint], start: Decimal, *, zone: str) -> Chart | None:
    """Return the chart of an equity curve with its drawdown under it, or None for fewer than two points in time.

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
    across = [(point.time - first).total_seconds() / length_s * WIDTH for point in points]
    change = (points[-1].equity / points[0].equity - 1) * 100 if points[0].equity else None
    in_sight = equity.low <= start <= equity.high
    described = (
        f"From {formats.clock(first)} to {formats.clock(last)} {zone}: equity went from "
        f"{formats.number(points[0].equity)} to {formats.number(points[-1].equity)} "
        f"({formats.percent(change, sign=True)}), between {formats.number(min(values))} and "
        f"{formats.number(max(values))}. The deepest drawdown was {formats.percent(deepest)}."
    )
    legend = [("line", "equity"), ("fall", "drawdown")]
    if in_sight:
        legend.append(("level", f"starting balance {formats.number(start)}"))
    return Chart(
        key="equity",
        title="Equity and drawdown",
        description=described,
        planes=(
            Plane(
                "tall",
                drawing.curve(
                    "equity", tuple((x, float(point.equity)) for x, point in zip(across, points, strict=True)),
                    equity, EQUITY_HEIGHT, base=float(equity.low), level=float(start) if in_sight else None,
                    title="Equity", description=described,
                ),
                _numbers(equity),
            ),
            Plane(
                "low",
                drawing.curve(
                    "drawdown",
                    tuple((x, float(point.drawdown_percent)) for x, point in zip(across, points, strict=True)),
                    drawdown, DRAWDOWN_HEIGHT, base=0.0, level=None, title="Drawdown",
                    description="How far equity is below the highest before, in percent. "
                    f"The deepest is {formats.percent(deepest)}.",
                ),
                _numbers(drawdown, unit="%"),
            ),
        ),
        labels=time_labels(first, last),
        legend=tuple(legend),
        note=f"Times are {zone}.",
        heads=("Time", "Equity", "Drawdown"),
        rows=tuple(
            (
                f"{x:.2f}",
                (
                    Cell(formats.clock(point.time)),
                    Cell(formats.number(point.equity), formats.exact(point.equity)),
                    Cell(formats.percent(point.drawdown_percent)),
                ),
            )
            for x, point in zip(across, points, strict=True)
        ),
    )  # fmt: skip


def daily_chart(days: Sequence[DayBar], *, currency: str | None, zone: str) -> Chart | None:
    """Return bars of what each day brought, or None without any.

    Args:
        days: in order, each at most once, all finite; days between that closed nothing have no bar.
        currency: of the results, where it is known.
        zone: whose days these are: "UTC", or words for an unknown zone.
    """
    if not days:
        return None
    first, last = days[0].day, days[-1].day
    span = (last - first).days + 1
    # few bars stand side by side from the left, not one across the whole page; a long pause is drawn as it is
    room = WIDTH / max(span, 14)
    if span > 400:  # bars of single days would be thinner than a pixel: they stand side by side, whatever lies between
        places = [float(number) for number in range(len(days))]
        room = WIDTH / max(len(days), 14)
    else:
        places = [float((bar.day - first).days) for bar in days]
    values = [bar.result for bar in days]
    axis = scale(min(*values, Decimal(0)), max(*values, Decimal(0)), intervals=(2, 3, 4))
    won = sum(1 for value in values if value > 0)
    best, worst = max(days, key=lambda bar: bar.result), min(days, key=lambda bar: bar.result)
    unit = f" {currency}" if currency else ""
    described = (
        f"{formats.plural(len(days), 'day')} with closed trades from {first} to {last}, days {zone}: "
        f"{won} won, together {formats.signed(sum(values, Decimal(0)))}{unit} after fees. "
        f"The best was {best.day} with {formats.signed(best.result)}, "
        f"the worst {worst.day} with {formats.signed(worst.result)}."
    )
    drawn = tuple(
        Bar(
            (place + GAP) * room,
            (place + 1 - GAP) * room,
            float(bar.result),
            formats.tone(bar.result),
            f"{bar.day}: {formats.signed(bar.result)}{unit}, {formats.plural(bar.trades, 'trade')}, {bar.wins} won",
        )
        for place, bar in zip(places, days, strict=True)
    )
    return Chart(
        key="daily",
        title="Daily profit and loss",
        description=described,
        planes=(
            Plane(
                "bars",
                drawing.bars("daily", _framed(drawn), axis, BARS_HEIGHT, title="Daily profit and loss",
                             description=described),
                _numbers(axis),
            ),
        ),
        labels=_day_labels([bar.day for bar in days], places, room),
        legend=(("gain", "a day that won"), ("loss", "a day that lost")),
        note=f"After fees. Days are {zone}.",
        heads=("Day", "Result", "Trades", "Won"),
        rows=tuple(
            (
                f"{(place + 0.5) * room:.2f}",
                (
                    Cell(str(bar.day)),
                    Cell(formats.signed(bar.result), formats.exact(bar.result), formats.tone(bar.result)),
                    Cell(formats.count(bar.trades)),
                    Cell(formats.count(bar.wins)),
                ),
            )
            for place, bar in zip(places, days, strict=True)
        ),
    )  # fmt: skip


def result_chart(key: str, buckets: Sequence[Bucket], *, strategy: str) -> Chart | None:
    """Return how many trades brought how much after fees, or None without any.

    Args:
        key: unique on the page.
        buckets: neighbours, the lowest first.
        strategy: whose.
    """
    return _distribution(
        key, buckets, f"Results of {formats.visible(strategy)}", "Result after fees",
        lambda value: formats.short(value),
        lambda bucket: "loss" if bucket.high is not None and bucket.high <= 0 else "gain",
        legend=(("gain", "won"), ("loss", "lost")),
        note="In the quote currency, after fees. The ranges are not equally wide.",
    )  # fmt: skip


def duration_chart(key: str, buckets: Sequence[Bucket], *, strategy: str) -> Chart | None:
    """Return how many trades were held how long, or None without any.

    Args:
        key: unique on the page.
        buckets: neighbours, the lowest first.
        strategy: whose.
    """
    return _distribution(
        key, buckets, f"Time held by {formats.visible(strategy)}", "Time held",
        lambda value: formats.duration(float(value)),
        lambda _: "held", legend=(), note="From entry to exit; the ranges are not equally wide.",
    )  # fmt: skip


def _distribution(
    key: str, buckets: Sequence[Bucket], title: str, head: str, words: _Words, kind: _Kind, *,
    legend: tuple[tuple[str, str], ...], note: str,
) -> Chart | None:  # fmt: skip
    if not buckets:
        return None
    buckets = _folded(buckets)
    axis = counts(max(bucket.trades for bucket in buckets))
    total = sum(bucket.trades for bucket in buckets)
    room = WIDTH / max(len(buckets), FEWEST_RANGES)
    most = max(buckets, key=lambda bucket: bucket.trades)
    described = (
        f"{formats.plural(total, 'trade')} in {formats.plural(len(buckets), 'range')}; "
        f"most, {formats.count(most.trades)}, {_range_words(most, words)}."
    )
    drawn = tuple(
        Bar(
            (place + GAP) * room, (place + 1 - GAP) * room, float(bucket.trades), kind(bucket),
            f"{_range_words(bucket, words)}: {formats.plural(bucket.trades, 'trade')}",
        )
        for place, bucket in enumerate(buckets)
    )  # fmt: skip
    edges = [bucket.low for bucket in buckets] + [buckets[-1].high]
    every = max(1, -(-len(edges) // 7))
    labels = tuple(
        Label(f"{place * room / WIDTH * 100:.2f}%", words(edge), "start" if place == 0 else "end" if
              place == len(edges) - 1 and len(buckets) >= FEWEST_RANGES else "middle", rare=(place // every) % 2 == 1)
        for place, edge in enumerate(edges)
        if edge is not None and place % every == 0
    )  # fmt: skip
    return Chart(
        key=key,
        title=title,
        description=described,
        planes=(
            Plane(
                "small",
                drawing.bars(key, _framed(drawn), axis, SMALL_HEIGHT, title=title, description=described),
                _numbers(axis),
            ),
        ),
        labels=labels,
        legend=legend,
        note=note,
        heads=(head, "Trades", "Share"),
        rows=tuple(
            (
                f"{(place + 0.5) * room:.2f}",
                (
                    Cell(_range_words(bucket, words)),
                    Cell(formats.count(bucket.trades)),
                    Cell(formats.percent(100 * bucket.trades / total if total else None, 1)),
                ),
            )
            for place, bucket in enumerate(buckets)
        ),
    )


def _folded(buckets: Sequence[Bucket]) -> list[Bucket]:
    """The same with each longer run of empty ranges as one: the middle of most results is empty, and wide."""
    found: list[Bucket] = []
    for holds_trades, run in groupby(buckets, key=lambda bucket: bucket.trades > 0):
        ranges = list(run)
        if holds_trades or len(ranges) < FOLDED_FROM:
            found += ranges
        else:
            found.append(Bucket(ranges[0].low, ranges[-1].high, 0))
    return found


def _framed(drawn: tuple[Bar, ...]) -> tuple[Bar, ...]:
    """Bars with nothing at both edges of the plane, so that the drawing spans it from 0 to WIDTH."""
    return (Bar(0, 0, 0, "edge", ""), *drawn, Bar(WIDTH, WIDTH, 0, "edge", ""))


def _numbers(axis: Scale, unit: str = "") -> tuple[str, ...]:
    return tuple(f"{formats.number(tick, axis.places)}{unit}" if tick else f"0{unit}" for tick in axis.ticks)


def _day_labels(days: Sequence[date], places: Sequence[float], room: float) -> tuple[Label, ...]:
    """Labels under the first day, the last, and some between that keep their distance."""
    wanted = sorted({round(i * (len(days) - 1) / 4) for i in range(5)})
    form = "%b %d" if days[0].year == days[-1].year else "%b %d, %Y"
    found: list[Label] = []
    before = -WIDTH
    for number, index in enumerate(wanted):
        middle = (places[index] + 0.5) * room
        if middle - before < WIDTH * 0.13:
            continue
        before = middle
        anchor = "start" if middle < WIDTH * 0.05 else "end" if middle > WIDTH * 0.95 else "middle"
        at = 0.0 if anchor == "start" else WIDTH if anchor == "end" else middle
        found.append(
            Label(
                f"{at / WIDTH * 100:.2f}%",
                days[index].strftime(form),
                anchor,
                rare=number % 2 == 1 or ("%Y" in form and anchor == "middle"),
            )
        )
    return tuple(found)


def _range_words(bucket: Bucket, words: _Words) -> str:
    if bucket.low is None:
        return f"below {words(bucket.high)}" if bucket.high is not None else "any"
    return f"{words(bucket.low)} or more" if bucket.high is None else f"{words(bucket.low)} to {words(bucket.high)}"
