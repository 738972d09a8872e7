"""The database goes away, services are killed: nothing acknowledged is lost, and everybody says the truth."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from faults.stack import broken_promises
from pages import text_of, visitor
from targets import Target
from watch import Seen, ready, until, watching

HEALTH = [(service, path) for service in ("trading-bot", "dashboard") for path in ("/healthz", "/readyz")]
SLACK_S = 10  # what a machine that does much else may add to a promise
PAUSE_S = 18  # longer than the longest call that may block (12 s)

pytestmark = pytest.mark.destructive


def acknowledged(target: Target) -> set[str]:
    """The intents whose fill the bot has reported as recorded, from its log."""
    lines = (
        json.loads(line[line.index("{") :]) for line in target.logs("trading-bot").splitlines() if '"intent_id"' in line
    )
    return {line["intent_id"] for line in lines if line["event"] == "fill"}


def fills(target: Target) -> int:
    return target.value("SELECT count(*) FROM fills")


@contextmanager
def trading_goes_on(target: Target) -> Iterator[None]:
    """Nothing that the bot acknowledged before or during the block is missing after it, and it trades on by itself."""
    until(lambda: acknowledged(target), 60, "the bot has acknowledged a fill")
    before = acknowledged(target)
    yield
    ready(target, timeout_s=40)
    now = fills(target)
    until(lambda: fills(target) > now, 60, "the bot trades again")
    # the row is there a moment before the line that acknowledges it
    after = until(lambda: (seen := acknowledged(target)) - before and seen, 60, "the bot acknowledges a new fill")
    assert after > before, "the log forgot something"
    assert broken_promises(target, after) == []


def assert_alive_throughout(seen: dict[tuple[str, str], Seen]) -> None:
    for (service, path), answers in seen.items():
        if path == "/healthz":
            assert answers.codes() == {200}, f"{service}: {answers.answers}"
        else:
            assert answers.codes() <= {200, 503}, f"{service}: {answers.answers}"
            assert answers.answers[-1][1] == 200, f"{service}: {answers.answers[-1]}"
            reasons = [json.loads(body)["reason"] for _, code, body in answers.answers if code == 503]
            assert all(reasons), f"{service} is not ready and does not say why"


def restart(target: Target) -> None:
    target.instance.switchyard("restart", "postgres")


def kill(target: Target) -> None:
    target.kill("postgres")


def kill_one_backend(target: Target) -> None:
    target.kill_backend(target.value("SELECT pid FROM pg_stat_activity WHERE usename = 'trading_bot' LIMIT 1"))


@pytest.mark.parametrize("fault", [restart, kill, kill_one_backend], ids=lambda fault: fault.__name__)
def test_postgres_comes_back_by_itself(whole: Target, fault: Callable[[Target], None]) -> None:
    services = {name: whole.identity(name) for name in ("trading-bot", "dashboard")}
    with trading_goes_on(whole), watching(whole, *HEALTH) as seen:
        fault(whole)
        time.sleep(1)
        ready(whole, timeout_s=90)
        time.sleep(1)
    assert_alive_throughout(seen)
    assert {name: whole.identity(name) for name in services} == services, (
        "a service was restarted; it should have waited"
    )


def test_a_paused_postgres_is_not_ready_and_the_last_figures_stay(whole: Target) -> None:
    with visitor(whole) as client, trading_goes_on(whole):
        until(lambda: figures(client.get("/").text), 60, "figures on the overview")
        with watching(whole, *HEALTH) as seen:
            whole.pause("postgres")
            began = time.monotonic()
            try:
                page = ""
                while time.monotonic() - began < PAUSE_S:
                    answer = client.get("/", timeout=30)
                    assert answer.status_code == 200
                    page = answer.text
                    time.sleep(0.5)
            finally:
                whole.resume("postgres")
            ready(whole, timeout_s=90)
            time.sleep(1.5)
        assert_alive_throughout(seen)
        for service in ("trading-bot", "dashboard"):
            during = [
                code for at, code, _ in seen[service, "/readyz"].answers if 5 < at < PAUSE_S - 6
            ]  # asked and answered during it
            assert set(during) == {503}, f"{service}: {seen[service, '/readyz'].answers}"
        assert figures(page), "the last figures are gone"
        assert re.search(r"not answering since .+; showing data from .+ ago", text_of(page)), text_of(page)[:1500]
        until(lambda: "not answering" not in text_of(client.get("/").text), 60, "the page is fresh again")


def figures(page: str) -> list[str]:
    """The amounts on a page that are not zero."""
    return [amount for amount in re.findall(r"\d[\d,]*\.\d\d", text_of(page)) if float(amount.replace(",", "")) != 0]


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
def test_a_killed_service_is_back_by_itself(whole: Target, service: str) -> None:
    before = whole.identity(service)
    with trading_goes_on(whole):
        whole.kill(service)
        until(
            lambda: whole.answer(service, "/readyz")[0] == 200 and whole.identity(service) != before,
            90,
            f"{service} is back",
        )


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
def test_sigterm_ends_a_service_in_order(whole: Target, service: str) -> None:
    code, seconds = whole.terminate(service)
    assert code == 0
    assert seconds <= 10 + SLACK_S
    ready(whole, timeout_s=90)
    if service == "trading-bot":  # it gave its lease back, so the next one did not have to wait for the end of it
        assert broken_promises(whole, acknowledged(whole)) == []


def test_exhausted_connections_of_one_role_are_that_roles_problem(whole: Target) -> None:
    """F13: the dashboard's connections run out; bot, administrator and migrator still get in."""
    program = """
import os, time, psycopg2
held = []
try:
    while len(held) < 200:
        held.append(psycopg2.connect(os.environ["DATABASE_URL"]))
except psycopg2.OperationalError as error:
    print(str(error).strip(), flush=True)
time.sleep(8)
"""
    limit = whole.value("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'dashboard'")
    assert 0 < limit < 50
    said: list[str] = []
    greedy = threading.Thread(target=lambda: said.append(whole.python("dashboard", program).stdout))
    greedy.start()
    try:
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'dashboard'"
        until(lambda: whole.value(count) >= limit, 60, "all connections of the role are taken")
        assert whole.answer("trading-bot", "/readyz")[0] == 200
        whole.instance.switchyard("db", "prepare")
    finally:
        greedy.join()
    assert 'too many connections for role "dashboard"' in said[0]


def test_a_long_lock_is_waited_out(whole: Target) -> None:
    """F16: nobody hangs on a locked table, and afterwards the books balance."""
    lock = threading.Thread(
        target=whole.run_sql,
        args=[  # the bot may hold one of the tables already: it is the one to give way
            "BEGIN; SET LOCAL deadlock_timeout = '60s';"
            " LOCK TABLE trades, fills, order_intents IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(15); COMMIT"
        ],
    )
    with visitor(whole) as client, trading_goes_on(whole):
        lock.start()
        try:
            time.sleep(1)
            while lock.is_alive():
                began = time.monotonic()
                answer = client.get("/trades", timeout=40)
                assert answer.status_code in (200, 503)
                assert time.monotonic() - began <= 12 + SLACK_S
                assert whole.get("trading-bot", "/healthz")[0] == 200
                time.sleep(0.5)
        finally:
            lock.join()


def test_two_migrators_at_once(whole: Target) -> None:
    """F27: on an empty database and on one that is at head, both end well and it is migrated once."""
    results: list[int] = []

    def prepare() -> None:
        results.append(whole.instance.switchyard("db", "prepare", check=False).returncode)

    both = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert results == [0, 0]
    database = whole.status()["database"]
    assert database["revision"] == database["head"]
    assert whole.value("SELECT count(*) FROM alembic_version") == 1


def test_a_schema_that_the_code_does_not_know_is_not_ready(whole: Target) -> None:
    """Readiness says which revision it found; the right one makes the service ready without a restart."""
    head = whole.status()["database"]["head"]
    whole.run_sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        for service in ("trading-bot", "dashboard"):
            until(lambda service=service: whole.answer(service, "/readyz")[0] == 503, 20, f"{service} is not ready")
            body = whole.answer(service, "/readyz")[1]
            assert "9999" in body["reason"], body
        status = whole.status()
        assert (status["database"]["revision"], status["database"]["head"]) == ("9999", head)
        for service in status["services"][1:]:
            assert not service["healthy"]
            assert "9999" in service["reason"]
        shown = whole.instance.switchyard("status", check=False).stdout
        assert "trading-bot is not ready: " in shown
        assert "dashboard is not ready: " in shown
        migrated = whole.instance.switchyard("db", "prepare", check=False)
        assert migrated.returncode != 0
        assert "9999" in migrated.stderr
    finally:
        whole.run_sql(f"UPDATE alembic_version SET version_num = '{head}'")
