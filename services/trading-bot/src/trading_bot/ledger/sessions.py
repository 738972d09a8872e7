"""Sessions: a session is an account, not a run of the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Select, insert, or_, select, update
from tradedb.models import TradingSession

from trading_bot.books import Account, opening
from trading_bot.feeds import SIMULATED
from trading_bot.lease import Lease
from trading_bot.ledger.entries import insert_lines
from trading_bot.orders import quote_currency
from trading_bot.sql import wall_clock

SESSION_PREFIX = "switchyard-"
PAPER_PREFIX = "PAPER-"  # of the venue of paper fills on prices that were those of a market


@dataclass(frozen=True, slots=True)
class SessionTerms:
    """What an account is: enough to find it, or to make it again in a database that lost it.

    ``name`` and ``start_time`` (UTC wall clock) are of the row; None means that one has not been made.
    """

    strategy_name: str
    strategy_config: dict[str, Any]
    symbol: str
    timeframe: str
    venue: str
    initial_balance: Decimal
    name: str | None = None
    start_time: datetime | None = None

    def as_body(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        body = asdict(self)
        body["initial_balance"] = str(self.initial_balance)
        body["start_time"] = self.start_time.isoformat() if self.start_time else None
        return body

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> SessionTerms:
        """Return the terms that ``as_body`` wrote."""
        values = {field.name: body[field.name] for field in fields(cls)}
        values["initial_balance"] = Decimal(values["initial_balance"])
        values["start_time"] = datetime.fromisoformat(values["start_time"]) if values["start_time"] else None
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Session:
    """A row of ``trading_sessions``: its number, what it is, and whether it was made just now.

    ``changed`` says what it is traded with from now on and was not before, in words; None when that is as it was.
    """

    id: int
    terms: SessionTerms
    new: bool = False
    changed: str | None = None


def open_session(conn: Connection, lease: Lease, wanted: SessionTerms) -> Session:
    """Return the account that this bot trades on; make it when there is none.

    The active one of the same strategy, symbol and venue is taken up again, with the balance it has. Nothing ends it
    when the bot stops, because nothing ended. Sessions that came from elsewhere (copied history has active ones) have
    another venue or name and are never taken. Its row says what it is traded with now: parameters and timeframe may
    change from one start to the next. Terms with a name find, or make, the session of that name, ended or not.

    Raises: LeadershipLost; nothing is written.
    """
    epoch = lease.require(conn, alone=True)  # a session whose COMMIT is still under way must not get a twin
    query = _terms_query()
    if wanted.name is None:
        query = query.where(
            *_ours(wanted.venue),
            TradingSession.is_active.is_(True),
            TradingSession.strategy_name == wanted.strategy_name,
            TradingSession.symbol == wanted.symbol,
        )
    else:
        query = query.where(*_ours(wanted.venue), TradingSession.session_name == wanted.name)
    found = conn.execute(query.order_by(TradingSession.id.desc()).limit(1)).one_or_none()
    if found is not None:
        terms = _terms(found, wanted.strategy_name, wanted.symbol, wanted.venue)
        if wanted.name is not None:
            return Session(found.id, terms)
        now_with = replace(terms, strategy_config=wanted.strategy_config, timeframe=wanted.timeframe)
        return Session(found.id, now_with, changed=_change(conn, found.id, terms, now_with))
    now = wall_clock()
    name = wanted.name or f"{SESSION_PREFIX}{wanted.strategy_name}-{wanted.symbol}-{now:%Y%m%dT%H%M%S}"
    terms = SessionTerms(**{**_values(wanted), "name": name, "start_time": wanted.start_time or now})
    made = conn.execute(
        insert(TradingSession)
        .values(
            session_name=name,
            start_time=terms.start_time,
            is_active=True,
            mode="PAPER",
            initial_balance=terms.initial_balance,
            strategy_name=terms.strategy_name,
            strategy_config=terms.strategy_config,
            symbol=terms.symbol,
            timeframe=terms.timeframe,
            exchange=terms.venue,
            total_pnl=Decimal(0),
            total_trades=0,
            created_at=now,
            updated_at=now,
        )
        .returning(TradingSession.id)
    ).scalar_one()
    lines = opening(terms.initial_balance, quote_currency(terms.symbol))
    insert_lines(conn, lines, session_id=made, venue=terms.venue, venue_trade_id=None, epoch=epoch)
    return Session(made, terms, new=True)


def _change(conn: Connection, session_id: int, before: SessionTerms, after: SessionTerms) -> str | None:
    """Write what an account is traded with from now on; return the difference in words, None when there is none."""
    names = ("strategy_config", "timeframe")
    differing = [name for name in names if getattr(before, name) != getattr(after, name)]
    if not differing:
        return None
    values = {name: getattr(after, name) for name in differing}
    conn.execute(
        update(TradingSession).where(TradingSession.id == session_id).values(**values, updated_at=wall_clock())
    )
    return ", ".join(f"{name} {getattr(before, name)} -> {getattr(after, name)}" for name in differing)


def other_active_sessions(conn: Connection, session_id: int) -> list[Session]:
    """Return our other active sessions: accounts of a strategy, symbol or venue that was configured before."""
    rows = conn.execute(
        _terms_query(TradingSession.strategy_name, TradingSession.symbol, TradingSession.exchange)
        .where(*_ours(), TradingSession.is_active.is_(True), TradingSession.id != session_id)
        .order_by(TradingSession.id)
    )
    return [Session(row.id, _terms(row, row.strategy_name, row.symbol, row.exchange)) for row in rows]


def end_session(conn: Connection, lease: Lease, account: Account) -> bool:
    """End an account that is no longer traded; False, and nothing changed, when it still holds a position."""
    lease.require(conn)
    if account.position is not None:
        return False
    now = wall_clock()
    conn.execute(
        update(TradingSession)
        .where(TradingSession.id == account.session_id)
        .values(is_active=False, end_time=now, final_balance=account.balance, updated_at=now)
    )
    return True


def _terms_query(*more: Any) -> Select[*tuple[Any, ...]]:
    """What ``_terms`` reads."""
    row = TradingSession
    return select(
        row.id, row.session_name, row.start_time, row.initial_balance, row.strategy_config, row.timeframe, *more
    )


def _terms(row: Any, strategy_name: str, symbol: str, venue: str) -> SessionTerms:
    return SessionTerms(
        strategy_name=strategy_name,
        strategy_config=row.strategy_config or {},
        symbol=symbol,
        timeframe=row.timeframe,
        venue=venue,
        initial_balance=row.initial_balance,
        name=row.session_name,
        start_time=row.start_time,
    )


def _ours(venue: str | None = None) -> tuple[Any, ...]:
    """Conditions that a session which this program made fulfils; of one venue, or of any."""
    exchange = (
        TradingSession.exchange == venue
        if venue is not None
        else or_(TradingSession.exchange == SIMULATED, TradingSession.exchange.startswith(PAPER_PREFIX))
    )
    return (
        TradingSession.mode == "PAPER",
        exchange,
        TradingSession.session_name.startswith(SESSION_PREFIX, autoescape=True),
    )


def _values(terms: SessionTerms) -> dict[str, Any]:
    return {field.name: getattr(terms, field.name) for field in fields(terms)}
