"""Numbers and times as people read them: exact, signed by symbol, and never a wrong zero.

Everything here is pure. Money arrives as ``Decimal`` and is never turned into a float on its way to the page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import pairwise
from unicodedata import category

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EM DASH}"
_WIDE = Context(prec=400)  # the default 28 digits would refuse to round a very large number
# Unicode's marks that set the direction of the text around them, and the two that break lines outside of CSV
_TURNS = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# quote currencies that exchanges write without a separator, longest first
QUOTES = ("USDT", "USDC", "BUSD", "FDUSD", "TUSD", "USD", "EUR", "GBP", "BTC", "ETH")


def visible(text: str) -> str:
    """Return text with its control characters written out: ESC, and those that turn the direction of reading.

    A symbol or a reason comes from elsewhere; on a page, in a terminal or in a spreadsheet it must not move, hide or
    reverse what stands beside it. Tab and line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(
        f"\\u{ord(c):04x}" if c in _TURNS or (category(c) == "Cc" and c not in "\t\r\n") else c for c in text
    )


def exact(value: Decimal) -> str:
    """Return every digit of a number, without an exponent: what a page keeps beside the rounded form."""
    return format(value, "f") if value.is_finite() else str(value)


def number(value: Decimal | None, places: int = 2) -> str:
    """Return a number with thousands separators.

    Args:
        value: any ``Decimal``, also infinite or NaN; None is shown as a dash.
        places: digits after the point. A number that would round to zero keeps two significant digits instead, so that
            "0.00" on a page means zero.
    """
    if value is None:
        return MISSING
    if value.is_nan():
        return "not a number"
    if value.is_infinite():
        return f"{MINUS if value < 0 else ''}\N{INFINITY}"
    if value and abs(value) < Decimal(5).scaleb(-places - 1):
        places = min(1 - value.adjusted(), 18)
    text = f"{value.copy_abs().quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_EVEN, context=_WIDE):,f}"
    return f"{MINUS}{text}" if value < 0 and any(digit in text for digit in "123456789") else text


def signed(value: Decimal | None, places: int = 2) -> str:
    """Return the same with the sign always written: plus one as ``+1.00``, but zero as ``0.00``."""
    text = number(value, places)
    return f"+{text}" if value is not None and not value.is_nan() and value > 0 else text


def price(value: Decimal | None) -> str:
    """Return a price: two decimals from 1 upwards, five significant digits below."""
    if value is None or not value.is_finite() or not value or abs(value) >= 1:
        return number(value)
    return number(value, min(4 - value.adjusted(), 12))


def quantity(value: Decimal | None, places: int = 8) -> str:
    """Return an amount of the traded thing: up to so many decimals, without the zeros that say nothing."""
    text = number(value, places)
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float | Decimal | None, places: int = 2, *, sign: bool = False) -> str:
    """Return a percentage, its sign always written if asked for.

    Args:
        value: in percent (12.5 is 12.5%).
        places: digits after the point.
        sign: write a plus too.
    """
    if value is None:
        return MISSING
    exactly = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    text = (signed if sign else number)(exactly, places)
    return text if exactly.is_nan() else f"{text}%"


def tone(value: Decimal | float | None) -> str:
    """Return the class that colours a number: ``gain``, ``loss`` or ``flat``. Its sign says the same without colour."""
    if value is None or value != value or value == 0:
        return "flat"
    return "gain" if value > 0 else "loss"


def short(value: Decimal) -> str:
    """Return a number for an axis: thousands as ``2.5k``, millions as ``1M``, no zeros after the point."""
    for unit, exponent in (("M", 6), ("k", 3)):
        if abs(value) >= Decimal(1).scaleb(exponent):
            return f"{quantity(value.scaleb(-exponent), 2)}{unit}"
    return quantity(value, 4)


def count(value: int | None) -> str:
    """Return a whole number with thousands separators."""
    return MISSING if value is None else f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """Return ``1 trade`` or ``2,096 trades``."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def size(size_bytes: int | None) -> str:
    """Return a size in the unit that keeps it under four digits."""
    if size_bytes is None:
        return MISSING
    amount, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{size_bytes:,} bytes" if unit == "bytes" else f"{amount:,.{1 if amount < 100 else 0}f} {unit}"


_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Return a length of time in one or two units: ``4 s``, ``3 min 20 s``, ``2 h 5 min``, ``6 d 3 h``."""
    whole = max(0, int(seconds))
    for (unit, unit_s), (smaller, smaller_s) in pairwise(_UNITS):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def milliseconds(value_ms: float) -> str:
    """Return how long a statement took: ``0.04 ms``, ``12 ms``, ``3.2 s``."""
    if value_ms >= 1000:
        return f"{value_ms / 1000:,.1f} s"
    return f"{value_ms:.0f} ms" if value_ms >= 10 else f"{value_ms:.2f} ms"


def ago(seconds: float) -> str:
    """Return an age: ``just now``, ``12 s ago``."""
    return "just now" if seconds < 1 else f"{duration(seconds)} ago"


def clock(moment: datetime | None) -> str:
    """Return date and time without a zone, to the second."""
    return MISSING if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def utc(moment: datetime | None) -> str:
    """Return a time that is known to be UTC, and says so. A naive one is taken as UTC (the bot writes such)."""
    if moment is None:
        return MISSING
    return f"{clock(moment.astimezone(UTC) if moment.tzinfo else moment)} UTC"


def machine_time(moment: datetime, *, in_utc: bool) -> str:
    """Return the ``datetime`` attribute of a <time>: with Z if the zone is known, floating if nobody wrote it down."""
    if moment.tzinfo:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
        in_utc = True
    return moment.isoformat(timespec="seconds") + ("Z" if in_utc else "")


def machine_instant(moment: datetime) -> str:
    """Return a time whose zone is known for programs: in UTC, with Z, to the microsecond where there are any."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"


def recorded(moment: datetime, *, in_utc: bool) -> str:
    """Return a row's time for programs: with Z where its zone is known, as it was written where it is not."""
    if moment.tzinfo is not None:
        return machine_instant(moment)
    return machine_instant(moment.replace(tzinfo=UTC)) if in_utc else moment.isoformat()


def quote_currency(symbol: str | None) -> str | None:
    """Return the currency that prices of a symbol are in, or None where its name does not say."""
    if not symbol:
        return None
    for separator in ("/", "-", "_"):
        if separator in symbol:
            return symbol.split(separator)[-1].split(":")[0] or None
    return next((quote for quote in QUOTES if symbol.endswith(quote) and symbol != quote), None)
