"""Ports of this instance: free ones, chosen once and remembered, and who sits on one that is taken."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from switchyard.checkout import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Below what Linux (32768) and macOS (49152) hand to outgoing connections: nobody is given our port by chance.
LOWEST, HIGHEST = 20000, 32000
LOOPBACK = "127.0.0.1"
UNSEEN = "a process that this user cannot see"


def is_free(port: int) -> bool:
    """Return whether something could listen on 127.0.0.1:`port` now; what lingers in TIME_WAIT is no obstacle."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_free(avoid: Iterable[int] = ()) -> int:
    """Return a free port that is not in `avoid`; by chance, so that two checkouts rarely choose the same one."""
    candidates = random.sample(range(LOWEST, HIGHEST), 200)  # not a secret: any free port will do
    unwanted = set(avoid)
    for port in candidates:
        if port not in unwanted and is_free(port):
            return port
    raise SwitchyardError(
        "STACK-020",
        f"none of 200 ports between {LOWEST} and {HIGHEST} on {LOOPBACK} could be opened",
        why="This machine forbids listening on loopback, or something holds thousands of ports. Nothing was changed.",
        fix="look at what listens: ss -ltnp (Linux) or lsof -iTCP -sTCP:LISTEN",
        exit_code=EXIT_CONFIG,
    )


def remembered(path: Path, names: Iterable[str], avoid: Iterable[int] = ()) -> dict[str, int]:
    """Return the port of each name: from `path`, or chosen now and written there."""
    known = {name: port for name, port in read_json(path).items() if isinstance(port, int)}
    result: dict[str, int] = {}
    for name in names:
        result[name] = known.get(name) or choose_free([*avoid, *known.values(), *result.values()])
    if result != known:
        write_json(path, dict(result))
    return result


def require_free(port: int, what: str) -> None:
    """Return if `port` can be listened on.

    Raises: SwitchyardError: STACK-021, somebody else sits there; names the process where it can be seen.
    """
    if is_free(port):
        return
    holder = owner(port)
    raise SwitchyardError(
        "STACK-021",
        f"port {port} on {LOOPBACK}, which belongs to {what}, is taken by {holder or UNSEEN}",
        why="It was free when it was chosen. Nothing was started on it.",
        fix="stop that process, or choose other ports: .venv/bin/switchyard up --new-ports",
        exit_code=EXIT_CONFIG,
    )


def owner(port: int) -> str | None:
    """Return ``name (pid 123)`` of the process that listens on `port`, or None where it cannot be seen."""
    import psutil

    # One process after the other, because macOS lets an ordinary user look at its own processes only.
    for process in psutil.process_iter(["name"]):
        try:
            for connection in process.net_connections(kind="tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return f"{process.info['name']} (pid {process.pid})"
        except psutil.Error:
            continue
    return None
