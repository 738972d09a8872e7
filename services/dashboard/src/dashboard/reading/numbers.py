"""Numbers that can be summed and drawn: the copied history also holds infinite ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, SQLColumnExpression, and_, literal_column


def finite(conn: Connection, column: SQLColumnExpression[Any]) -> ColumnElement[bool]:
    """Return the test for a finite number. Postgres sorts NaN above Infinity; SQLite stores NaN as NULL."""
    infinity = "'Infinity'::numeric" if conn.dialect.name == "postgresql" else "9e999"
    return and_(column < literal_column(infinity), column > literal_column(f"-({infinity})"))


def decimal(value: Decimal | float | None) -> Decimal:
    """Return a finite number, exactly; zero for none, for an infinite one and for what is not a number."""
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value or 0)))
    return number if number.is_finite() else Decimal(0)
