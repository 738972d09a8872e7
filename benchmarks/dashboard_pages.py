"""How fast the dashboard's pages are with ten million trades, beside the same questions asked of the trades themselves.

    .venv/bin/python benchmarks/dashboard_pages.py [--trades 10000000] [--requests 40] [--url URL] [--json]

The database is made by `many_trades.py` in a throw-away server (some ten minutes on two cores, 15 GB of disk). The
pages are asked for over HTTP, of the real application in a process of its own, after a login, each with its templates
and charts; nothing is kept between two requests, and every request of a list asks for another part of it. The rival
asks the server for the same rows and sums, as one would without the sums that triggers keep and their indexes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
from many_trades import BOT_SESSION, make, require_disk
from sqlalchemy import make_url
from tradedb.testing import ROLE_PASSWORDS, free_port, throwaway_server

PASSWORD = "many-trades-under-a-lamp-9"
GOAL_P95_MS = 50
GOAL_RSS_MB = 100
DEEP_PAGES = 25
SERVE = """
import sys, uvicorn
from dashboard import memory
from dashboard.app import create_app
from dashboard.reading.snapshots import Snapshots
from dashboard.settings import DashboardSettings
from tradedb import DatabaseManager
memory.keep_little()
settings = DashboardSettings(dashboard_password=sys.argv[3], dashboard_session_secret="b" * 40)
manager = DatabaseManager(sys.argv[1], service="dashboard")
app = create_app(settings, manager, snapshots=Snapshots(fresh_for_s=0), warm=False)
memory.set_apart()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


def say(text: str) -> None:
    """Tell whoever waits what is being done."""
    print(f"  {text}", file=sys.stderr, flush=True)


@contextmanager
def dashboard(url: str) -> Iterator[tuple[httpx.Client, psutil.Process]]:
    """Yield a logged-in client of the application, and its process."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-c", SERVE, url, str(port), PASSWORD], stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                for _ in range(600):
                    try:
                        page = client.get("/login")
                        break
                    except httpx.TransportError:
                        time.sleep(0.1)
                else:
                    log.seek(0)
                    raise SystemExit(f"the dashboard did not start: {log.read().decode()}")
                token = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page.text)
                form = {"csrf_token": token[1] if token else "", "user": "admin", "password": PASSWORD}
                answer = client.post("/login", data=form, headers={"origin": str(client.base_url).rstrip("/")})
                if answer.status_code != 303:
                    raise SystemExit(f"the login answered {answer.status_code}")
                yield client, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def span(chance: random.Random, days: int) -> str:
    """Return a span of so many days somewhere in the three years."""
    start = date(2023, 1, 1) + timedelta(days=chance.randrange(1095 - days))
    return f"from={start}&to={start + timedelta(days=days - 1)}"


def questions(trades: int) -> dict[str, Callable[[random.Random], str]]:
    """Return the pages by name, each as a function that gives another address each time."""

    def some(*parts: str) -> Callable[[random.Random], str]:
        def address(chance: random.Random) -> str:
            values = {
                "symbol": f"SYM{chance.randrange(1, 13)}USDT", "strategy": f"Strategy{chance.randrange(1, 6)}",
                "source": chance.choice(["BACKTEST", "PAPER", "LIVE"]),
                "session": str(chance.randrange(1, BOT_SESSION)),
                "sort": chance.choice(["exit_time", "pnl", "pnl_percent"]), "order": chance.choice(["asc", "desc"]),
            }  # fmt: skip
            return "/trades?" + "&".join(
                f"{part}={values[part]}" if part in values else span(chance, int(part)) for part in parts
            )

        return address

    order = ("sort", "order")
    return {
        "overview": lambda _: "/",
        "overview, the whole curve": lambda _: "/?range=all",
        "overview of another session": lambda chance: f"/?session={chance.randrange(1, BOT_SESSION)}&range=all",
        "strategies": lambda _: "/strategies",
        "strategies of a symbol": lambda chance: f"/strategies?symbol=SYM{chance.randrange(1, 13)}USDT",
        "a trade": lambda chance: f"/trades/{chance.randrange(1, trades + 1)}",
        "events": lambda _: "/events",
        "database": lambda _: "/database",
        "trades": some(),
        "trades, sorted": some(*order),
        "trades of a symbol, sorted": some("symbol", *order),
        "trades of a rare symbol, sorted": lambda chance: some(*order)(chance) + "&symbol=RAREUSDT",
        "trades of a strategy and source, sorted": some("strategy", "source", *order),
        "trades of a session, sorted": some("session", *order),
        "trades of a week, sorted": some("7", *order),
        "trades of a quarter, sorted": some("90", *order),
        "trades of a symbol in a year, sorted": some("symbol", "365", *order),
    }  # fmt: skip


def timed(client: httpx.Client, address: str) -> tuple[float, str]:
    """Return the milliseconds of a request, and the page."""
    started = time.perf_counter()
    answer = client.get(address)
    took = (time.perf_counter() - started) * 1000
    if answer.status_code != 200 or 'class="stale' in answer.text:
        raise SystemExit(f"{address} answered {answer.status_code}")
    return took, answer.text


def summary(times: list[float]) -> dict[str, float]:
    """Return p50, p95 and the longest, in milliseconds."""
    ordered = sorted(times)
    return {
        "p50_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
        "max_ms": round(ordered[-1], 1),
    }


def measure(client: httpx.Client, trades: int, requests: int) -> dict[str, dict[str, float]]:
    """Return p50, p95 and max of each page, and of pages deep in a list."""
    found: dict[str, dict[str, float]] = {}
    for name, address in questions(trades).items():
        chance = random.Random(name)
        if client.get(address(chance)).status_code == 404:  # the first one also compiles templates
            say(f"{name}: there is no such page")
            found[name] = dict.fromkeys(("p50_ms", "p95_ms", "max_ms"), math.inf)
            continue
        found[name] = summary([timed(client, address(chance))[0] for _ in range(requests)])
        say(f"{name}: {found[name]}")
    for name, first in (
        ("deep in all trades", "/trades?"),
        ("deep in a symbol, by P&L", "/trades?symbol=SYM3USDT&sort=pnl"),
    ):
        times: list[float] = []
        # from the last page backwards: the furthest from where an offset would begin to count
        address = f"{first}&cursor=end"
        for _ in range(max(requests, DEEP_PAGES)):
            took, page = timed(client, address)
            times.append(took)
            link = re.search(r'rel="prev" href="([^"]+)"', page)
            if link is None:
                raise SystemExit(f"no page before {address}")
            address = link[1].replace("&amp;", "&")
        found[name] = summary(times)
        say(f"{name}: {found[name]}")
    return found


RIVALS: dict[str, tuple[str, ...]] = {
    "strategies": (
        "SELECT strategy_name, source, count(*), sum(pnl), sum(commission), count(*) FILTER (WHERE pnl > commission),"
        " max(pnl), min(pnl), avg(exit_time - entry_time) FROM trades GROUP BY 1, 2",
        "SELECT strategy_name, source, width_bucket(pnl_percent, -10, 10, 40), count(*) FROM trades GROUP BY 1, 2, 3",
    ),
    "trades": (
        "SELECT symbol, count(*) FROM trades GROUP BY 1",
        "SELECT strategy_name, count(*) FROM trades GROUP BY 1",
        "SELECT source, count(*) FROM trades GROUP BY 1",
        "SELECT count(*), sum(pnl), sum(commission), count(*) FILTER (WHERE pnl > commission) FROM trades",
        "SELECT * FROM trades ORDER BY exit_time DESC, id DESC LIMIT 50",
    ),
    "trades of a symbol, sorted": (
        "SELECT count(*), sum(pnl), sum(commission), count(*) FILTER (WHERE pnl > commission) FROM trades"
        " WHERE symbol = 'SYM3USDT'",
        "SELECT * FROM trades WHERE symbol = 'SYM3USDT' ORDER BY pnl DESC, id DESC LIMIT 50",
    ),
    "deep in all trades": ("SELECT * FROM trades ORDER BY exit_time DESC, id DESC LIMIT 50 OFFSET {deep}",),
    "overview, the whole curve": (
        "SELECT * FROM (SELECT timestamp, equity, row_number() OVER (ORDER BY timestamp, id) AS n FROM account_history"
        f" WHERE session_id = {BOT_SESSION}) x WHERE n % 5000 = 0",
        f"SELECT exit_time::date, sum(pnl - commission) FROM trades WHERE session_id = {BOT_SESSION} GROUP BY 1",
    ),
}


def rival(url: str, trades: int) -> dict[str, float]:
    """Return the milliseconds of the same questions without sums and without their indexes; the best of three."""
    connection = psycopg2.connect(url)
    found: dict[str, float] = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET jit = off")
            # inside a transaction that is taken back: the indexes are away for these questions only
            for name in ("exit", "session_exit", "group_exit", "group_pnl", "group_return"):
                cursor.execute(f"DROP INDEX ix_trades_{name}")
            cursor.execute("DROP INDEX ix_account_history_session")
            cursor.execute("CREATE INDEX rival ON trades (exit_time)")
            for name, statements in RIVALS.items():
                times: list[float] = []
                for _ in range(3):
                    started = time.perf_counter()
                    for statement in statements:
                        cursor.execute(statement.format(deep=trades - 60))
                        cursor.fetchall()
                    times.append((time.perf_counter() - started) * 1000)
                found[name] = round(min(times), 1)
                say(f"rival, {name}: {found[name]} ms")
    finally:
        connection.rollback()
        connection.close()
    return found


def at_rest_mb(url: str) -> float:
    """Return the resident memory of `dashboard run`, started as it is in earnest, fifteen seconds after it is ready."""
    port = free_port()
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("DASHBOARD_")},
        "DATABASE_URL": url, "DASHBOARD_PASSWORD": PASSWORD, "PORT": str(port), "HOST": "127.0.0.1",
    }  # fmt: skip
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("dashboard"), "run"], env=env, stdout=log, stderr=log, cwd="/"
        )
        try:
            for _ in range(300):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
            else:
                log.seek(0)
                raise SystemExit(f"dashboard run did not start: {log.read().decode()}")
            time.sleep(15)  # the main pages have been read once or twice by then, as always
            return round(psutil.Process(process.pid).memory_info().rss / 1e6, 1)
        finally:
            process.terminate()
            process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=10_000_000)
    parser.add_argument("--requests", type=int, default=40, help="of each page")
    parser.add_argument("--url", help="the administrator's URL of a database that many_trades.py made")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report: dict[str, Any] = {"schema_version": 1, "trades": args.trades, "load_before": os.getloadavg()}
    with ExitStack() as stack:
        admin_url = args.url
        if admin_url is None:
            require_disk(args.trades, tempfile.gettempdir())
            server = stack.enter_context(throwaway_server(options={"shared_buffers": "128MB", "max_wal_size": "4GB"}))
            database, report["made_in_s"] = make(server, args.trades, say)
            admin_url = database.url_text("postgres")
        reader = make_url(admin_url).set(
            drivername="postgresql", username="dashboard", password=ROLE_PASSWORDS["dashboard"]
        )
        reader_url = reader.render_as_string(hide_password=False)
        with dashboard(reader_url) as (client, process):
            report["pages"] = measure(client, args.trades, args.requests)
            report["rss_after_mb"] = round(process.memory_info().rss / 1e6, 1)
        report["rss_at_rest_mb"] = at_rest_mb(reader_url)
        report["rival_ms"] = rival(admin_url, args.trades)
    report["goal_met"] = (
        max(page["p95_ms"] for page in report["pages"].values()) <= GOAL_P95_MS
        and report["rss_at_rest_mb"] <= GOAL_RSS_MB
    )
    if args.json:
        print(json.dumps(report))
        return
    print(f"{'page':42}{'p50 ms':>9}{'p95 ms':>9}{'max ms':>9}{'rival ms':>11}{'ratio':>8}")
    for name, page in report["pages"].items():
        other = report["rival_ms"].get(name)
        ratio = f"{other:>11,.0f}{other / page['p50_ms']:>8,.0f}" if other else ""
        print(f"{name:42}{page['p50_ms']:>9}{page['p95_ms']:>9}{page['max_ms']:>9}{ratio}")
    report["load_after"] = os.getloadavg()
    for name in ("made_in_s", "load_before", "load_after", "rss_at_rest_mb", "rss_after_mb", "goal_met"):
        if name in report:
            print(f"{name:18} {report[name]}")


if __name__ == "__main__":
    main()
