"""Sums of trades and of equity that the database keeps itself, and the indexes that pages of millions of rows need.

A page must not count ten million trades. Triggers keep `trade_groups` (sums of all trades that share session, symbol,
strategy, source and exchange), `trade_days` (the same by day), `trade_histogram` (how many fell into which range) and
`equity_hours` (a session's equity by hour). On Postgres they run once for each statement, so that a COPY of a whole
history stays one; on SQLite, which knows only row triggers, once for each row.

Infinite numbers and NaN would spoil a sum for ever: such trades are counted, and left out of the sums.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MONEY = sa.Numeric().with_variant(sa.Float(), "sqlite")
RATIO = sa.Double().with_variant(sa.Float(), "sqlite")
TIME = sa.DateTime()

_STEPS = (1, 2, 5)
_RESULTS = [step * 10.0**power for power in range(-2, 6) for step in _STEPS] + [1e6]
_RETURNS = [step * 10.0**power for power in range(-3, 2) for step in _STEPS] + [100.0]
_DURATIONS = [0, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400, 259200, 604800, 2592000]


def _both_sides(positive: list[float]) -> str:
    """Return the edges below zero, zero, and above it, as SQL writes them."""
    return ", ".join(f"{edge:g}" for edge in [*(-edge for edge in reversed(positive)), 0, *positive])


EDGES = {
    "result": _both_sides(_RESULTS),
    "return": _both_sides(_RETURNS),
    "duration": ", ".join(map(str, _DURATIONS)),
}
GROUP = ("session_id", "symbol", "strategy_name", "source", "exchange")


def upgrade() -> None:
    _indexes()
    _tables()
    for statement in _postgres() if op.get_bind().dialect.name == "postgresql" else _sqlite():
        op.get_bind().exec_driver_sql(statement)


def _indexes() -> None:
    # each is the beginning of another one, or answers nothing that is asked; taken-over tables may lack it
    op.drop_index("ix_trades_symbol", "trades", if_exists=True)
    op.drop_index("ix_trades_strategy_name", "trades", if_exists=True)
    op.drop_index("ix_trades_entry_time", "trades", if_exists=True)
    op.drop_index("ix_trades_exit_time", "trades", if_exists=True)
    op.drop_index("idx_trade_performance", "trades", if_exists=True)
    op.drop_index("idx_account_time", "account_history", if_exists=True)
    op.create_index("ix_trades_exit", "trades", ["exit_time", "id"], if_not_exists=True)
    op.create_index("ix_trades_session_exit", "trades", ["session_id", "exit_time", "id"], if_not_exists=True)
    # what lists are filtered and sorted by stands in each, so that rows are passed over without being fetched
    for name, column, more in (
        ("exit", "exit_time", ["session_id", "pnl", "pnl_percent"]),
        ("pnl", "pnl", ["exit_time", "session_id"]),
        ("return", "pnl_percent", ["exit_time", "session_id"]),
    ):
        columns = ["symbol", "strategy_name", "source", column, "id"]
        op.create_index(f"ix_trades_group_{name}", "trades", columns, postgresql_include=more, if_not_exists=True)
    op.create_index("ix_positions_status", "positions", ["status", "entry_time", "id"], if_not_exists=True)
    op.create_index("ix_account_history_session", "account_history", ["session_id", "timestamp", "id"], if_not_exists=True)


def _tables() -> None:
    op.create_table(
        "trade_groups",
        sa.Column("group_id", KEY, sa.Identity(), nullable=False),
        sa.Column("session_id", KEY, nullable=True),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("exchange", sa.String(50), nullable=True),
        sa.Column("trades", COUNT, nullable=False),
        sa.Column("summed", COUNT, nullable=False),
        sa.Column("wins", COUNT, nullable=False),
        sa.Column("losses", COUNT, nullable=False),
        sa.Column("pnl", MONEY, nullable=False),
        sa.Column("fees", MONEY, nullable=False),
        sa.Column("won", MONEY, nullable=False),
        sa.Column("lost", MONEY, nullable=False),
        sa.Column("best", MONEY, nullable=True),
        sa.Column("worst", MONEY, nullable=True),
        sa.Column("timed", COUNT, nullable=False),
        sa.Column("duration_s", MONEY, nullable=False),
        sa.PrimaryKeyConstraint("group_id"),
        sa.UniqueConstraint(*GROUP, name="uq_trade_groups_group", postgresql_nulls_not_distinct=True),
    )
    op.create_table(
        "trade_days",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("trades", COUNT, nullable=False),
        sa.Column("summed", COUNT, nullable=False),
        sa.Column("wins", COUNT, nullable=False),
        sa.Column("pnl", MONEY, nullable=False),
        sa.Column("fees", MONEY, nullable=False),
        sa.Column("best", MONEY, nullable=True),
        sa.Column("worst", MONEY, nullable=True),
        sa.Column("pnl_low", MONEY, nullable=False),
        sa.Column("pnl_high", MONEY, nullable=False),
        sa.Column("return_low", RATIO, nullable=False),
        sa.Column("return_high", RATIO, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["trade_groups.group_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "day"),
    )
    op.create_table(
        "trade_cell_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("trades", COUNT, nullable=False),
        sa.Column("summed", COUNT, nullable=False),
        sa.Column("wins", COUNT, nullable=False),
        sa.Column("simulated", COUNT, nullable=False),
        sa.Column("pnl", MONEY, nullable=False),
        sa.Column("fees", MONEY, nullable=False),
        sa.Column("pnl_low", MONEY, nullable=False),
        sa.Column("pnl_high", MONEY, nullable=False),
        sa.Column("return_low", RATIO, nullable=False),
        sa.Column("return_high", RATIO, nullable=False),
        sa.PrimaryKeyConstraint("day", "symbol", "strategy_name", "source"),
    )
    op.create_table(
        "strategy_weeks",
        sa.Column("strategy_name", sa.String(100), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("trades", COUNT, nullable=False),
        sa.Column("result", MONEY, nullable=False),
        sa.PrimaryKeyConstraint("strategy_name", "source", "week"),
    )
    op.create_table(
        "trade_histogram",
        sa.Column("group_id", KEY, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("bucket", sa.Integer(), nullable=False),
        sa.Column("trades", COUNT, nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["trade_groups.group_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("group_id", "kind", "bucket"),
    )
    op.create_table(
        "equity_hours",
        sa.Column("session_id", KEY, autoincrement=False, nullable=False),
        sa.Column("hour", TIME, nullable=False),
        sa.Column("records", COUNT, nullable=False),
        sa.Column("finite", COUNT, nullable=False),
        sa.Column("last_time", TIME, nullable=False),
        sa.Column("last_equity", MONEY, nullable=True),
        sa.Column("low", MONEY, nullable=True),
        sa.Column("high", MONEY, nullable=True),
        sa.Column("deepest", RATIO, nullable=True),
        sa.PrimaryKeyConstraint("session_id", "hour"),
    )


# ---------------------------------------------------------------- Postgres

_INFINITE = "'Infinity'"
_GROUP = ", ".join(GROUP)


def _finite(column: str, infinity: str) -> str:
    """Return the test for a number that can be summed. Postgres sorts NaN above Infinity, SQLite has no NaN."""
    return f"({column} < {infinity} AND {column} > -{infinity})".replace("-'", "'-")


def _net(infinity: str, row: str = "") -> str:
    """Return a trade's result after fees, NULL where it is infinite or not a number."""
    fee = f"coalesce({row}commission, 0)"
    return f"CASE WHEN {_finite(f'{row}pnl', infinity)} AND {_finite(fee, infinity)} THEN {row}pnl - {fee} END"


def _count_in(rows: str, sign: str) -> str:
    """Return the statement that adds rows of `trades` to the sums, or takes them out of them.

    Args:
        rows: a table: trades itself, or the rows that a statement has touched.
        sign: "+" or "-". The extremes of what is left are found by `_settle`.
    """
    extremes = (
        """,
            best = greatest(g.best, excluded.best), worst = least(g.worst, excluded.worst)"""
        if sign == "+"
        else ""
    )
    day_extremes = (
        """,
            best = greatest(d.best, excluded.best), worst = least(d.worst, excluded.worst),
            pnl_low = least(d.pnl_low, excluded.pnl_low), pnl_high = greatest(d.pnl_high, excluded.pnl_high),
            return_low = least(d.return_low, excluded.return_low),
            return_high = greatest(d.return_high, excluded.return_high)"""
        if sign == "+"
        else ""
    )
    cell_extremes = (
        """,
            pnl_low = least(c.pnl_low, excluded.pnl_low), pnl_high = greatest(c.pnl_high, excluded.pnl_high),
            return_low = least(c.return_low, excluded.return_low),
            return_high = greatest(c.return_high, excluded.return_high)"""
        if sign == "+"
        else ""
    )
    same = " AND ".join(
        f"s.{column} IS NOT DISTINCT FROM k.{column}"
        if column in ("session_id", "exchange")
        else f"s.{column} = k.{column}"
        for column in GROUP
    )

    def changed(alias: str, columns: str) -> str:
        return ", ".join(f"{column} = {alias}.{column} {sign} excluded.{column}" for column in columns.split())

    def edges(kind: str, type_name: str) -> str:
        return f"width_bucket(s.{kind}, ARRAY[{EDGES[kind]}]::{type_name}[])"

    return f"""
    WITH seen AS NOT MATERIALIZED (
        SELECT {_GROUP}, exit_time::date AS day, pnl, pnl_percent, commission,
            {_net(_INFINITE)} AS result,
            CASE WHEN {_finite("pnl_percent", _INFINITE)} THEN pnl_percent END AS return,
            CASE WHEN isfinite(entry_time) AND isfinite(exit_time)
                THEN extract(epoch FROM exit_time - entry_time) END AS duration
        FROM {rows} OFFSET 0
    ), by_day AS MATERIALIZED (
        SELECT {_GROUP}, day, count(*) AS trades, count(result) AS summed, count(*) FILTER (WHERE result > 0) AS wins,
            count(*) FILTER (WHERE result < 0) AS losses, sum(pnl) FILTER (WHERE result IS NOT NULL) AS pnl,
            sum(commission) FILTER (WHERE result IS NOT NULL) AS fees, sum(result) FILTER (WHERE result > 0) AS won,
            sum(result) FILTER (WHERE result < 0) AS lost, max(result) AS best, min(result) AS worst,
            count(duration) AS timed, sum(duration) AS duration_s, min(pnl) AS pnl_low, max(pnl) AS pnl_high,
            min(pnl_percent) AS return_low, max(pnl_percent) AS return_high
        FROM seen GROUP BY {_GROUP}, day
    ), k AS (
        INSERT INTO public.trade_groups AS g ({_GROUP}, trades, summed, wins, losses, pnl, fees, won, lost, best, worst,
            timed, duration_s)
        SELECT {_GROUP}, sum(trades), sum(summed), sum(wins), sum(losses), coalesce(sum(pnl), 0),
            coalesce(sum(fees), 0), coalesce(sum(won), 0), coalesce(sum(lost), 0), max(best), min(worst), sum(timed),
            coalesce(sum(duration_s), 0)
        FROM by_day GROUP BY {_GROUP} ORDER BY {_GROUP}
        ON CONFLICT ({_GROUP}) DO UPDATE SET
            {changed("g", "trades summed wins losses pnl fees won lost timed duration_s")}{extremes}
        RETURNING group_id, {_GROUP}
    ), d AS (
        INSERT INTO public.trade_days AS d (group_id, day, trades, summed, wins, pnl, fees, best, worst, pnl_low,
            pnl_high, return_low, return_high)
        SELECT k.group_id, s.day, s.trades, s.summed, s.wins, coalesce(s.pnl, 0), coalesce(s.fees, 0), s.best, s.worst,
            s.pnl_low, s.pnl_high, s.return_low, s.return_high
        FROM by_day s JOIN k ON {same} ORDER BY k.group_id, s.day
        ON CONFLICT (group_id, day) DO UPDATE SET {changed("d", "trades summed wins pnl fees")}{day_extremes}
    ), c AS (
        INSERT INTO public.trade_cell_days AS c (day, symbol, strategy_name, source, trades, summed, wins, simulated, pnl,
            fees, pnl_low, pnl_high, return_low, return_high)
        SELECT day, symbol, strategy_name, source, sum(trades), sum(summed), sum(wins),
            coalesce(sum(trades) FILTER (WHERE exchange = 'SIMULATED'), 0), coalesce(sum(pnl), 0),
            coalesce(sum(fees), 0), min(pnl_low), max(pnl_high), min(return_low), max(return_high)
        FROM by_day GROUP BY day, symbol, strategy_name, source ORDER BY 1, 2, 3, 4
        ON CONFLICT (day, symbol, strategy_name, source) DO UPDATE SET
            {changed("c", "trades summed wins simulated pnl fees")}{cell_extremes}
    ), w AS (
        INSERT INTO public.strategy_weeks AS w (strategy_name, source, week, trades, result)
        SELECT strategy_name, source,
            CASE WHEN isfinite(day) THEN day - (extract(isodow FROM day)::int - 1) ELSE day END AS week, sum(trades),
            coalesce(sum(won), 0) + coalesce(sum(lost), 0)
        FROM by_day GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (strategy_name, source, week) DO UPDATE SET {changed("w", "trades result")}
    ), by_bucket AS MATERIALIZED (
        SELECT {_GROUP}, {edges("result", "numeric")} AS result, {edges("return", "float8")} AS return,
            {edges("duration", "numeric")} AS duration, count(*) AS trades
        FROM seen s GROUP BY {_GROUP}, 6, 7, 8
    )
    INSERT INTO public.trade_histogram AS h (group_id, kind, bucket, trades)
    SELECT k.group_id, b.kind, b.bucket, sum(s.trades)
    FROM by_bucket s CROSS JOIN LATERAL (
        VALUES ('result', s.result), ('return', s.return), ('duration', s.duration)
    ) AS b (kind, bucket) JOIN k ON {same}
    WHERE b.bucket IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (group_id, kind, bucket) DO UPDATE SET trades = h.trades {sign} excluded.trades;
    """


# what is left of a day or a group after some of its rows went: the extremes, and no rows that count nothing
_SETTLE = f"""
    DELETE FROM public.trade_groups g USING (SELECT DISTINCT {_GROUP} FROM old_rows) o
    WHERE g.trades = 0 AND g.session_id IS NOT DISTINCT FROM o.session_id AND g.symbol = o.symbol
        AND g.strategy_name = o.strategy_name AND g.source = o.source AND g.exchange IS NOT DISTINCT FROM o.exchange;
    FOR touched IN
        SELECT DISTINCT g.group_id, {", ".join(f"g.{column}" for column in GROUP)}, o.exit_time::date AS day
        FROM old_rows o JOIN public.trade_groups g ON g.session_id IS NOT DISTINCT FROM o.session_id
            AND g.symbol = o.symbol AND g.strategy_name = o.strategy_name AND g.source = o.source
            AND g.exchange IS NOT DISTINCT FROM o.exchange
    LOOP
        DELETE FROM public.trade_days d WHERE d.group_id = touched.group_id AND d.day = touched.day AND d.trades = 0;
        UPDATE public.trade_days d SET best = t.best, worst = t.worst, pnl_low = t.pnl_low, pnl_high = t.pnl_high,
            return_low = t.return_low, return_high = t.return_high
        FROM (
            SELECT max({_net(_INFINITE)}) AS best, min({_net(_INFINITE)}) AS worst, min(pnl) AS pnl_low,
                max(pnl) AS pnl_high, min(pnl_percent) AS return_low, max(pnl_percent) AS return_high
            FROM public.trades
            WHERE symbol = touched.symbol AND strategy_name = touched.strategy_name AND source = touched.source
                AND session_id IS NOT DISTINCT FROM touched.session_id
                AND exchange IS NOT DISTINCT FROM touched.exchange
                AND exit_time >= touched.day AND exit_time::date = touched.day
                AND (exit_time < touched.day + 1 OR NOT isfinite(touched.day))
        ) t WHERE d.group_id = touched.group_id AND d.day = touched.day;
    END LOOP;
    DELETE FROM public.strategy_weeks WHERE trades = 0;
    FOR touched IN SELECT DISTINCT symbol, strategy_name, source, exit_time::date AS day FROM old_rows LOOP
        DELETE FROM public.trade_cell_days c WHERE c.day = touched.day AND c.symbol = touched.symbol
            AND c.strategy_name = touched.strategy_name AND c.source = touched.source AND c.trades = 0;
        UPDATE public.trade_cell_days c SET pnl_low = t.pnl_low, pnl_high = t.pnl_high, return_low = t.return_low,
            return_high = t.return_high
        FROM (
            SELECT min(pnl) AS pnl_low, max(pnl) AS pnl_high, min(pnl_percent) AS return_low,
                max(pnl_percent) AS return_high
            FROM public.trades
            WHERE symbol = touched.symbol AND strategy_name = touched.strategy_name AND source = touched.source
                AND exit_time >= touched.day AND exit_time::date = touched.day
                AND (exit_time < touched.day + 1 OR NOT isfinite(touched.day))
        ) t WHERE c.day = touched.day AND c.symbol = touched.symbol AND c.strategy_name = touched.strategy_name
            AND c.source = touched.source;
    END LOOP;
    UPDATE public.trade_groups g SET best = d.best, worst = d.worst
    FROM (
        SELECT d.group_id, max(d.best) AS best, min(d.worst) AS worst FROM public.trade_days d
        WHERE d.group_id IN (
            SELECT g.group_id FROM public.trade_groups g JOIN old_rows o
                ON g.session_id IS NOT DISTINCT FROM o.session_id AND g.symbol = o.symbol
                AND g.strategy_name = o.strategy_name AND g.source = o.source
                AND g.exchange IS NOT DISTINCT FROM o.exchange
        ) GROUP BY d.group_id
    ) d WHERE g.group_id = d.group_id;
    DELETE FROM public.trade_histogram h WHERE h.trades = 0 AND h.group_id IN (
        SELECT g.group_id FROM public.trade_groups g JOIN old_rows o
            ON g.session_id IS NOT DISTINCT FROM o.session_id AND g.symbol = o.symbol
            AND g.strategy_name = o.strategy_name AND g.source = o.source
            AND g.exchange IS NOT DISTINCT FROM o.exchange);
"""


def _hours_in(rows: str) -> str:
    """Return the statement that adds rows of `account_history` to the hours."""
    return f"""
    INSERT INTO public.equity_hours AS e (session_id, hour, records, finite, last_time, last_equity, low, high, deepest)
    SELECT session_id, date_trunc('hour', "timestamp"), count(*), count(*) FILTER (WHERE {_finite("equity", _INFINITE)}),
        max("timestamp"),
        (array_agg(equity ORDER BY "timestamp" DESC, id DESC) FILTER (WHERE {_finite("equity", _INFINITE)}))[1],
        min(equity) FILTER (WHERE {_finite("equity", _INFINITE)}),
        max(equity) FILTER (WHERE {_finite("equity", _INFINITE)}),
        max(drawdown) FILTER (WHERE {_finite("drawdown", _INFINITE)})
    FROM {rows} WHERE session_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (session_id, hour) DO UPDATE SET
        records = e.records + excluded.records, finite = e.finite + excluded.finite,
        last_equity = CASE WHEN excluded.last_time >= e.last_time THEN coalesce(excluded.last_equity, e.last_equity)
            ELSE coalesce(e.last_equity, excluded.last_equity) END,
        last_time = greatest(e.last_time, excluded.last_time), low = least(e.low, excluded.low),
        high = greatest(e.high, excluded.high), deepest = greatest(e.deepest, excluded.deepest);
    """


_SETTLE_HOURS = """
    DELETE FROM public.equity_hours e USING (
        SELECT DISTINCT session_id, date_trunc('hour', "timestamp") AS hour FROM {touched}
    ) t WHERE e.session_id = t.session_id AND e.hour = t.hour;
"""


def _function(name: str, body: str, declare: str = "") -> str:
    """Return a trigger function that may write the sums though who inserts a trade may not, and looks only at ours."""
    return f"""
    CREATE FUNCTION public.{name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $$
    {declare}
    BEGIN
        {body}
        RETURN NULL;
    END $$
    """


def _trigger(table: str, act: str, function: str) -> str:
    tables = {"INSERT": "NEW TABLE AS new_rows", "DELETE": "OLD TABLE AS old_rows"}
    tables["UPDATE"] = f"{tables['DELETE']} {tables['INSERT']}"
    referencing = f"REFERENCING {tables[act]}" if act in tables else ""
    return f"""
    CREATE TRIGGER {table}_sums_after_{act.lower()} AFTER {act} ON public.{table} {referencing}
    FOR EACH STATEMENT EXECUTE FUNCTION public.{function}()
    """


def _postgres() -> Iterator[str]:
    yield _count_in("public.trades", "+")
    yield _hours_in("public.account_history")
    touched = "DECLARE touched record;"
    bodies = {
        ("trades", "INSERT"): (_count_in("new_rows", "+"), ""),
        ("trades", "DELETE"): (_count_in("old_rows", "-") + _SETTLE, touched),
        ("trades", "UPDATE"): (_count_in("old_rows", "-") + _count_in("new_rows", "+") + _SETTLE, touched),
        ("trades", "TRUNCATE"): (
            "DELETE FROM public.trade_groups; DELETE FROM public.trade_cell_days; DELETE FROM public.strategy_weeks;",
            "",
        ),
        ("account_history", "INSERT"): (_hours_in("new_rows"), ""),
        ("account_history", "DELETE"): (_hours_anew("old_rows"), ""),
        ("account_history", "UPDATE"): (
            _hours_anew(
                '(SELECT session_id, "timestamp" FROM old_rows UNION SELECT session_id, "timestamp" FROM new_rows)'
            ),
            "",
        ),
        ("account_history", "TRUNCATE"): ("DELETE FROM public.equity_hours;", ""),
    }
    for (table, act), (body, declare) in bodies.items():
        name = f"{table}_sums_after_{act.lower()}"
        yield _function(name, body, declare)
        yield f"REVOKE EXECUTE ON FUNCTION public.{name}() FROM PUBLIC"
        yield _trigger(table, act, name)


def _hours_anew(rows: str) -> str:
    """Return the statements that make the hours of these rows again from what is there now."""
    source = f"""(
        SELECT a.* FROM (
            SELECT DISTINCT session_id, date_trunc('hour', "timestamp") AS hour FROM {rows} r WHERE session_id IS NOT NULL
        ) t JOIN public.account_history a ON a.session_id = t.session_id AND a."timestamp" >= t.hour
            AND (a."timestamp" < t.hour + interval '1 hour' OR NOT isfinite(t.hour))
            AND date_trunc('hour', a."timestamp") = t.hour
    ) a"""
    return _SETTLE_HOURS.format(touched=f"{rows} r") + _hours_in(source)


# ---------------------------------------------------------------- SQLite


_ENDLESS = "9e999"


def _same(row: str, table: str = "") -> str:
    """Return the test for a row's group; IS is SQLite's IS NOT DISTINCT FROM, and uses an index."""
    return " AND ".join(f"{table}{column} IS {row}.{column}" for column in GROUP)


def _values(row: str) -> dict[str, str]:
    """Return one trade's part in each sum."""
    net = _net(_ENDLESS, f"{row}.")
    duration = f"round((julianday({row}.exit_time) - julianday({row}.entry_time)) * 86400, 3)"
    return {
        "trades": "1",
        "summed": f"({net}) IS NOT NULL",
        "wins": f"coalesce(({net}) > 0, 0)",
        "losses": f"coalesce(({net}) < 0, 0)",
        "pnl": f"CASE WHEN ({net}) IS NOT NULL THEN {row}.pnl ELSE 0 END",
        "fees": f"CASE WHEN ({net}) IS NOT NULL THEN coalesce({row}.commission, 0) ELSE 0 END",
        "won": f"coalesce(max({net}, 0), 0)",
        "lost": f"coalesce(min({net}, 0), 0)",
        "simulated": f"coalesce({row}.exchange = 'SIMULATED', 0)",
        "timed": f"{duration} IS NOT NULL",
        "duration_s": f"coalesce({duration}, 0)",
        "result": net,
        "duration": duration,
        "return": f"CASE WHEN {_finite(f'{row}.pnl_percent', _ENDLESS)} THEN {row}.pnl_percent END",
    }


def _week(row: str) -> str:
    """Return the Monday of a trade's day; the day itself where it is none that SQLite knows."""
    day = f"substr({row}.exit_time, 1, 10)"
    return f"coalesce(date({day}, 'weekday 0', '-6 days'), {day})"


def _group_of(row: str) -> str:
    return f"(SELECT group_id FROM trade_groups WHERE {_same(row)})"


def _lesser(act: str, ours: str, theirs: str) -> str:
    """Return the lesser (min) or greater (max) of two, either of which may be NULL."""
    return f"{act}(coalesce({ours}, {theirs}), coalesce({theirs}, {ours}))"


_CELL_SUMS = ("trades", "summed", "wins", "simulated", "pnl", "fees")


def _row_in(row: str) -> str:
    """Return the statements of a trigger that add one trade to the sums."""
    value = _values(row)
    sums = ("trades", "summed", "wins", "losses", "pnl", "fees", "won", "lost", "timed", "duration_s")
    day_sums = ("trades", "summed", "wins", "pnl", "fees")
    net = value["result"]
    extremes = {
        "best": ("max", net), "worst": ("min", net), "pnl_low": ("min", f"{row}.pnl"), "pnl_high": ("max", f"{row}.pnl"),
        "return_low": ("min", f"{row}.pnl_percent"), "return_high": ("max", f"{row}.pnl_percent"),
    }  # fmt: skip
    cell_extremes = {column: part for column, part in extremes.items() if column not in ("best", "worst")}
    buckets = "".join(
        f"""
        INSERT INTO trade_histogram (group_id, kind, bucket, trades)
        SELECT {_group_of(row)}, '{kind}', {_bucket(value[kind], EDGES[kind])}, 1 WHERE ({value[kind]}) IS NOT NULL
        ON CONFLICT (group_id, kind, bucket) DO UPDATE SET trades = trades + 1;"""
        for kind in EDGES
    )
    return f"""
        INSERT INTO trade_groups ({_GROUP}, {", ".join(sums)})
        SELECT {", ".join(f"{row}.{column}" for column in GROUP)}, {", ".join("0" for _ in sums)}
        WHERE NOT EXISTS (SELECT 1 FROM trade_groups WHERE {_same(row)});
        UPDATE trade_groups SET {", ".join(f"{column} = {column} + ({value[column]})" for column in sums)},
            best = {_lesser("max", "best", net)}, worst = {_lesser("min", "worst", net)} WHERE {_same(row)};
        INSERT INTO trade_days (group_id, day, {", ".join(day_sums)}, {", ".join(extremes)})
        SELECT {_group_of(row)}, substr({row}.exit_time, 1, 10), {", ".join(value[column] for column in day_sums)},
            {", ".join(expression for _, expression in extremes.values())} WHERE true
        ON CONFLICT (group_id, day) DO UPDATE SET
            {", ".join(f"{column} = {column} + excluded.{column}" for column in day_sums)},
            {", ".join(f"{column} = {_lesser(act, column, f'excluded.{column}')}" for column, (act, _) in extremes.items())};
        INSERT INTO strategy_weeks (strategy_name, source, week, trades, result)
        SELECT {row}.strategy_name, {row}.source, {_week(row)}, 1, coalesce({net}, 0) WHERE true
        ON CONFLICT (strategy_name, source, week) DO UPDATE SET
            trades = trades + 1, result = result + excluded.result;
        INSERT INTO trade_cell_days (day, symbol, strategy_name, source, {", ".join(_CELL_SUMS)}, {", ".join(cell_extremes)})
        SELECT substr({row}.exit_time, 1, 10), {row}.symbol, {row}.strategy_name, {row}.source,
            {", ".join(value[column] for column in _CELL_SUMS)},
            {", ".join(expression for _, expression in cell_extremes.values())} WHERE true
        ON CONFLICT (day, symbol, strategy_name, source) DO UPDATE SET
            {", ".join(f"{column} = {column} + excluded.{column}" for column in _CELL_SUMS)},
            {", ".join(f"{column} = {act}({column}, excluded.{column})" for column, (act, _) in cell_extremes.items())};
        {buckets}"""


def _row_out(row: str) -> str:
    """Return the statements of a trigger that take one trade out of the sums."""
    value = _values(row)
    sums = ("trades", "summed", "wins", "losses", "pnl", "fees", "won", "lost", "timed", "duration_s")
    day_sums = ("trades", "summed", "wins", "pnl", "fees")
    net = _net(_ENDLESS, "t.")
    of_day = f"FROM trades t WHERE {_same(row, 't.')} AND substr(t.exit_time, 1, 10) = substr({row}.exit_time, 1, 10)"
    extremes = {
        "best": f"max({net})", "worst": f"min({net})", "pnl_low": "min(t.pnl)", "pnl_high": "max(t.pnl)",
        "return_low": "min(t.pnl_percent)", "return_high": "max(t.pnl_percent)",
    }  # fmt: skip
    this_cell_day = f"day = substr({row}.exit_time, 1, 10) AND " + " AND ".join(
        f"{column} = {row}.{column}" for column in ("symbol", "strategy_name", "source")
    )
    of_cell_day = f"FROM trades t WHERE substr(t.exit_time, 1, 10) = substr({row}.exit_time, 1, 10) AND "
    of_cell_day += " AND ".join(f"t.{column} = {row}.{column}" for column in ("symbol", "strategy_name", "source"))
    cell_extremes = {column: best for column, best in extremes.items() if column not in ("best", "worst")}
    this_day = f"group_id = {_group_of(row)} AND day = substr({row}.exit_time, 1, 10)"
    buckets = "".join(
        f"""
        UPDATE trade_histogram SET trades = trades - 1 WHERE group_id = {_group_of(row)} AND kind = '{kind}'
            AND bucket = {_bucket(value[kind], EDGES[kind])};"""
        for kind in EDGES
    )
    return f"""
        {buckets}
        DELETE FROM trade_histogram WHERE group_id = {_group_of(row)} AND trades = 0;
        UPDATE trade_days SET {", ".join(f"{column} = {column} - ({value[column]})" for column in day_sums)}
            WHERE {this_day};
        DELETE FROM trade_days WHERE {this_day} AND trades = 0;
        UPDATE trade_days SET {", ".join(f"{column} = (SELECT {best} {of_day})" for column, best in extremes.items())}
            WHERE {this_day};
        UPDATE strategy_weeks SET trades = trades - 1, result = result - coalesce({value["result"]}, 0)
            WHERE strategy_name = {row}.strategy_name AND source = {row}.source AND week = {_week(row)};
        DELETE FROM strategy_weeks WHERE trades = 0;
        UPDATE trade_cell_days SET {", ".join(f"{column} = {column} - ({value[column]})" for column in _CELL_SUMS)}
            WHERE {this_cell_day};
        DELETE FROM trade_cell_days WHERE {this_cell_day} AND trades = 0;
        UPDATE trade_cell_days
            SET {", ".join(f"{column} = (SELECT {best} {of_cell_day})" for column, best in cell_extremes.items())}
            WHERE {this_cell_day};
        UPDATE trade_groups SET {", ".join(f"{column} = {column} - ({value[column]})" for column in sums)},
            best = (SELECT max(d.best) FROM trade_days d WHERE d.group_id = trade_groups.group_id),
            worst = (SELECT min(d.worst) FROM trade_days d WHERE d.group_id = trade_groups.group_id) WHERE {_same(row)};
        DELETE FROM trade_groups WHERE trades = 0 AND {_same(row)};"""


def _bucket(value: str, edges: str) -> str:
    """Return how many edges a value has reached, as Postgres' width_bucket does."""
    return " + ".join(f"(({value}) >= {edge})" for edge in edges.split(", "))


def _hour_in(row: str) -> str:
    """Return the statement of a trigger that adds one account record to its hour."""
    finite = _finite(f"{row}.equity", _ENDLESS)
    equity = f"CASE WHEN {finite} THEN {row}.equity END"
    return f"""
        INSERT INTO equity_hours (session_id, hour, records, finite, last_time, last_equity, low, high, deepest)
        SELECT {row}.session_id, {_hour(row)}, 1, coalesce({finite}, 0), {row}."timestamp", {equity}, {equity}, {equity},
            CASE WHEN {_finite(f"{row}.drawdown", _ENDLESS)} THEN {row}.drawdown END
        WHERE {row}.session_id IS NOT NULL
        ON CONFLICT (session_id, hour) DO UPDATE SET
            records = records + 1, finite = finite + excluded.finite,
            last_equity = CASE WHEN excluded.last_time >= last_time THEN coalesce(excluded.last_equity, last_equity)
                ELSE coalesce(last_equity, excluded.last_equity) END,
            last_time = max(last_time, excluded.last_time), low = {_lesser("min", "low", "excluded.low")},
            high = {_lesser("max", "high", "excluded.high")},
            deepest = {_lesser("max", "deepest", "excluded.deepest")};"""


def _hour_anew(row: str) -> str:
    """Return the statements of a trigger that make a record's hour again from what is there now."""
    return f"""
        DELETE FROM equity_hours WHERE session_id = {row}.session_id AND hour = {_hour(row)};
        {_hours_of(f"a.session_id = {row}.session_id AND {_hour('a')} = {_hour(row)}")};"""


def _hour(row: str) -> str:
    return f"substr({row}.\"timestamp\", 1, 13) || ':00:00.000000'"


def _hours_of(where: str) -> str:
    finite = _finite("a.equity", _ENDLESS)
    return f"""
        INSERT INTO equity_hours (session_id, hour, records, finite, last_time, last_equity, low, high, deepest)
        SELECT a.session_id, {_hour("a")}, count(*), count(*) FILTER (WHERE {finite}), max(a."timestamp"),
            (SELECT b.equity FROM account_history b WHERE b.session_id = a.session_id AND {_hour("b")} = {_hour("a")}
             AND {_finite("b.equity", _ENDLESS)} ORDER BY b."timestamp" DESC, b.id DESC LIMIT 1),
            min(a.equity) FILTER (WHERE {finite}), max(a.equity) FILTER (WHERE {finite}),
            max(a.drawdown) FILTER (WHERE {_finite("a.drawdown", _ENDLESS)})
        FROM account_history a WHERE {where} GROUP BY a.session_id, {_hour("a")}"""


def _sqlite() -> Iterator[str]:
    columns = {
        "trades": f"{_GROUP}, pnl, pnl_percent, commission, entry_time, exit_time",
        "account_history": 'session_id, "timestamp", equity, drawdown',
    }
    bodies = {
        ("trades", "INSERT"): _row_in("NEW"),
        ("trades", "DELETE"): _row_out("OLD"),
        ("trades", "UPDATE"): _row_out("OLD") + _row_in("NEW"),
        ("account_history", "INSERT"): _hour_in("NEW"),
        ("account_history", "DELETE"): _hour_anew("OLD"),
        # where both are in one hour, the second finds what the first has made
        ("account_history", "UPDATE"): _hour_anew("OLD") + _hour_anew("NEW"),
    }
    for (table, act), body in bodies.items():
        of = f" OF {columns[table]}" if act == "UPDATE" else ""
        yield f"CREATE TRIGGER {table}_sums_after_{act.lower()} AFTER {act}{of} ON {table} BEGIN {body} END"
    yield _hours_of("a.session_id IS NOT NULL")
    # the trades that are there already go through the trigger, which says all there is to say
    yield "CREATE TEMP TABLE counted AS SELECT * FROM trades LIMIT 0"
    yield f"CREATE TEMP TRIGGER counted_in AFTER INSERT ON counted BEGIN {_row_in('NEW')} END"
    yield "INSERT INTO counted SELECT * FROM trades"
    yield "DROP TABLE counted"
