"""A database with millions of trades, made inside the server: what `dashboard_pages.py` looks at.

Three years, 60 combinations of symbol, strategy and source in 401 sessions of very different size, prices that grow
tenfold on the way, one symbol that was traded five times; the last session is a bot's that runs, with decisions for its
trades, a position for each, an account record every five seconds of two months, and events. The rows are written at the
schema before 0004, so that its backfill and its indexes are measured too.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from unittest.mock import patch

from tradedb import migrate, roles
from tradedb.testing import ROLE_PASSWORDS, PostgresServer, ThrowawayDatabase

BYTES_A_TRADE = 1_300  # the table, its indexes, and as much again while they are built
BOT_SESSION = 401
FILL_CHUNK = 1_000_000

_SESSIONS = """
INSERT INTO trading_sessions (id, session_name, start_time, is_active, mode, initial_balance, strategy_name, symbol,
    timeframe, exchange)
SELECT s, 'session-' || s, timestamp '2023-01-01' + s * interval '2 days', s = {bot},
    (ARRAY['BACKTEST', 'PAPER', 'LIVE'])[1 + s % 3], 10000, 'Strategy' || (1 + s % 5), 'SYM' || (1 + s % 12) || 'USDT',
    '1h', CASE WHEN s = {bot} THEN 'SIMULATED' ELSE 'binance' END
FROM generate_series(1, {bot}) s
"""

# the session of a trade: a few are large, most are small; a twentieth of all are the bot's, at the end of time
_TRADES = """
INSERT INTO trades (symbol, side, source, entry_price, exit_price, size, quantity, entry_time, exit_time, pnl,
    pnl_percent, commission, strategy_name, order_id, exchange, session_id, exit_reason)
SELECT CASE WHEN n % {rare} = 7 THEN 'RAREUSDT' ELSE 'SYM' || (1 + s % 12) || 'USDT' END, 'LONG',
    (ARRAY['BACKTEST', 'PAPER', 'LIVE'])[1 + s % 3], price, price * (1 + r), 0.1, round((1000 / price)::numeric, 8),
    t - e * interval '1 second', t, round((1000 * r * price / 100)::numeric, 8), r * 100,
    round((price / 1000)::numeric, 8), 'Strategy' || (1 + s % 5), CASE WHEN s = {bot} THEN 'exit-' || n END,
    CASE WHEN s = {bot} THEN 'SIMULATED' ELSE 'binance' END, s, 'cross'
FROM (
    SELECT n, CASE WHEN n > {total} - {bots} THEN {bot} ELSE 1 + floor(400 * power(random(), 3))::int END AS s,
        timestamp '2023-01-01' + n::float8 / {total} * interval '1095 days' AS t,
        (100 * power(10, n::float8 / {total}))::numeric(20, 8) AS price,
        ((random() + random() + random() - 1.48) / 20)::numeric(12, 8) AS r, -ln(1 - random()) * 3600 AS e
    FROM generate_series({first}::bigint, {last}::bigint) n
) x
"""
_REST = (
    "INSERT INTO positions (symbol, side, status, entry_price, size, entry_time, strategy_name, session_id, exchange)"
    " SELECT 'SYM1USDT', 'LONG', CASE WHEN n % 200000 = 0 THEN 'OPEN' ELSE 'CLOSED' END, 100, 0.1,"
    " timestamp '2023-01-01' + n::float8 / {positions} * interval '1095 days', 'Strategy1', {bot}, 'SIMULATED'"
    " FROM generate_series(1, {positions}) n",
    "INSERT INTO account_history (timestamp, balance, equity, drawdown, session_id)"
    " SELECT localtimestamp - ({records} - n) * interval '5 seconds', 10000 + n / 100.0,"
    " 10000 + n / 100.0 + 50 * sin(n / 1000.0), 5 + 5 * sin(n / 3000.0), {bot} FROM generate_series(1, {records}) n",
    "INSERT INTO account_history (timestamp, balance, equity, session_id) SELECT timestamp '2023-02-01'"
    " + n * interval '1 minute', 10000, 10000 + 500 * sin(n / 5000.0), 1 FROM generate_series(1, {records} / 4) n",
    "INSERT INTO system_events (timestamp, event_type, severity, message, component)"
    " SELECT timestamp '2023-01-01' + n * interval '5 minutes', 'HEARTBEAT', (ARRAY['info', 'warning'])[1 + n % 2],"
    " 'number ' || n, 'trading-bot' FROM generate_series(1, {events}) n",
    "INSERT INTO order_intents (intent_id, session_id, lease_epoch, strategy_name, venue, symbol, side, leg, quantity,"
    " reference_price, signal_time, status, created_at, updated_at) SELECT order_id, session_id, 1, strategy_name,"
    " 'SIMULATED', symbol, 'SELL', 'EXIT', 1, 100, exit_time, 'FILLED', exit_time, exit_time FROM trades"
    " WHERE session_id = {bot}",
    "INSERT INTO bot_lease (name, holder, epoch, acquired_at, renewed_at, expires_at)"
    " VALUES ('trading-bot', 'bench/1', 1, now(), now(), now() + interval '1 day')",
)


def require_disk(trades: int, folder: str) -> None:
    """End with a sentence where the disk has not the room."""
    free = shutil.disk_usage(folder).free
    if free < trades * BYTES_A_TRADE + 5 * 10**9:
        raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free; {trades:,} trades need "
                         f"{(trades * BYTES_A_TRADE + 5e9) / 1e9:.0f} GB while they are made")  # fmt: skip


def make(server: PostgresServer, trades: int, say: Callable[[str], None]) -> tuple[ThrowawayDatabase, dict[str, float]]:
    """Return a database with so many trades and how long its making took, in seconds by step.

    Args:
        server: to make it in.
        trades: how many.
        say: is told of each step.
    """
    database = ThrowawayDatabase(server, server.create_database())
    roles.ensure_roles(database.url(), ROLE_PASSWORDS)
    with patch.object(migrate, "_revisions", lambda: ["0001", "0002", "0003"]):
        migrate.upgrade(database.url("migrator"))
    took: dict[str, float] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        say(name)
        started = time.monotonic()
        work()
        took[name] = round(time.monotonic() - started, 1)

    timed("rows", lambda: _rows(database, trades))
    timed("migration 0004: sums, indexes", lambda: migrate.upgrade(database.url("migrator")))
    timed("vacuum analyze", lambda: database.execute("VACUUM ANALYZE"))
    return database, took


def _rows(database: ThrowawayDatabase, trades: int) -> None:
    numbers = {
        "bot": BOT_SESSION, "total": trades, "bots": trades // 20, "rare": max(10, trades // 5),
        "positions": max(1000, trades // 10), "records": max(1000, trades // 10), "events": max(1000, trades // 50),
    }  # fmt: skip
    # only a bulk load's: the migration that follows drops four of these, and makes better ones
    kept = database.execute(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'trades' AND indexname LIKE '%\\_trade%' AND indexname"
        " NOT LIKE 'uq%'"
    )
    for (definition,) in kept:
        database.execute(f"DROP INDEX {definition.split()[2]}")
    database.execute(_SESSIONS.format(**numbers))
    for first in range(1, trades + 1, FILL_CHUNK):
        chunk = _TRADES.format(**numbers, first=first, last=min(trades, first + FILL_CHUNK - 1))
        database.execute(f"SET jit = off; SELECT setseed(0.4); {chunk}")
    for statement in _REST:
        database.execute(statement.format(**numbers))
    for (definition,) in kept:
        database.execute(definition)
