"""The log: its two forms, and that no secret gets into either."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradedb import logs, redaction
from tradedb.errors import SwitchyardError
from tradedb.logs import configure_logging
from tradedb.redaction import redact, redact_value, register_secret

pytestmark = pytest.mark.usefixtures("bare_environment")

UTC_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _python_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, hooks = root.level, (sys.excepthook, threading.excepthook)
    yield
    sys.excepthook, threading.excepthook = hooks
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if isinstance(handler, logs._Handler)]:
        root.removeHandler(handler)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line() -> None:
    stream = io.StringIO()
    configure_logging("trading-bot", fmt="json", level="info", stream=stream)
    extra = {
        "rows": 3,
        "price": Decimal("1.10"),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "tags": ("a", None),
        "level": "x",
    }
    logging.getLogger("bot.ledger").info("wrote %s", "trades", extra=extra)
    logging.getLogger("bot.ledger").debug("not written")
    (line,) = lines(stream)
    assert re.fullmatch(UTC_TIME, str(line.pop("time")))
    assert line == {
        "level": "info",  # an extra never replaces one of ours
        "service": "trading-bot",
        "event": "wrote trades",
        "logger": "bot.ledger",
        "rows": 3,
        "price": "1.10",
        "at": "2026-01-02 00:00:00+00:00",
        "tags": ["a", None],
    }
    assert list(json.loads(stream.getvalue()))[:4] == ["time", "level", "service", "event"]


def test_a_plain_line_and_its_traceback() -> None:
    stream = io.StringIO()
    configure_logging("dashboard", fmt="plain", level="INFO", stream=stream)
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"table": "trades"})
    first, *rest = stream.getvalue().splitlines()
    assert re.fullmatch(UTC_TIME + r" ERROR   dashboard: failed table=trades", first)
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: boom"


def test_a_json_line_stays_one_line_whatever_is_in_it() -> None:
    stream = io.StringIO()
    configure_logging("s", fmt="json", level="INFO", stream=stream)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("x").exception("a\nb\u2028c", stack_info=True)
    (line,) = lines(stream)
    assert line["event"] == "a\nb\u2028c"
    assert str(line["exception"]).endswith("ValueError: two\nlines")
    assert str(line["stack"]).startswith("Stack (most recent call last)")


SECRET = 'hunter2"sec\\ret\n@ß'


def test_no_secret_in_message_arguments_extra_exception_or_stack() -> None:
    register_secret(SECRET)
    for fmt in ("json", "plain"):
        stream = io.StringIO()
        configure_logging("s", fmt=fmt, level="DEBUG", stream=stream)  # type: ignore[arg-type]
        log = logging.getLogger("x")
        log.info(f"message {SECRET}")
        log.info("argument %s and %r", SECRET, {"key": SECRET})
        log.info("extra", extra={"deep": {"list": [SECRET], "repr": repr(SECRET)}, SECRET: 1, "password": "short"})
        try:
            try:
                raise ValueError(f"inner {SECRET}")
            except ValueError as error:
                raise RuntimeError(f"outer postgresql://u:{SECRET}@h/d") from error
        except RuntimeError:
            log.exception("failed")
        written = stream.getvalue()
        assert "hunter2" not in written
        assert "ret" not in written.replace("secret", "")
        assert "short" not in written
        assert "argument *** and" in written
        assert "outer postgresql://u:***@h/d" in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://bot:pw@h:1/d?x=1", "postgresql://bot:***@h:1/d?x=1"),
        ("see postgres://bot:p@ss:w/rd?#%zz@h/d now", "see postgres://bot:***@h/d now"),
        ("redis://:pw@h", "redis://:***@h"),
        ("https://example.com/a?b=c", "https://example.com/a?b=c"),
        ("http://127.0.0.1:8080/login for admin@x", "http://127.0.0.1:8080/login for admin@x"),
        ("host=h password=pw user=u", "host=h password=*** user=u"),
        ("host=h password='p w\\'x' user=u", "host=h password=*** user=u"),
        ('PGPASSWORD="p w" psql', "PGPASSWORD=*** psql"),
        ("PASSWORD = pw", "PASSWORD = ***"),
        ("DASHBOARD_SESSION_SECRET=abc x", "DASHBOARD_SESSION_SECRET=*** x"),
        ('{"password": "pw", "user": "u"}', '{"password": ***, "user": "u"}'),
        ("{'api_key': 'pw'}", "{'api_key': ***}"),
        ("password='never ends", "password=*** ends"),
        ("password authentication failed for user", "password authentication failed for user"),
        ("CSRF token: missing", "CSRF token: missing"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_patterns_of_passwords_that_nobody_registered(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.text(min_size=6), st.text())
def test_a_registered_secret_never_comes_through(secret: str, around: str) -> None:
    redaction._secrets.clear()
    register_secret(secret)
    text = redact(f"{around}{secret}{around}")
    assert redaction.HIDDEN in text
    if secret not in redaction.HIDDEN + around + redaction.HIDDEN:
        assert secret not in text or secret in redact(around + redaction.HIDDEN + around)


def test_short_values_hide_no_words_and_longer_secrets_go_first() -> None:
    register_secret("admin")
    assert redact("admin page") == "admin page"
    register_secret("secret-one")
    register_secret("secret-one-and-more")
    assert redact("secret-one-and-more, secret-one") == "***, ***"
    register_secret("p@ss word/1")
    assert redact("p%40ss%20word%2F1") == "***"


@pytest.mark.parametrize(
    "piece", ["a", "a-", "a.", "a://b:", "a://b", "password", "password=", "'", " ", "'password' : "]
)
def test_a_long_line_does_not_take_long(piece: str) -> None:
    started = time.process_time()
    redact(piece * (100_000 // len(piece)))
    assert time.process_time() - started < 5  # a repetition without a bound takes minutes


def test_values_keep_their_kind() -> None:
    assert redact_value({"n": 1, "f": 1.5, "b": True, "none": None, "s": {"x"}}) == {
        "n": 1,
        "f": 1.5,
        "b": True,
        "none": None,
        "s": ["x"],
    }
    assert redact_value({"token": "t", "password": None}) == {"token": "***", "password": None}


def test_configured_by_the_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("s")
    logging.getLogger("x").info("one")
    captured = capsys.readouterr()
    assert (captured.out, captured.err.endswith(" INFO    s: one\n")) == ("", True)  # plain: stderr

    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("LOG_LEVEL", "warning")
    configure_logging("s")
    logging.getLogger("x").info("hidden")
    logging.getLogger("x").warning("two")
    captured = capsys.readouterr()
    assert (json.loads(captured.out)["event"], captured.err) == ("two", "")  # json: stdout, and once

    monkeypatch.delenv("LOG_FORMAT")
    monkeypatch.setenv("RAILWAY_ENVIRONMENT", "production")
    configure_logging("s")
    logging.getLogger("x").warning("three")
    assert json.loads(capsys.readouterr().out)["event"] == "three"


def test_a_wrong_word_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(SwitchyardError, match="CONFIG-002: LOG_FORMAT: expected 'json' or 'plain', found 'xml'"):
        configure_logging("s")


def test_uvicorn_and_warnings_go_the_same_way() -> None:
    uvicorn = logging.getLogger("uvicorn.access")
    uvicorn.addHandler(logging.StreamHandler(io.StringIO()))
    uvicorn.propagate = False
    stream = io.StringIO()
    configure_logging("s", fmt="json", level="INFO", stream=stream)
    uvicorn.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/healthz", "1.1", 200)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # catch_warnings took the place of our hook
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    access, warning = lines(stream)
    assert (access["event"], access["logger"]) == ('127.0.0.1:1 - "GET /healthz HTTP/1.1" 200', "uvicorn.access")
    assert (warning["level"], warning["logger"]) == ("warning", "py.warnings")


def test_uncaught_exceptions_are_logged_redacted() -> None:
    program = """
import sys, threading
from tradedb.logs import configure_logging
configure_logging("s", fmt="json", level="INFO")
def fail(): raise RuntimeError("in a thread: password=hunter2secret")
thread = threading.Thread(target=fail, name="worker"); thread.start(); thread.join()
raise RuntimeError("postgresql://u:hunter2secret@h/d")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    in_thread, at_end = [json.loads(line) for line in done.stdout.splitlines()]
    assert (in_thread["level"], in_thread["event"]) == ("critical", "uncaught exception in a thread")
    assert in_thread["thread_name"] == "worker"
    assert in_thread["exception"].endswith("RuntimeError: in a thread: password=***")
    assert (at_end["event"], at_end["logger"]) == ("uncaught exception", "tradedb.logs")
    assert at_end["exception"].endswith("RuntimeError: postgresql://u:***@h/d")


def test_importing_configures_nothing() -> None:
    program = (
        "import logging, tradedb.logs, tradedb.config; print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "[] 30"
