from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from dashboard.charts import EQUITY_HEIGHT, equity_chart, scale
from dashboard.reading.equity import EquityPoint
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001


def points(values: list[str]) -> list[EquityPoint]:
    return [EquityPoint(START + timedelta(minutes=i), Decimal(v), Decimal(0)) for i, v in enumerate(values)]


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


def test_the_copied_backtest_fills_its_axis() -> None:
    axis = scale(Decimal(9213), Decimal("27378.92"))
    assert (axis.low, axis.high) == (8000, 28000)


def test_the_first_point_is_left_and_the_last_right_and_high_is_up() -> None:
    chart = equity_chart(points(["100", "200", "150"]), Decimal(100), zone="UTC")
    assert chart
    first, highest, last = (pair.split(",") for pair in chart.equity_line.removeprefix("M").split("L"))
    assert (first[0], highest[0], last[0]) == ("0.00", "500.00", "1000.00")
    assert 0 <= float(highest[1]) < float(last[1]) < float(first[1]) <= EQUITY_HEIGHT
    assert "went from 100.00 to 150.00 (+50.00%), between 100.00 and 200.00" in chart.description


@pytest.mark.parametrize("values", [[], ["100"]])
def test_less_than_two_points_are_no_curve(values: list[str]) -> None:
    assert equity_chart(points(values), Decimal(100), zone="UTC") is None


def test_a_flat_line_is_drawn() -> None:
    chart = equity_chart(points(["100", "100"]), Decimal(100), zone="UTC")
    assert chart
    assert chart.start_y is not None
