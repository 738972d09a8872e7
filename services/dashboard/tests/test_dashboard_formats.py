from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from dashboard import formats

MINUS = formats.MINUS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0.00"),
        ("-0.00", "0.00"),
        ("1234567.891", "1,234,567.89"),
        ("-17.524548159701215", f"{MINUS}17.52"),
        ("2.675", "2.68"),  # as a float it would be 2.67
        ("1000000000000000000000000000000.015", "1,000,000,000,000,000,000,000,000,000,000.02"),
        ("0.00013596", "0.00014"),
        ("-0.004", f"{MINUS}0.0040"),
        ("0.005", "0.00"),  # half to even, and 0.005 is not so small that it needs more
        ("0.0049", "0.0049"),
        ("Infinity", "\N{INFINITY}"),
        ("-Infinity", f"{MINUS}\N{INFINITY}"),
        ("NaN", "not a number"),
    ],
)
def test_money_is_rounded_from_the_decimal_and_never_a_wrong_zero(value: str, text: str) -> None:
    assert formats.number(Decimal(value)) == text


def test_what_is_missing_is_a_dash() -> None:
    assert formats.number(None) == formats.percent(None) == formats.clock(None) == formats.count(None) == "\N{EM DASH}"


@pytest.mark.parametrize(
    ("value", "text", "tone"),
    [
        ("12.3", "+12.30", "gain"),
        ("-12.3", f"{MINUS}12.30", "loss"),
        ("0", "0.00", "flat"),
        ("NaN", "not a number", "flat"),
    ],
)
def test_a_gain_and_a_loss_differ_without_colour(value: str, text: str, tone: str) -> None:
    assert (formats.signed(Decimal(value)), formats.tone(Decimal(value))) == (text, tone)


def test_exact_keeps_every_digit() -> None:
    assert formats.exact(Decimal("1E-7")) == "0.0000001"
    assert formats.exact(Decimal("107608.62000000001")) == "107608.62000000001"


@pytest.mark.parametrize(
    ("value", "text"),
    [("59297.64", "59,297.64"), ("0.000012345678", "0.000012346"), ("0.5", "0.50000"), ("1", "1.00")],
)
def test_price(value: str, text: str) -> None:
    assert formats.price(Decimal(value)) == text


def test_quantity_leaves_out_zeros_that_say_nothing() -> None:
    assert formats.quantity(Decimal("0.08490000")) == "0.0849"
    assert formats.quantity(Decimal(100)) == "100"


def test_percent_of_a_float_shows_what_is_stored() -> None:
    assert formats.percent(2.2222222222222223) == "2.22%"
    assert formats.percent(float("inf")) == "\N{INFINITY}%"
    assert formats.percent(float("nan")) == "not a number"
    assert formats.percent(-1.5, sign=True) == f"{MINUS}1.50%"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (90061, "1 d 1 h"),
        (-3, "0 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert formats.duration(seconds) == text


def test_a_known_zone_is_said_and_an_unknown_one_is_not_invented() -> None:
    wall = datetime(2025, 6, 27, 20, 47, 39)  # noqa: DTZ001
    assert formats.machine_time(wall, in_utc=False) == "2025-06-27T20:47:39"
    assert formats.machine_time(wall, in_utc=True) == "2025-06-27T20:47:39Z"
    assert formats.utc(wall.replace(tzinfo=UTC)) == "2025-06-27 20:47:39 UTC"


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [("BTCUSDT", "USDT"), ("BTC/EUR", "EUR"), ("BTC/USDT:USDT", "USDT"), ("ETH-BTC", "BTC"), ("XYZ", None), ("", None)],
)
def test_quote_currency(symbol: str, currency: str | None) -> None:
    assert formats.quote_currency(symbol) == currency


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 bytes"), (98304, "98.3 kB"), (10_400_000, "10.4 MB"), (None, "\N{EM DASH}")]
)
def test_size(size: int | None, text: str) -> None:
    assert formats.size(size) == text
