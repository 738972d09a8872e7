"""SQLite files to copy, and the copying of them, for the tests of the transfer."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from switchyard.output import Progress
from switchyard.transfer import CopyReport, copy
from tradedb.testing import ThrowawayDatabase

CHECKOUT = Path(__file__).resolve().parents[4]
REAL_FOLDER = CHECKOUT.parent / "shared" / "data" / "real"
REAL_FILES = [path for path in (REAL_FOLDER / "bot.db", REAL_FOLDER / "dashboard.db") if path.is_file()]

# The tables of the original file, as its own DDL declares them: name -> rows in the twin, columns.
LEGACY = {
    "trading_sessions": (
        79,
        """id INTEGER NOT NULL, session_name VARCHAR(100), start_time DATETIME NOT NULL, end_time DATETIME,
        is_active BOOLEAN, mode VARCHAR(8) NOT NULL, initial_balance FLOAT NOT NULL, final_balance
        FLOAT, strategy_name VARCHAR(100) NOT NULL, strategy_config JSON, symbol VARCHAR(20) NOT
        NULL, timeframe VARCHAR(10) NOT NULL, exchange VARCHAR(50), total_pnl FLOAT, total_trades
        INTEGER, win_rate FLOAT, max_drawdown FLOAT, created_at DATETIME, updated_at DATETIME,
        PRIMARY KEY (id)""",
    ),
    "trades": (
        2096,
        """id INTEGER NOT NULL, symbol VARCHAR(20) NOT NULL, side VARCHAR(5) NOT NULL, source VARCHAR(8) NOT
        NULL, entry_price FLOAT NOT NULL, exit_price FLOAT NOT NULL, size FLOAT NOT NULL, quantity
        FLOAT, entry_time DATETIME NOT NULL, exit_time DATETIME NOT NULL, pnl FLOAT NOT NULL,
        pnl_percent FLOAT NOT NULL, commission FLOAT, stop_loss FLOAT, take_profit FLOAT,
        exit_reason VARCHAR(100), strategy_name VARCHAR(100) NOT NULL, strategy_config JSON,
        confidence_score FLOAT, order_id VARCHAR(100), exchange VARCHAR(50), timeframe VARCHAR(10),
        position_id INTEGER REFERENCES positions (id), session_id INTEGER REFERENCES
        trading_sessions (id), created_at DATETIME, updated_at DATETIME, PRIMARY KEY (id), UNIQUE
        (order_id)""",
    ),
    "positions": (
        98,
        """id INTEGER NOT NULL, symbol VARCHAR(20) NOT NULL, side VARCHAR(5) NOT NULL, status VARCHAR(9) NOT
        NULL, entry_price FLOAT NOT NULL, size FLOAT NOT NULL, quantity FLOAT, stop_loss FLOAT,
        take_profit FLOAT, trailing_stop BOOLEAN, entry_time DATETIME NOT NULL, last_update
        DATETIME, current_price FLOAT, unrealized_pnl FLOAT, unrealized_pnl_percent FLOAT,
        strategy_name VARCHAR(100) NOT NULL, confidence_score FLOAT, order_id VARCHAR(100), exchange
        VARCHAR(50), session_id INTEGER REFERENCES trading_sessions (id), created_at DATETIME,
        updated_at DATETIME, PRIMARY KEY (id), UNIQUE (order_id)""",
    ),
    "account_history": (
        59,
        """id INTEGER NOT NULL, timestamp DATETIME NOT NULL, balance FLOAT NOT NULL, equity FLOAT NOT NULL,
        margin_used FLOAT, margin_available FLOAT, total_pnl FLOAT, daily_pnl FLOAT, drawdown FLOAT,
        open_positions INTEGER, total_exposure FLOAT, session_id INTEGER REFERENCES trading_sessions
        (id), created_at DATETIME, PRIMARY KEY (id)""",
    ),
    "performance_metrics": (
        49,
        """id INTEGER NOT NULL, period VARCHAR(20) NOT NULL, period_start DATETIME NOT NULL, period_end
        DATETIME NOT NULL, total_trades INTEGER, win_rate FLOAT, total_return FLOAT,
        max_drawdown_duration INTEGER, sharpe_ratio FLOAT, profit_factor FLOAT, strategy_breakdown
        JSON, session_id INTEGER REFERENCES trading_sessions (id), created_at DATETIME, updated_at
        DATETIME, PRIMARY KEY (id), UNIQUE (period, period_start, session_id)""",
    ),
    "system_events": (
        557,
        """id INTEGER NOT NULL, timestamp DATETIME NOT NULL, event_type VARCHAR(15) NOT NULL, severity
        VARCHAR(20), message TEXT NOT NULL, details JSON, component VARCHAR(100), error_code
        VARCHAR(50), stack_trace TEXT, alert_sent BOOLEAN, alert_method VARCHAR(50), session_id
        INTEGER REFERENCES trading_sessions (id), created_at DATETIME, PRIMARY KEY (id)""",
    ),
    "strategy_executions": (
        0,
        """id INTEGER NOT NULL, timestamp DATETIME NOT NULL, strategy_name VARCHAR(100) NOT NULL, symbol
        VARCHAR(20) NOT NULL, indicators JSON, price FLOAT, session_id INTEGER REFERENCES
        trading_sessions (id), trade_id INTEGER REFERENCES trades (id), created_at DATETIME, PRIMARY
        KEY (id)""",
    ),
}
TEXTS = (
    "",
    " padded ",
    'a "quoted" word',
    "tab\there",
    r"back\slash \N",
    r"\.",
    "two\nlines\r\n",
    "'apostrophe'",
    "größer 日本 🚀",
)
JSONS = ("null", "{}", '{"test_param": 123}', '{"b": 1,  "a": [1, 2.50, null], "b": 2}', r'"\u00e9\n"', "[]", " 1e3 ")
DOUBLES = (
    0.1 + 0.2,
    1 / 3,
    -1 / 7,
    1e-9,
    5e-324,
    1.7976931348623157e308,
    0.0,
    100.0,
    118034.56789012,
    2.0**63,
    100200.632905825,
)


def sqlite_file(path: Path, *statements: str, rows: dict[str, list[tuple[Any, ...]]] | None = None) -> Path:
    """Return a new SQLite file made by these statements, with rows for tables."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    for table, values in (rows or {}).items():
        db.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(values[0]))})', values)
    db.commit()
    db.close()
    return path


def make_twin(path: Path, *, seed: int = 7) -> Path:
    """Return a file with the original's tables and number of rows, and the values that broke other importers."""
    random = Random(seed)
    db = sqlite3.connect(path)
    for table, (_, columns) in LEGACY.items():
        db.execute(f"CREATE TABLE {table} ({columns})")
    for table, (count, _) in LEGACY.items():
        info = db.execute(f"PRAGMA table_info({table})").fetchall()
        keys = {row[3]: row[2] for row in db.execute(f"PRAGMA foreign_key_list({table})")}
        for number in range(1, count + 1):
            row = [_value(random, column, number, keys) for column in info]
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
    db.execute("UPDATE performance_metrics SET profit_factor = 9e999 WHERE id % 11 = 0")  # infinity
    db.commit()
    db.close()
    return path


def _value(random: Random, column: tuple[Any, ...], number: int, keys: dict[str, str]) -> Any:
    _, name, declared, required, *_ = column
    if name == "id":
        return number
    if not required and random.random() < 0.25:
        return None
    if name in keys:
        return random.randint(1, LEGACY[keys[name]][0])
    if name == "order_id":
        return f"paper_{number}"
    if name in ("side", "status", "source", "mode", "event_type", "severity"):
        return {"side": "LONG", "status": "FILLED", "source": "BACKTEST", "mode": "PAPER"}.get(name, "error")
    if name == "period_start":
        return f"2025-{1 + number // 28:02d}-{1 + number % 28:02d} 00:00:00.000000"
    if declared == "DATETIME":
        fraction = random.choice(("", ".000000", f".{random.randint(0, 999999):06d}", ".5"))
        return (
            f"2025-07-{random.randint(1, 31):02d} {random.randint(0, 23):02d}:{random.randint(0, 59):02d}:07{fraction}"
        )
    if declared == "BOOLEAN":
        return random.randint(0, 1)
    if declared == "JSON":
        return random.choice(JSONS)
    if declared == "FLOAT":
        return random.choice((*DOUBLES, random.uniform(-5e4, 5e4)))
    if declared == "INTEGER":
        return random.choice((0, -1, 2**63 - 1, -(2**63), random.randint(0, 442)))
    if declared == "TEXT" or declared in ("VARCHAR(100)", "VARCHAR(50)"):
        return random.choice(TEXTS)
    return "BTCUSDT"[: int(declared[8:-1])]


def url_of(database: ThrowawayDatabase, role: str = "postgres") -> str:
    """A URL that libpq takes too."""
    return database.url(role).set(drivername="postgresql").render_as_string(hide_password=False)


def run_copy(
    source: Path, database: ThrowawayDatabase, *, label: str = "bot", role: str = "postgres", dry_run: bool = False
) -> CopyReport:
    """Copy without questions and without progress."""
    report = Progress(quiet=True)
    return copy(
        {label: source}, url_of(database, role), report=report, confirm=lambda _plan, _target: True, dry_run=dry_run
    )


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that belongs to the developer's own stack."""
    ours = ("DATABASE_", "PG", "RAILWAY_", "SWITCHYARD_", "AWS_", "COVERAGE_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "NO_COLOR": "1", **more}
