"""The venue that only pretends: it fills orders at the market's prices, and remembers them as a real one does."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tradedb.errors import SwitchyardError

from trading_bot.feeds.candles import Candle
from trading_bot.ids import paper_order_id, paper_trade_id
from trading_bot.orders import Intent, OrderReport, VenueFill, quote_currency
from trading_bot.sizing import QUANTITY_STEP, fee_of
from trading_bot.venue.pricing import price_after_slippage, split
from trading_bot.venue.store import Store

_OPEN_ORDERS = "SELECT * FROM orders WHERE venue = ? AND status IN ('ACCEPTED', 'PARTIALLY_FILLED') ORDER BY number"


class PaperVenue:
    """Fills the first part of an order at once, at its reference price, and one more part at each later candle.

    How an order is split follows from its id, and the price from the candle's close and the slippage; the times are
    those of the candles. So the same orders and candles always give the same fills, under the same ids.

    Args:
        name: the label of its orders and fills. A file may have several venues, which know nothing of each other.
        path: its file, which any number of processes may use at once; None: in memory, gone at ``close``.
        fee_rate: share of the traded value, like 0.0004.
        slippage_rate: share of the price, like 0.0001.
        partial_fills: False: an order is filled at once, in one part.

    Raises: SwitchyardError BOT-043, the file cannot be used.
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        *,
        fee_rate: Decimal,
        slippage_rate: Decimal,
        partial_fills: bool = True,
    ) -> None:
        self.name = name
        self.fee_rate = fee_rate
        self.slippage_rate = slippage_rate
        self.partial_fills = partial_fills
        self._seen_until: dict[str, datetime] = {}  # by symbol: the venue's clock
        self._store = Store(path)

    def submit(self, intent: Intent) -> OrderReport:
        """Accept an order and fill its first part; known already, act no more and say how it stands.

        Raises: VenueUnreachable. SwitchyardError BOT-041, the id was used for another order.
        """
        with self._store.transaction() as conn:
            order = self._order(conn, intent.intent_id)
            if order is not None:
                _require_same(order, intent)
                return self._report(order)
            sound = intent.quantity > 0 and intent.reference_price > 0 and intent.quantity % QUANTITY_STEP == 0
            order = self._enter(conn, intent, "ACCEPTED" if sound else "REJECTED")
            if sound:
                order = self._fill_part(conn, order, intent.reference_price, intent.signal_time.astimezone(UTC))
            return self._report(order)

    def find(self, client_order_id: str) -> OrderReport | None:
        """Return how an order stands; None when it never came here.

        Raises: VenueUnreachable.
        """
        rows = self._store.rows(
            "SELECT * FROM orders WHERE venue = ? AND client_order_id = ?", (self.name, client_order_id)
        )
        return self._report(rows[0]) if rows else None

    def cancel(self, client_order_id: str) -> OrderReport:
        """Take back what is not filled; an order that is over stays as it is.

        Raises: VenueUnreachable. SwitchyardError BOT-042, there is no such order.
        """
        with self._store.transaction() as conn:
            order = self._order(conn, client_order_id)
            if order is None:
                raise SwitchyardError(
                    "BOT-042",
                    f"the venue {self.name} has no order {client_order_id}",
                    why="It was never sent, or to another venue. Nothing was changed.",
                    fix="look at the intent of that id in order_intents; its column venue says where it belongs",
                )
            report = self._report(order)
            if report.over:
                return report
            at = max(report.updated_at, self._seen_until.get(report.symbol, report.updated_at))
            cancelled = conn.execute(
                "UPDATE orders SET status = 'CANCELLED', updated_at = ? WHERE number = ? RETURNING *",
                (at.isoformat(), order["number"]),
            )
            return self._report(cancelled.fetchone())

    def void(self, intent: Intent) -> OrderReport:
        """See to it that no more of a decision is carried out: cancel its order, or the order that may still come.

        Raises: VenueUnreachable.
        """
        with self._store.transaction() as conn:
            if self._order(conn, intent.intent_id) is None:
                return self._report(self._enter(conn, intent, "CANCELLED"))
        return self.cancel(intent.intent_id)

    def open_orders(self) -> list[OrderReport]:
        """Return the orders of which something is still to be filled, oldest first.

        Raises: VenueUnreachable.
        """
        rows = self._store.rows(_OPEN_ORDERS, (self.name,))
        return [self._report(row) for row in rows]

    def fills(self, after: int, limit: int = 500) -> list[VenueFill]:
        """Return the fills whose sequence is above ``after``, at most ``limit``, in that order.

        Raises: VenueUnreachable.
        """
        rows = self._store.rows(
            "SELECT * FROM fills WHERE venue = ? AND sequence > ? ORDER BY sequence LIMIT ?", (self.name, after, limit)
        )
        return [
            VenueFill(
                venue=row["venue"],
                venue_trade_id=row["venue_trade_id"],
                intent_id=row["client_order_id"],
                symbol=row["symbol"],
                side=row["side"],
                price=Decimal(row["price"]),
                quantity=Decimal(row["quantity"]),
                fee=Decimal(row["fee"]),
                fee_currency=row["fee_currency"],
                filled_at=datetime.fromisoformat(row["filled_at"]),
                sequence=row["sequence"],
            )
            for row in rows
        ]

    def see(self, candle: Candle) -> None:
        """Fill one more part of each open order of the candle's symbol, unless it has one from that candle already.

        Raises: VenueUnreachable.
        """
        at = candle.close_time.astimezone(UTC)
        self._seen_until[candle.symbol] = max(at, self._seen_until.get(candle.symbol, at))
        if not any(order.symbol == candle.symbol for order in self.open_orders()):
            return
        with self._store.transaction() as conn:
            for order in conn.execute(_OPEN_ORDERS, (self.name,)).fetchall():
                if order["symbol"] == candle.symbol and at > datetime.fromisoformat(order["updated_at"]):
                    self._fill_part(conn, order, candle.close, at)

    def close(self) -> None:
        """Close the file. The orders stay in it."""
        self._store.close()

    def _fill_part(
        self, conn: sqlite3.Connection, order: sqlite3.Row, market_price: Decimal, at: datetime
    ) -> sqlite3.Row:
        """Fill the next part of an order, the last one being whatever is left, and return the order afterwards."""
        quantity = Decimal(order["quantity"])
        filled, n = Decimal(order["filled_quantity"]), order["parts_filled"]
        parts = split(order["client_order_id"], quantity) if self.partial_fills else [quantity]
        part = parts[n] if n < len(parts) - 1 else quantity - filled
        price = price_after_slippage(market_price, order["side"], self.slippage_rate)
        conn.execute(
            "INSERT INTO fills (venue, sequence, venue_trade_id, client_order_id, symbol, side, price, quantity, fee,"
            " fee_currency, filled_at)"
            " SELECT ?, coalesce(max(sequence), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM fills WHERE venue = ?",
            (
                self.name,
                paper_trade_id(order["client_order_id"], n),
                order["client_order_id"],
                order["symbol"],
                order["side"],
                str(price),
                str(part),
                str(fee_of(price=price, quantity=part, rate=self.fee_rate)),
                quote_currency(order["symbol"]),
                at.isoformat(),
                self.name,
            ),
        )
        filled += part
        updated = conn.execute(
            "UPDATE orders SET filled_quantity = ?, parts_filled = ?, status = ?, updated_at = ? WHERE number = ?"
            " RETURNING *",
            (
                str(filled),
                n + 1,
                "FILLED" if filled == quantity else "PARTIALLY_FILLED",
                at.isoformat(),
                order["number"],
            ),
        )
        return updated.fetchone()

    def _enter(self, conn: sqlite3.Connection, intent: Intent, status: str) -> sqlite3.Row:
        at = intent.signal_time.astimezone(UTC).isoformat()
        return conn.execute(
            "INSERT INTO orders (venue, client_order_id, venue_order_id, symbol, side, quantity, reference_price,"
            " status, filled_quantity, parts_filled, accepted_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, '0', 0, ?, ?) RETURNING *",
            (
                self.name,
                intent.intent_id,
                paper_order_id(intent.intent_id),
                intent.symbol,
                intent.side,
                str(intent.quantity),
                str(intent.reference_price),
                status,
                at,
                at,
            ),
        ).fetchone()

    def _order(self, conn: sqlite3.Connection, client_order_id: str) -> sqlite3.Row | None:
        query = "SELECT * FROM orders WHERE venue = ? AND client_order_id = ?"
        return conn.execute(query, (self.name, client_order_id)).fetchone()

    def _report(self, order: sqlite3.Row) -> OrderReport:
        return OrderReport(
            venue=order["venue"],
            client_order_id=order["client_order_id"],
            venue_order_id=order["venue_order_id"],
            symbol=order["symbol"],
            side=order["side"],
            quantity=Decimal(order["quantity"]),
            filled_quantity=Decimal(order["filled_quantity"]),
            status=order["status"],
            accepted_at=datetime.fromisoformat(order["accepted_at"]),
            updated_at=datetime.fromisoformat(order["updated_at"]),
        )


def _require_same(order: sqlite3.Row, intent: Intent) -> None:
    known = (order["symbol"], order["side"], Decimal(order["quantity"]), Decimal(order["reference_price"]))
    asked = (intent.symbol, intent.side, intent.quantity, intent.reference_price)
    if known != asked:
        raise SwitchyardError(
            "BOT-041",
            f"the venue {order['venue']} has another order under the id {intent.intent_id}: "
            f"{known[1]} {known[2]} {known[0]} at {known[3]}; asked for {asked[1]} {asked[2]} {asked[0]} at {asked[3]}",
            why="An id names one decision for ever. The order is as it was.",
            fix="two bots decide under the same names with other settings: give one of them another BOT_VENUE_FILE",
        )
