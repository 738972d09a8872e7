from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from dashboard.charts.pictures import (
    EQUITY_HEIGHT,
    Chart,
    daily_chart,
    duration_chart,
    equity_chart,
    result_chart,
)
from dashboard.charts.scales import counts, scale
from dashboard.reading.equity import EquityPoint
from dashboard.reading.overview import DayBar
from dashboard.reading.strategies import Bucket
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
DAYS = [DayBar(date(2026, 1, day), Decimal(result), 3, 1) for day, result in ((1, "5.5"), (2, "-2"), (5, "0"))]
BUCKETS = [Bucket(None, Decimal(-1), 2), Bucket(Decimal(-1), Decimal(0), 0), Bucket(Decimal(0), None, 7)]


def points(values: list[str]) -> list[EquityPoint]:
    return [EquityPoint(START + timedelta(minutes=i), Decimal(v), Decimal(0)) for i, v in enumerate(values)]


def every_chart() -> list[Chart]:
    found = [
        equity_chart(points(["100", "200", "150"]), Decimal(100), zone="UTC"),
        daily_chart(DAYS, currency="USDT", zone="UTC"),
        result_chart("results", BUCKETS, strategy="<script>alert(1)</script>"),
        duration_chart("held", BUCKETS, strategy="RSI"),
    ]
    assert all(found)
    return [chart for chart in found if chart]


@given(
    st.decimals(min_value=-(10**12), max_value=10**12, places=6),
    st.decimals(min_value=0, max_value=10**12, places=6),
)
def test_an_axis_holds_its_values_between_round_ticks(low: Decimal, length: Decimal) -> None:
    axis = scale(low, low + length)
    assert axis.low <= low
    assert axis.high >= low + length
    assert 5 <= len(axis.ticks) <= 7
    assert axis.ticks[0] == axis.high
    assert axis.ticks[-1] == axis.low


@given(st.integers(min_value=1, max_value=10**9))
def test_an_axis_of_counts_has_whole_ticks_from_zero(most: int) -> None:
    axis = counts(most)
    assert axis.low == 0
    assert most <= axis.high < 3 * most + 4
    assert 2 <= len(axis.ticks) <= 5
    assert all(tick == int(tick) for tick in axis.ticks)


def test_the_copied_backtest_fills_its_axis() -> None:
    axis = scale(Decimal(9213), Decimal("27378.92"))
    assert (axis.low, axis.high) == (8000, 28000)


def line_of(svg: str) -> list[tuple[float, float]]:
    group = next(group for group in ElementTree.fromstring(svg) if group.get("class") == "marks line")
    numbers = re.findall(r"(-?[\d.]+) (-?[\d.]+)", group[0].get("d") or "")
    return [(float(x), float(y)) for x, y in numbers]


def test_the_first_point_is_left_and_the_last_right_and_high_is_up() -> None:
    chart = equity_chart(points(["100", "200", "150"]), Decimal(100), zone="UTC")
    assert chart
    first, highest, last = line_of(chart.planes[0].svg)
    assert (first[0], highest[0], last[0]) == pytest.approx((0, 500, 1000))
    assert 0 <= highest[1] < last[1] < first[1] <= EQUITY_HEIGHT
    assert "went from 100.00 to 150.00 (+50.00%), between 100.00 and 200.00" in chart.description


def test_the_grid_lies_where_the_labels_stand() -> None:
    chart = equity_chart(points(["100", "200", "150"]), Decimal(100), zone="UTC")
    assert chart
    plane = chart.planes[0]
    heights = sorted(
        float(re.findall(r"M[\d.e-]+ ([\d.e-]+)", path.get("d") or "")[0])
        for path in ElementTree.fromstring(plane.svg)
        if (path.get("class") or "").startswith("grid")
    )
    distance = EQUITY_HEIGHT / (len(plane.ticks) - 1)
    assert heights == pytest.approx([i * distance for i in range(len(plane.ticks))], abs=0.1)


@pytest.mark.parametrize("values", [[], ["100"]])
def test_less_than_two_points_are_no_curve(values: list[str]) -> None:
    assert equity_chart(points(values), Decimal(100), zone="UTC") is None


def test_a_flat_line_is_drawn() -> None:
    chart = equity_chart(points(["100", "100"]), Decimal(100), zone="UTC")
    assert chart
    assert len(line_of(chart.planes[0].svg)) == 2
    assert ("level", "starting balance 100.00") in chart.legend


def test_a_day_that_lost_hangs_below_the_line_that_others_stand_on() -> None:
    chart = daily_chart(DAYS, currency="USDT", zone="UTC")
    assert chart
    drawn = [bar for bar in ElementTree.fromstring(chart.planes[0].svg).iter("rect") if bar.get("class") != "edge"]
    gain, loss, flat = ({name: float(bar.get(name) or "nan") for name in ("x", "y", "height")} for bar in drawn)
    assert [bar.get("class") for bar in drawn] == ["gain", "loss", "flat"]
    assert gain["y"] + gain["height"] == pytest.approx(loss["y"], abs=0.1)
    assert flat["height"] == 0
    assert (flat["x"] - loss["x"]) == pytest.approx(3 * (loss["x"] - gain["x"]), abs=0.1)  # two days without trades
    assert drawn[0].findtext("title") == "2026-01-01: +5.50 USDT, 3 trades, 1 won"
    assert "1 won, together +3.50 USDT after fees" in chart.description


def test_no_days_and_no_trades_are_no_chart() -> None:
    assert daily_chart([], currency=None, zone="UTC") is None
    assert result_chart("results", [], strategy="RSI") is None


def test_a_distribution_says_each_range_and_its_share() -> None:
    chart = result_chart("results", BUCKETS, strategy="RSI")
    assert chart
    assert [[cell.text for cell in cells] for _, cells in chart.rows] == [
        ["below \N{MINUS SIGN}1", "2", "22.2%"],
        ["\N{MINUS SIGN}1 to 0", "0", "0.0%"],
        ["0 or more", "7", "77.8%"],
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_chart_brings_no_style_no_script_no_address_and_names_itself(number: int) -> None:
    chart = every_chart()[number]
    ids: list[str] = []
    for plane in chart.planes:
        root = ElementTree.fromstring(plane.svg)
        for node in root.iter():
            assert node.tag in {"svg", "title", "desc", "g", "path", "rect"}
            assert set(node.attrib) <= {
                "class", "id", "viewBox", "preserveAspectRatio", "role", "aria-labelledby", "d", "x", "y", "width",
                "height",
            }  # fmt: skip
        assert "http" not in plane.svg
        assert (root.get("role"), root[0].tag, root[1].tag) == ("img", "title", "desc")
        assert root.get("aria-labelledby") == f"{root[0].get('id')} {root[1].get('id')}"
        assert root[0].text
        assert root[1].text
        ids += [found for node in root.iter() if (found := node.get("id"))]
    assert len(ids) == len(set(ids))
    assert chart.rows
    assert all(len(cells) == len(chart.heads) for _, cells in chart.rows)


def test_the_same_marks_are_drawn_once() -> None:
    one, two = (daily_chart(DAYS, currency="USDT", zone="UTC") for _ in range(2))
    assert one
    assert two
    assert one.planes[0].svg is two.planes[0].svg


def test_a_run_of_empty_ranges_is_drawn_and_listed_as_one() -> None:
    edges = [Decimal(n) for n in (-20, -10, -5, 0, 5, 10, 20)]
    buckets = [
        Bucket(low, high, trades) for low, high, trades in zip(edges, edges[1:], (3, 0, 0, 0, 4, 5), strict=False)
    ]
    chart = result_chart("results", buckets, strategy="RSI")
    assert chart
    assert [(cells[0].text, cells[1].text) for _, cells in chart.rows] == [
        ("\u221220 to \u221210", "3"), ("\u221210 to 5", "0"), ("5 to 10", "4"), ("10 to 20", "5")
    ]  # fmt: skip
