"""No call waits for ever: frozen servers, silent networks, dead name services. Times are bounds that are promised."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from sqlalchemy import Connection, text
from tradedb.config.settings import DatabaseSettings
from tradedb.engine import resolve
from tradedb.manager import DatabaseManager, DatabaseUnavailable, OutcomeUnknown
from tradedb.testing import PostgresServer, ThrowawayDatabase
from tradedb.testing_proxy import tcp_proxy

MakeManager = Callable[..., DatabaseManager]
SLACK_S = 15  # what a machine that does much else may add; without a bound each of these would last for minutes


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def one(connection: Connection) -> int:
    return connection.execute(text("SELECT 1")).scalar_one()


def test_no_call_takes_longer_than_12_s_by_default(
    database: ThrowawayDatabase, postgres: PostgresServer, silent_port: int, make_manager: MakeManager
) -> None:
    """The four ways in which a server can go silent, at once, with every default; each is measured."""

    def silent_in_query() -> str:
        with tcp_proxy(postgres.port) as proxy:
            manager = make_manager(database.url("trading_bot").set(port=proxy.port))

            def work(connection: Connection) -> None:
                one(connection)
                proxy.silent = True
                one(connection)

            return outcome(manager, work)

    def silent_in_commit() -> str:
        with tcp_proxy(postgres.port) as proxy:
            manager = make_manager(database.url("trading_bot").set(port=proxy.port))

            def work(connection: Connection) -> None:
                one(connection)
                proxy.on_commit = "silence reply"

            return outcome(manager, work)

    def stopped_backend() -> str:
        manager = make_manager(database.url("trading_bot"))
        pids: list[int] = []

        def work(connection: Connection) -> None:
            pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
            postgres.pause(pids[0])
            one(connection)

        try:
            return outcome(manager, work)
        finally:
            postgres.resume(pids[0])

    def silent_at_connect() -> str:
        return outcome(make_manager(database.url("trading_bot").set(port=silent_port)), one)

    def outcome(manager: DatabaseManager, work: Callable[[Connection], object]) -> str:
        started = time.monotonic()
        with pytest.raises(DatabaseUnavailable) as failed:
            manager.transaction(work, name="t")
        took_s = time.monotonic() - started
        assert took_s <= 12 + SLACK_S
        assert manager.pool_status().checked_out == 0
        return failed.value.code

    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(run) for run in (silent_in_query, silent_in_commit, stopped_backend, silent_at_connect)]
        # in the first the server ends the session itself after 10 s (idle in transaction), before our deadline
        assert [run.result(timeout=90) for run in runs] == ["DB-009", "DB-010", "DB-008", "DB-008"]


def test_the_sockets_own_timers_do_not_see_a_frozen_server(postgres: PostgresServer) -> None:
    """Why there is a watchdog: every libpq timer set to a second, and the call is still blocked after four."""
    with tcp_proxy(postgres.port) as proxy:
        connection = psycopg2.connect(
            host="127.0.0.1", port=proxy.port, user="postgres", password=postgres.password, dbname="postgres",
            tcp_user_timeout=1000, keepalives=1, keepalives_idle=1, keepalives_interval=1, keepalives_count=1,
        )  # fmt: skip
        cursor = connection.cursor()
        proxy.silent = True

        def ask() -> None:
            with pytest.raises(psycopg2.OperationalError):
                cursor.execute("SELECT 1")

        blocked = threading.Thread(target=ask, daemon=True)
        blocked.start()
        blocked.join(4)
        assert blocked.is_alive()
        proxy.cut()
        blocked.join(60)
        assert not blocked.is_alive()
        connection.close()


@pytest.mark.parametrize("deadline_s", [0.5, 2.0])
def test_a_shorter_deadline_is_kept(database: ThrowawayDatabase, make_manager: MakeManager, deadline_s: float) -> None:
    manager = make_manager(database.url("postgres"))
    manager.read(one, name="warm")
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable) as failed:
        manager.read(lambda c: c.execute(text("SELECT pg_sleep(30)")), name="nap", deadline_s=deadline_s)
    assert deadline_s - 0.1 <= time.monotonic() - started <= deadline_s + SLACK_S
    assert failed.value.code == "DB-008"
    assert failed.value.exit_code == 69
    place = f"127.0.0.1:{database.server.port}/{database.name}"
    assert failed.value.what == f"{place} did not answer within {deadline_s:.1f} s"
    assert failed.value.why.endswith("Nothing was changed.")
    manager.read(one, name="the pool is whole")


def test_a_frozen_commit_is_unknown_and_the_pool_recovers(
    database: ThrowawayDatabase, postgres: PostgresServer, make_manager: MakeManager
) -> None:
    with tcp_proxy(postgres.port) as proxy:
        manager = make_manager(database.url("trading_bot").set(port=proxy.port))

        def work(connection: Connection) -> None:
            connection.execute(
                text("INSERT INTO system_events (timestamp, event_type, message) VALUES (now(), 'T', 'm')")
            )
            proxy.on_commit = "silence reply"

        with pytest.raises(OutcomeUnknown):
            manager.transaction(work, name="t", deadline_s=1.5)
        assert database.execute("SELECT count(*) FROM system_events") == [(1,)]
        assert manager.read(one, name="t") == 1
        assert manager.pool_status().checked_out == 0


def test_health_answers_within_5_s_when_nothing_else_does(
    database: ThrowawayDatabase, silent_port: int, make_manager: MakeManager
) -> None:
    started = time.monotonic()
    health = make_manager(database.url("trading_bot").set(port=silent_port)).health()
    assert time.monotonic() - started <= 5 + SLACK_S
    assert not health.ok
    assert health.code == "DB-008"
    assert health.latency_ms is None


def test_health_answers_within_5_s_when_the_name_service_hangs(
    monkeypatch: pytest.MonkeyPatch, make_manager: MakeManager
) -> None:
    """F1 of failure-modes: the name service went away, and both bots hung for days."""
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_a, **_k: [released.wait(120)][:0])
    started = time.monotonic()
    health = make_manager("postgresql://trading_bot:x@postgres.railway.internal/railway").health()
    released.set()
    assert time.monotonic() - started <= 5 + SLACK_S
    assert health.code == "DB-002"
    assert health.reason is not None
    assert health.reason.startswith("the host of postgres.railway.internal:5432/railway is unknown")


def test_health_answers_when_every_connection_is_in_use(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    settings = DatabaseSettings.model_construct(pool_size=1, max_overflow=0)
    manager = make_manager(database.url("postgres"), settings=settings)
    inside, leave = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        one(connection)
        inside.set()
        leave.wait(120)

    holder = threading.Thread(target=lambda: manager.transaction(hold, name="hold"))
    holder.start()
    assert inside.wait(60)
    started = time.monotonic()
    health = manager.health()
    took_s = time.monotonic() - started
    leave.set()
    holder.join(60)
    assert took_s <= 5 + SLACK_S
    assert health.code == "DB-011"
    assert manager.health().ok


def test_health_never_raises(
    database: ThrowawayDatabase, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(database.url("trading_bot"))

    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("password=hunter2 in a bug")

    monkeypatch.setattr(manager, "read", broken)
    health = manager.health()
    assert not health.ok
    assert health.reason is not None
    assert "hunter2" not in health.reason


def test_resolving_gives_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_a, **_k: [released.wait(120)][:0])
    started = time.monotonic()
    with pytest.raises(psycopg2.OperationalError, match=r'host name "db" to address: did not resolve within'):
        resolve("db", 0.3)
    released.set()
    assert time.monotonic() - started < SLACK_S


def test_localhost_resolves_to_this_machine() -> None:
    assert set(resolve("localhost", 3)) & {"127.0.0.1", "::1"}


def test_several_addresses_of_a_host_are_tried_within_one_connect_timeout(
    database: ThrowawayDatabase, make_manager: MakeManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with a dead IPv6 address and a living IPv4 one, as a private network can have it."""
    real = socket.getaddrinfo

    def two(host: str, *rest: object, **more: object) -> list[tuple[object, ...]]:
        if host != "db.test":
            return real(host, *rest, **more)  # type: ignore[arg-type, return-value]
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.2", 0)), (*kind, ("127.0.0.1", 0))]

    monkeypatch.setattr("socket.getaddrinfo", two)
    settings = DatabaseSettings.model_construct(database_allow_plaintext=True)
    manager = make_manager(database.url("trading_bot").set(host="db.test"), settings=settings)
    assert manager.read(one, name="t") == 1


def test_every_wait_of_libpq_is_set(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    manager = make_manager(database.url("trading_bot"))
    parameters = manager.read(lambda c: c.connection.dbapi_connection.get_dsn_parameters(), name="t")  # type: ignore[union-attr]
    wanted = {
        "connect_timeout": "5",
        "tcp_user_timeout": "6000",
        "keepalives": "1",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "target_session_attrs": "read-write",
        "require_auth": "scram-sha-256",
    }
    assert {name: parameters.get(name) for name in wanted} == wanted
    assert parameters["application_name"].startswith("test/")
    assert not parameters.get("options")  # PgBouncer refuses it


def test_what_the_url_says_wins(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    url = database.url("dashboard").update_query_dict({"connect_timeout": "4", "application_name": "mine"})
    parameters = make_manager(url).read(lambda c: c.connection.dbapi_connection.get_dsn_parameters(), name="t")  # type: ignore[union-attr]
    assert parameters["connect_timeout"] == "4"
    assert parameters["application_name"] == "mine"
    assert "target_session_attrs" not in parameters or parameters["target_session_attrs"] == "any"


def test_handles_are_closed_with_their_connections(database: ThrowawayDatabase, make_manager: MakeManager) -> None:
    """Each connection has a second handle on its socket; neither may leak, nor keep the server's session alive."""
    manager = make_manager(database.url("trading_bot"))
    for _ in range(5):
        manager.read(one, name="t")
        manager.dispose()
    deadline = time.monotonic() + 60
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trading_bot' AND datname = %s"
    while database.execute(sql, [database.name]) != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
