"""Ports: free, chosen once, remembered; a taken one is refused with the name of who has it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from switchyard import ports
from tradedb.errors import SwitchyardError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_chosen_port_is_free_and_not_one_that_outgoing_connections_get() -> None:
    port = ports.choose_free()
    assert ports.is_free(port)
    assert ports.LOWEST <= port < 32768


def test_ports_are_remembered_and_differ(tmp_path: Path) -> None:
    book = tmp_path / "ports.json"
    first = ports.remembered(book, ["postgres", "trading-bot"])
    assert ports.remembered(book, ["postgres", "trading-bot"]) == first
    assert len(set(first.values())) == 2


def test_two_instances_get_different_ports(tmp_path: Path) -> None:
    one = ports.remembered(tmp_path / "one.json", ["postgres", "trading-bot"])
    two = ports.remembered(tmp_path / "two.json", ["postgres", "trading-bot"], avoid=one.values())
    assert not set(one.values()) & set(two.values())


def test_a_taken_port_names_its_process_and_the_way_out(taken: int) -> None:
    with pytest.raises(SwitchyardError) as caught:
        ports.require_free(taken, "the dashboard")
    assert caught.value.code == "STACK-021"
    assert caught.value.exit_code == 78
    assert f"port {taken} on 127.0.0.1, which belongs to the dashboard, is taken by" in caught.value.what
    assert f"(pid {os.getpid()})" in caught.value.what
    assert "up --new-ports" in caught.value.fix


def test_no_port_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _port: False)
    with pytest.raises(SwitchyardError, match="STACK-020: none of 200 ports between 20000 and 32000"):
        ports.choose_free()
