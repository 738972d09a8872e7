"""Which target `up` takes, and what it says about a Docker that cannot be used. `docker` is a script here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from switchyard.checkout import Checkout
from switchyard.targets import choose_target, current_target, docker_engine, make_target
from switchyard.targets.embedded import EmbeddedTarget
from tradedb.errors import SwitchyardError

FakeDocker = Callable[[str], Path]

GOOD = 'case "$1" in version) echo 28.0.1;; compose) echo 2.40.3;; esac'
OLD = 'case "$1" in version) echo 19.03.1;; compose) echo "1.29.2";; esac'
NO_PLUGIN = 'case "$1" in version) echo 28.0.1;; compose) echo "docker: no such command: compose" >&2; exit 1;; esac'
DENIED = "echo 'permission denied while trying to connect to the docker API at unix:///var/run/docker.sock' >&2; exit 1"
AWAY = "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?' >&2; exit 1"

BAD = [
    ("STACK-011", DENIED, "Docker is there, but this user may not talk to it", "usermod -aG docker"),
    ("STACK-012", AWAY, "no Docker engine answers (Cannot connect to the Docker daemon", "start Docker"),
    ("STACK-013", OLD, "its Compose is 1.29.2; v2 is needed", "install the Compose v2 plugin"),
    ("STACK-013", NO_PLUGIN, "but its Compose plugin is missing", "install the Compose v2 plugin"),
]


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    docker_engine.probe.cache_clear()
    yield
    docker_engine.probe.cache_clear()


def test_an_engine_with_compose_2_is_taken(checkout: Checkout, fake_docker: FakeDocker) -> None:
    fake_docker(GOOD)
    choice = choose_target(checkout, None)
    assert choice.target.name == "compose"
    assert choice.reason == "Docker 28.0.1 with Compose 2.40.3 answers"


@pytest.mark.parametrize(("code", "body", "words", "fix"), BAD, ids=["denied", "away", "old", "no-plugin"])
def test_a_docker_that_cannot_be_used_means_embedded_and_the_reason_is_said(
    checkout: Checkout, fake_docker: FakeDocker, code: str, body: str, words: str, fix: str
) -> None:
    fake_docker(body)
    choice = choose_target(checkout, None)
    assert choice.target.name == "embedded"
    assert words in choice.reason


@pytest.mark.parametrize(("code", "body", "words", "fix"), BAD, ids=["denied", "away", "old", "no-plugin"])
def test_compose_asked_for_by_name_is_an_error(
    checkout: Checkout, fake_docker: FakeDocker, code: str, body: str, words: str, fix: str
) -> None:
    fake_docker(body)
    with pytest.raises(SwitchyardError) as caught:
        choose_target(checkout, "compose")
    assert caught.value.code == code
    assert caught.value.exit_code == 69
    assert caught.value.what.startswith("the compose target cannot run: ")
    assert words in caught.value.what
    assert fix in caught.value.fix
    assert "Nothing was changed." in caught.value.why


def test_only_the_old_docker_compose(checkout: Checkout, fake_docker: FakeDocker) -> None:
    old = fake_docker(NO_PLUGIN) / "docker-compose"
    old.write_text("#!/bin/sh\n")
    old.chmod(0o755)
    with pytest.raises(SwitchyardError, match=r"STACK-013: .*only the old docker-compose \(v1\) is there"):
        choose_target(checkout, "compose")


def test_no_docker_at_all(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_target(checkout, None).reason == "Docker is not installed"
    with pytest.raises(SwitchyardError, match=r"STACK-010: .*not installed") as caught:
        choose_target(checkout, "compose")
    assert caught.value.exit_code == 69


def test_a_docker_that_hangs_is_given_up(
    checkout: Checkout, fake_docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "PROBE_TIMEOUT_S", 0.3)
    fake_docker("exec sleep 30")
    choice = choose_target(checkout, None)
    assert choice.target.name == "embedded"
    assert "gave no answer within 0.3 s" in choice.reason


def test_last_time_s_target_stays_although_docker_came(checkout: Checkout, fake_docker: FakeDocker) -> None:
    fake_docker(GOOD)
    checkout.make_home()
    checkout.remember(target="embedded")
    choice = choose_target(checkout, None)
    assert (choice.target.name, choice.reason) == ("embedded", "as last time")


def test_the_other_target_is_refused_while_one_runs(
    checkout: Checkout, fake_docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(GOOD)
    checkout.make_home()
    checkout.remember(target="embedded")
    monkeypatch.setattr(EmbeddedTarget, "running", lambda _self: True)
    with pytest.raises(SwitchyardError, match="STACK-002: the embedded target runs; it and compose") as caught:
        choose_target(checkout, "compose")
    assert caught.value.fix == "make down, then make up TARGET=compose"


def test_the_other_target_is_taken_when_nothing_runs(checkout: Checkout, fake_docker: FakeDocker) -> None:
    fake_docker(GOOD)
    checkout.make_home()
    checkout.remember(target="embedded")
    assert choose_target(checkout, "compose").target.name == "compose"


def test_an_unknown_target(checkout: Checkout) -> None:
    with pytest.raises(SwitchyardError, match="STACK-001: there is no target 'swarm'") as caught:
        make_target("swarm", checkout)
    assert caught.value.exit_code == 2


def test_nothing_was_ever_started(checkout: Checkout) -> None:
    with pytest.raises(SwitchyardError, match="STACK-003: no stack was started") as caught:
        current_target(checkout)
    assert caught.value.fix == "make up"
