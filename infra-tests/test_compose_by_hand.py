"""`docker compose up` typed by hand is the same stack: the commands find it without `switchyard up`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from targets import Target

pytestmark = pytest.mark.targets("compose")


@pytest.fixture
def never_started(target: Target) -> Iterator[Target]:
    """The running target, without the note that `switchyard up` left of it."""
    note = target.instance.home / "state.json"
    kept = note.read_text()
    note.unlink()
    yield target
    note.write_text(kept)


def test_what_compose_started_is_found(never_started: Target) -> None:
    status = never_started.instance.switchyard("status", "--json").json()
    assert status["target"] == "compose"
    assert all(service["healthy"] for service in status["services"])
    assert never_started.instance.switchyard("psql", "--", "-Atc", "SELECT 1").stdout.strip() == "1"
    other = never_started.instance.switchyard("up", "--target", "embedded", check=False)
    assert other.returncode == 1
    assert "error STACK-002: the compose target runs" in other.stderr
