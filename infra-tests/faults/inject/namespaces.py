"""Networks of the suite's own: a namespace for the server and one for each bot, joined by cables that can be cut.

Packets are dropped where they arrive, at both ends: dropped where they leave, the sender's kernel would know.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> None:
    """Run a command; its own words when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


class Namespace:
    """One network namespace. ``with namespace:`` puts this thread, and what it starts, into it."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in it."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(inside)
            try:
                yield
            finally:
                _setns(outside)
        finally:
            os.close(inside)
            os.close(outside)

    def run(self, *words: str) -> None:
        """Run a command in it."""
        run("ip", "netns", "exec", self.name, *words)

    def remove(self) -> None:
        """Delete it and the cables that end in it."""
        run("ip", "netns", "del", self.name)


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Cable:
    """A link from the server's namespace to one of a bot's own."""

    def __init__(self, server: Namespace, prefix: str, name: str, number: int) -> None:
        self.server = server
        self.bot = Namespace(f"{prefix}-{name}")
        self.server_end, self.bot_end = f"db-{name}", f"bot-{name}"
        self.address = f"10.213.{number}.1"
        run(
            "ip", "link", "add", self.server_end, "netns", server.name,
            "type", "veth", "peer", "name", self.bot_end, "netns", self.bot.name,
        )  # fmt: skip
        for namespace, end, address in (
            (server, self.server_end, self.address),
            (self.bot, self.bot_end, f"10.213.{number}.2"),
        ):
            run("ip", "-n", namespace.name, "addr", "add", f"{address}/30", "dev", end)
            run("ip", "-n", namespace.name, "link", "set", end, "up")

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Let no packet arrive at either end while the block runs."""
        with self._rule("-j", "DROP"):
            yield

    @contextmanager
    def reset(self) -> Iterator[None]:
        """Answer every packet with a reset while the block runs."""
        with self._rule("-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"):
            yield

    @contextmanager
    def _rule(self, *what: str) -> Iterator[None]:
        ends = ((self.server, self.server_end), (self.bot, self.bot_end))
        for namespace, end in ends:
            namespace.run("iptables", "-w", "-I", "INPUT", "-i", end, *what)
        try:
            yield
        finally:
            for namespace, end in ends:
                namespace.run("iptables", "-w", "-D", "INPUT", "-i", end, *what)

    @contextmanager
    def slow(self, rate: str) -> Iterator[None]:
        """Let through no more than a rate like 64kbit, in both directions."""
        ends = ((self.server, self.server_end), (self.bot, self.bot_end))
        for namespace, end in ends:
            namespace.run(
                "tc", "qdisc", "add", "dev", end, "root", "tbf", "rate", rate, "burst", "8kb", "latency", "800ms"
            )
        try:
            yield
        finally:
            for namespace, end in ends:
                namespace.run("tc", "qdisc", "del", "dev", end, "root")


@contextmanager
def cables(*names: str) -> Iterator[tuple[Namespace, dict[str, Cable]]]:
    """The server's namespace, and a cable to one namespace for each name; gone after the block."""
    prefix = f"faults-{secrets.token_hex(3)}"
    made: list[Namespace] = []
    try:
        server = Namespace(f"{prefix}-db")
        made.append(server)
        found: dict[str, Cable] = {}
        for number, name in enumerate(names, 1):
            found[name] = Cable(server, prefix, name, number)
            made.append(found[name].bot)
        yield server, found
    finally:
        for namespace in made:
            namespace.remove()


def leftovers() -> list[str]:
    """The suite's namespaces that are still there."""
    folder = Path("/run/netns")
    return [path.name for path in folder.glob("faults-*")] if folder.is_dir() else []
