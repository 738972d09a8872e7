"""What is stored is what comes back, on both databases, for any value."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.exc import StatementError
from tradedb.testing import PostgresServer
from tradedb.types import ExactNumeric, LegacyNumeric, Ratio, UtcDateTime

metadata = MetaData()
values = Table(
    "type_values",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("legacy", LegacyNumeric()),
    Column("exact", ExactNumeric()),
    Column("at", UtcDateTime()),
    Column("ratio", Ratio()),
)
money = st.decimals(
    allow_nan=False, allow_infinity=False, places=None, min_value=Decimal("-1e18"), max_value=Decimal("1e18")
)
doubles = st.floats(allow_nan=False, allow_infinity=False)
times = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.timezones(),
)  # fmt: skip
unhurried = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=["postgresql", "sqlite"])
def engine(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Engine]:
    engine = create_engine(postgres.url() if request.param == "postgresql" else "sqlite://")
    metadata.create_all(engine)
    yield engine
    metadata.drop_all(engine)
    engine.dispose()


def back(connection: Connection, **stored: object) -> object:
    """Store one value and return what is read, then forget it."""
    connection.execute(insert(values).values(id=1, **stored))
    row = connection.execute(select(*(values.c[name] for name in stored))).one()
    connection.rollback()
    return row[0]


@unhurried
@given(value=money)
def test_new_money_is_exact_to_the_last_digit(engine: Engine, value: Decimal) -> None:
    with engine.connect() as connection:
        found = back(connection, exact=value)
    assert isinstance(found, Decimal)
    assert found == value


@unhurried
@given(value=doubles)
def test_every_double_of_the_original_file_keeps_its_value(engine: Engine, value: float) -> None:
    """A copied REAL, written by its shortest decimal, gives the same double back: failure mode F6."""
    with engine.connect() as connection:
        found = back(connection, legacy=Decimal(repr(value)))
    assert isinstance(found, Decimal)
    assert float(found) == value


@unhurried
@given(value=times)
def test_new_times_are_the_same_moment_in_utc(engine: Engine, value: datetime) -> None:
    with engine.connect() as connection:
        found = back(connection, at=value)
    assert isinstance(found, datetime)
    assert found == value.astimezone(UTC)
    assert found.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 0.1, -0.0, 1e-308, 5e-324])
def test_statistics_may_be_infinite(engine: Engine, value: float) -> None:
    with engine.connect() as connection:
        assert back(connection, ratio=value) == value


@pytest.mark.parametrize("name", ["legacy", "exact", "at", "ratio"])
def test_null_stays_null(engine: Engine, name: str) -> None:
    with engine.connect() as connection:
        assert back(connection, **{name: None}) is None


def test_a_time_without_a_zone_is_refused(engine: Engine) -> None:
    with (
        engine.connect() as connection,
        pytest.raises(StatementError, match="has no time zone; new times are aware UTC"),
    ):
        back(connection, at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_servers_time_zone_does_not_matter(postgres: PostgresServer) -> None:
    engine = create_engine(postgres.url())
    metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET TimeZone = 'America/New_York'")
        value = datetime(2026, 7, 1, 12, tzinfo=UTC)
        assert back(connection, at=value) == value
    metadata.drop_all(engine)
    engine.dispose()
