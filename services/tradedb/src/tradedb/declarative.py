"""What every table class is made from."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import DeclarativeBase

# SQLite numbers rows by itself only for a column whose type is exactly INTEGER
LegacyKey = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Every table of the shared database."""
