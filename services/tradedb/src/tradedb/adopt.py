"""Takes over an unversioned database with the original seven tables as it is: checked, stamped, no row touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Inspector, inspect, types

from tradedb.errors import EXIT_FAILED, SwitchyardError
from tradedb.models import Base

ORIGINAL_REVISION = "0001"

# table -> column -> kind. What revision 0001 makes; it never changes, whatever later revisions do.
ORIGINAL_COLUMNS: dict[str, dict[str, str]] = {
    "trading_sessions": {
        "id": "integer",
        "session_name": "text",
        "start_time": "time",
        "end_time": "time",
        "is_active": "boolean",
        "mode": "text",
        "initial_balance": "number",
        "final_balance": "number",
        "strategy_name": "text",
        "strategy_config": "json",
        "symbol": "text",
        "timeframe": "text",
        "exchange": "text",
        "total_pnl": "number",
        "total_trades": "integer",
        "win_rate": "number",
        "max_drawdown": "number",
        "created_at": "time",
        "updated_at": "time",
    },
    "positions": {
        "id": "integer",
        "symbol": "text",
        "side": "text",
        "status": "text",
        "entry_price": "number",
        "size": "number",
        "quantity": "number",
        "stop_loss": "number",
        "take_profit": "number",
        "trailing_stop": "boolean",
        "entry_time": "time",
        "last_update": "time",
        "current_price": "number",
        "unrealized_pnl": "number",
        "unrealized_pnl_percent": "number",
        "strategy_name": "text",
        "confidence_score": "number",
        "order_id": "text",
        "exchange": "text",
        "session_id": "integer",
        "created_at": "time",
        "updated_at": "time",
    },
    "account_history": {
        "id": "integer",
        "timestamp": "time",
        "balance": "number",
        "equity": "number",
        "margin_used": "number",
        "margin_available": "number",
        "total_pnl": "number",
        "daily_pnl": "number",
        "drawdown": "number",
        "open_positions": "integer",
        "total_exposure": "number",
        "session_id": "integer",
        "created_at": "time",
    },
    "performance_metrics": {
        "id": "integer",
        "period": "text",
        "period_start": "time",
        "period_end": "time",
        "total_trades": "integer",
        "winning_trades": "integer",
        "losing_trades": "integer",
        "win_rate": "number",
        "total_return": "number",
        "total_return_percent": "number",
        "max_drawdown": "number",
        "max_drawdown_duration": "integer",
        "sharpe_ratio": "number",
        "sortino_ratio": "number",
        "calmar_ratio": "number",
        "avg_win": "number",
        "avg_loss": "number",
        "profit_factor": "number",
        "expectancy": "number",
        "best_trade_pnl": "number",
        "worst_trade_pnl": "number",
        "largest_win_streak": "integer",
        "largest_loss_streak": "integer",
        "strategy_breakdown": "json",
        "session_id": "integer",
        "created_at": "time",
        "updated_at": "time",
    },
    "system_events": {
        "id": "integer",
        "timestamp": "time",
        "event_type": "text",
        "severity": "text",
        "message": "text",
        "details": "json",
        "component": "text",
        "error_code": "text",
        "stack_trace": "text",
        "alert_sent": "boolean",
        "alert_method": "text",
        "session_id": "integer",
        "created_at": "time",
    },
    "trades": {
        "id": "integer",
        "symbol": "text",
        "side": "text",
        "source": "text",
        "entry_price": "number",
        "exit_price": "number",
        "size": "number",
        "quantity": "number",
        "entry_time": "time",
        "exit_time": "time",
        "pnl": "number",
        "pnl_percent": "number",
        "commission": "number",
        "stop_loss": "number",
        "take_profit": "number",
        "exit_reason": "text",
        "strategy_name": "text",
        "strategy_config": "json",
        "confidence_score": "number",
        "order_id": "text",
        "exchange": "text",
        "timeframe": "text",
        "position_id": "integer",
        "session_id": "integer",
        "created_at": "time",
        "updated_at": "time",
    },
    "strategy_executions": {
        "id": "integer",
        "timestamp": "time",
        "strategy_name": "text",
        "symbol": "text",
        "timeframe": "text",
        "signal_type": "text",
        "signal_strength": "number",
        "confidence_score": "number",
        "indicators": "json",
        "sentiment_data": "json",
        "ml_predictions": "json",
        "action_taken": "text",
        "position_size": "number",
        "reasons": "json",
        "price": "number",
        "volume": "number",
        "volatility": "number",
        "session_id": "integer",
        "trade_id": "integer",
        "created_at": "time",
    },
}


def has_original_tables(connection: Connection) -> bool:
    """Return whether any table of ours is there already, in a database without a revision."""
    return bool(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))


def require_original_shape(connection: Connection) -> None:
    """Do nothing when all seven tables are there with every column, of a kind that holds what ours holds.

    Raises: SwitchyardError, SCHEMA-003, with what is missing or different.
    """
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    problems = [f"table {name} is missing" for name in ORIGINAL_COLUMNS if name not in there]
    problems += [f"table {name} is there without a revision" for name in _later_tables() if name in there]
    for table in ORIGINAL_COLUMNS.keys() & there:
        problems += _column_problems(inspector, table)
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise SwitchyardError(
            "SCHEMA-003",
            f"the database has tables with our names that are not the original ones: {shown}",
            why="it was never migrated by this code, and taking it over could lose data. Nothing was changed.",
            fix="point DATABASE_URL at an empty database, then bring the rows in: switchyard copy --source LABEL=FILE",
            exit_code=EXIT_FAILED,
        )


def objects_to_compare(connection: Connection) -> Callable[[Any, str | None, str, bool, Any], bool]:
    """Return Alembic's ``include_object``: which objects it compares with the models.

    Left out are tables that somebody else keeps in our schema and, on SQLite, our named unique constraints that an
    adopted file has without a name: SQLite cannot name one without writing the whole table again.
    """
    inspector = inspect(connection)
    unnamed: set[tuple[str, tuple[str, ...]]] = set()
    if connection.dialect.name == "sqlite":
        for table in set(inspector.get_table_names()) & ORIGINAL_COLUMNS.keys():
            found = inspector.get_unique_constraints(table)
            unnamed |= {(table, tuple(unique["column_names"])) for unique in found if unique["name"] is None}

    def include(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if kind == "table":
            return not (reflected and compare_to is None and name not in Base.metadata.tables)
        if kind == "unique_constraint":
            return (item.table.name, tuple(column.name for column in item.columns)) not in unnamed
        return True

    return include


def affinity(type_name: str) -> str:
    """Return how SQLite stores a column of this declared type.

    Source: https://www.sqlite.org/datatype3.html (3.1, determination of column affinity)
    """
    upper = type_name.upper()
    for words, result in (
        (("INT",), "INTEGER"),
        (("CHAR", "CLOB", "TEXT"), "TEXT"),
        (("BLOB",), "BLOB"),
        (("REAL", "FLOA", "DOUB"), "REAL"),
    ):
        if any(word in upper for word in words):
            return result
    return "NUMERIC" if upper else "BLOB"


def _later_tables() -> list[str]:
    """Return the tables of ours that later revisions make."""
    return [name for name in Base.metadata.tables if name not in ORIGINAL_COLUMNS]


def _column_problems(inspector: Inspector, table: str) -> list[str]:
    """Return what is wrong with the columns of one table."""
    found = {column["name"]: column for column in inspector.get_columns(table)}
    problems = []
    for name, kind in ORIGINAL_COLUMNS[table].items():
        column = found.get(name)
        if column is None:
            problems.append(f"column {table}.{name} is missing")
        elif _kind(column["type"]) != kind:
            problems.append(f"column {table}.{name} is {column['type']}, expected a kind of {kind}")
    if inspector.get_pk_constraint(table)["constrained_columns"] != ["id"]:
        problems.append(f"table {table} has no primary key (id)")
    key = found.get("id")
    if inspector.dialect.name == "postgresql" and key and not (key.get("identity") or key.get("default")):
        problems.append(f"column {table}.id does not number its rows by itself")
    return problems


def _kind(column_type: types.TypeEngine[Any]) -> str:
    """Return what a column holds: integer, number, text, time, boolean or json."""
    for kind, classes in (
        ("boolean", (types.Boolean,)),
        ("json", (types.JSON,)),
        ("integer", (types.Integer,)),
        ("number", (types.Numeric, types.Float)),
        ("time", (types.DateTime,)),
        ("text", (types.String,)),
    ):
        if isinstance(column_type, classes):
            return kind
    return str(column_type)
