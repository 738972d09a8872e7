"""The one picture: both services on one database, each under its own name, and nothing open that should be closed."""

from __future__ import annotations

import json
import socket

import pytest
from pages import anonymous, text_of, trade_ids, visitor
from targets import SERVICES, Target
from watch import ready, until

OURS = SERVICES[1:]


def test_both_services_see_the_same_database_through_their_own_url(target: Target) -> None:
    seen = {service: target.execute(service, "tradedb", "info", "--json").json()["database"] for service in OURS}
    expected = target.value("SELECT system_identifier::text FROM pg_control_system()")
    assert {info["system_identifier"] for info in seen.values()} == {expected}
    assert {service: info["user"] for service, info in seen.items()} == {
        "trading-bot": "trading_bot",
        "dashboard": "dashboard",
    }
    assert target.status()["database"]["system_identifier"] == expected


def test_readiness_names_the_database_and_its_revision(target: Target) -> None:
    ready(target)
    database = target.status()["database"]
    for service in OURS:
        code, body = target.answer(service, "/readyz")
        assert code == 200
        assert (body["status"], body["service"]) == ("ready", service)
        assert body["system_identifier"] == database["system_identifier"]
        assert body["revision"] == body["head"] == database["revision"] == database["head"]


def test_status_is_the_promised_object(target: Target) -> None:
    ready(target)
    until(lambda: all(service["healthy"] for service in target.status()["services"]), 90, "all are healthy")
    status = target.status()
    assert list(status) == ["schema_version", "target", "services", "database"]
    assert (status["schema_version"], status["target"]) == (1, target.name)
    assert [service["name"] for service in status["services"]][:3] == list(SERVICES)
    for service in status["services"]:
        assert list(service) == ["name", "state", "url", "healthy", "own", "reason"]
    facts = ["host", "port", "server_version", "system_identifier", "revision", "head", "reason"]
    assert list(status["database"]) == facts
    assert status["database"]["reason"] is None
    assert status["database"]["server_version"].startswith("18.")


def test_a_trade_of_the_bot_appears_on_the_dashboard(target: Target) -> None:
    ready(target)
    before = target.value("SELECT coalesce(max(id), 0) FROM trades")
    trade = until(
        lambda: target.sql(f"SELECT id, order_id FROM trades WHERE id > {before} ORDER BY id LIMIT 1"),
        60,
        "the bot makes a trade",
    )[0]
    with visitor(target) as client:
        until(lambda: trade["id"] in trade_ids(client.get("/trades").text), 60, f"trade {trade['id']} on the page")


def test_what_the_bot_must_not_forget_is_in_its_folder_and_whole(target: Target) -> None:
    ready(target)
    until(lambda: target.value("SELECT count(*) FROM fills") >= 2, 60, "the bot trades")
    found = target.execute("trading-bot", "trading-bot", "spool", "verify", "--json").json()["spools"]
    assert sum(spool["entries"] for spool in found) >= 2
    assert all(spool["sound"] for spool in found)
    assert any(spool["held_by"] for spool in found), "by the bot that runs"
    identifier = target.status()["database"]["system_identifier"]
    assert all(spool["identity"].startswith(f"{identifier}/") for spool in found)
    recorded = target.value("SELECT max(venue_sequence) FROM fills WHERE venue = 'SIMULATED'")
    program = (
        "import os, sqlite3; file = sqlite3.connect(os.environ['BOT_STATE_DIR'] + '/venue.db')\n"
        "print(file.execute('SELECT max(sequence) FROM fills').fetchone()[0])"
    )
    assert int(target.python("trading-bot", program).stdout) >= recorded


def test_the_page_says_that_the_market_is_simulated(target: Target) -> None:
    with visitor(target) as client:
        assert "SIMULATED" in text_of(client.get("/").text).upper()


def test_the_database_page_names_the_database(target: Target) -> None:
    with visitor(target) as client:
        page = text_of(client.get("/database").text)
    database = target.status()["database"]
    assert database["system_identifier"] in page
    assert database["revision"] in page
    for role in ("trading_bot", "dashboard"):
        assert role in page


@pytest.mark.parametrize("path", ["/", "/trades", "/database"])
def test_no_page_without_a_login(target: Target, path: str) -> None:
    with anonymous(target) as client:
        answer = client.get(path)
    assert 'type="password"' in answer.text
    assert "trading_bot" not in answer.text


def test_each_service_has_only_its_own_secrets(target: Target) -> None:
    secrets = target.instance.secrets()
    own = {
        "trading-bot": {"TRADING_BOT_DB_PASSWORD"},
        "dashboard": {"DASHBOARD_DB_PASSWORD", "DASHBOARD_PASSWORD", "DASHBOARD_SESSION_SECRET"},
    }
    for service, allowed in own.items():
        environment = target.python(service, "import json, os; print(json.dumps(dict(os.environ)))").stdout
        known = {name for name, value in secrets.items() if value in environment}
        assert known == allowed, f"{service} knows {known}"


@pytest.mark.targets("compose")
def test_private_names_resolve_and_answer(target: Target) -> None:
    program = """
import json, os, socket, sys, urllib.request
said = {}
for name, port in json.loads(sys.argv[1]).items():
    host = f"{name}.railway.internal"
    if name == "postgres":
        socket.create_connection((host, port), timeout=5).close()
        said[name] = "open"
    else:
        said[name] = json.load(urllib.request.urlopen(f"http://{host}:{port}/healthz", timeout=5))["service"]
print(json.dumps(said))
"""
    ports = {"postgres": 5432} | {
        service: int(target.python(service, "import os; print(os.environ['PORT'])").stdout) for service in OURS
    }
    for service in OURS:
        said = json.loads(target.python(service, program, json.dumps(ports)).stdout)
        assert said == {"postgres": "open", "trading-bot": "trading-bot", "dashboard": "dashboard"}


@pytest.mark.targets("compose")
def test_nothing_but_the_dashboard_is_open_on_the_host(target: Target) -> None:
    settings = target.instance.read_env()
    for port in (5432, int(settings["DATABASE_DEBUG_PORT"])):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"the database answers on 127.0.0.1:{port}"
    assert target.status()["services"][2]["url"].startswith(f"http://127.0.0.1:{settings['DASHBOARD_PORT']}")


@pytest.mark.targets("embedded")
def test_everything_listens_on_loopback_only(target: Target) -> None:
    addresses = target.value("SELECT setting FROM pg_settings WHERE name = 'listen_addresses'")
    assert addresses == "127.0.0.1"
    assert target.status()["database"]["host"] == "127.0.0.1"
    assert (
        target.value("SELECT count(*) FROM pg_hba_file_rules WHERE auth_method NOT IN ('scram-sha-256', 'reject')") == 0
    )


def test_the_server_keeps_what_it_acknowledges(target: Target) -> None:
    wanted = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "data_checksums": "on"}
    names = ", ".join(f"'{name}'" for name in wanted)
    rows = target.sql(f"SELECT name, setting FROM pg_settings WHERE name IN ({names})")
    assert {row["name"]: row["setting"] for row in rows} == wanted
