"""The spool: a local journal that carries facts through an outage of the database, and a server that forgot some.

What is appended is on the disk when ``append`` returns. It stays there for a day after the database has taken it, so
that a server that lost what it had acknowledged (a failover, a restore to the past) can be given it again.

``frames`` has the format of a record, ``segments`` what is in a file of them, ``journal`` the spool itself and
``inspect`` the look that changes nothing.
"""

from trading_bot.spool.errors import SpoolBusy, SpoolCorrupt, SpoolFull
from trading_bot.spool.journal import Opened, Spool, SpoolState
from trading_bot.spool.segments import Entry

__all__ = ["Entry", "Opened", "Spool", "SpoolBusy", "SpoolCorrupt", "SpoolFull", "SpoolState"]
