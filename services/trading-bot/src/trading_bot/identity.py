"""Which server this is, so that another one, or one put back to the past, is noticed."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text

from trading_bot.sql import is_postgres


def server_identity(conn: Connection) -> str:
    """Return "system identifier/timeline/start" of the server; of a SQLite file its path and inode.

    After a failover or a restore the timeline is another one; after a crash, which may have taken what the server had
    acknowledged, the start. A file that was put in the place of another has another inode.
    """
    if is_postgres(conn):
        row = conn.execute(
            text(
                "SELECT s.system_identifier, c.timeline_id, extract(epoch FROM pg_postmaster_start_time()) AS started"
                " FROM pg_control_system() s, pg_control_checkpoint() c"
            )
        ).one()
        return f"{row.system_identifier}/{row.timeline_id}/{row.started}"
    path = Path(conn.exec_driver_sql("PRAGMA database_list").all()[0][2])
    return f"{path}/{path.stat().st_ino}"
