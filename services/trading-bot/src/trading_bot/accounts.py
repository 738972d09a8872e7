"""The accounts as the database has them, at hand."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from trading_bot import ledger
from trading_bot.books import Account
from trading_bot.kit import Kit


@dataclass(frozen=True, slots=True)
class Books:
    """An account as the database has it, and its equity curve."""

    account: Account
    curve: ledger.Curve


class Accounts:
    """Copies of accounts, asked for when they are needed.

    Args:
        kit: what the leader works with.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._books: dict[int, Books] = {}

    def of(self, session_id: int) -> Books:
        """Return the account of a session.

        Raises: SwitchyardError: the database is away; BOT-003, its fills do not add up.
        """
        if session_id not in self._books:

            def work(conn: Connection) -> Books:
                account = ledger.load_account(conn, session_id)
                return Books(account, ledger.load_curve(conn, account))

            self._books[session_id] = self._kit.read(work, "account-load")
        return self._books[session_id]

    def moved(self, account: Account, curve: ledger.Curve) -> None:
        """Take over what a transaction that is committed made of an account."""
        self._books[account.session_id] = Books(account, curve)

    def forget(self, session_id: int) -> None:
        """Ask the database for this one again."""
        self._books.pop(session_id, None)
