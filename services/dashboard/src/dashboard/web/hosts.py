"""The names under which this dashboard answers.

Without a list, any page on the web could point a name of its own at this machine's address (DNS rebinding) and read the
dashboard through the visitor's browser as if it were its own site.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PRIVATE_SUFFIX = ".railway.internal"
OWN_PRIVATE_NAME = f"dashboard{PRIVATE_SUFFIX}"
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")


def host_name(header: str) -> str | None:
    """Return the name in a Host header, in small letters and without its port; None if it is not a name at all."""
    match = _HOST.fullmatch(header)
    if match is None:
        return None
    return (match["six"] or match["name"]).lower().rstrip(".")


def is_confidential(name: str | None) -> bool:
    """Return whether nobody can listen on plain http to this name: it does not leave the machine, or goes encrypted.

    Railway's private network is WireGuard; Compose's private network, which has the same names, is this machine's.
    """
    return name is not None and (name in LOOPBACK or name.endswith(PRIVATE_SUFFIX))


class Hosts:
    """The allow list.

    Args:
        more: names beside the loopback ones and our private one; without ports.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = {*LOOPBACK, OWN_PRIVATE_NAME} | {name for given in more if (name := host_name(given.strip()))}

    def allow(self, header: str) -> bool:
        """Return whether a request with this Host header is for us."""
        return host_name(header) in self._names
