"""Logging of a process: JSON lines on a server, plain lines on a terminal, secrets in neither.

Libraries only call `logging.getLogger`; the program that starts calls `configure_logging` once.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from tradedb.redaction import redact, redact_value

LogFormat = Literal["json", "plain"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, service, event, then what the call gave as `extra`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, redacted."""
        line: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "service": self.service,
            "event": redact(record.getMessage()),
            "logger": record.name,
        }
        for key, value in redact_value(_extra(record)).items():
            line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = redact(record.stack_info)
        return json.dumps(line)


class PlainFormatter(logging.Formatter):
    """A line for people: time, level, service, event, key=value pairs; a traceback below it."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line, redacted."""
        pairs = "".join(f" {key}={value}" for key, value in redact_value(_extra(record)).items())
        line = f"{_utc(record.created)} {record.levelname:<7} {self.service}: {redact(record.getMessage())}{pairs}"
        for more in (self.formatException(record.exc_info) if record.exc_info else "", record.stack_info or ""):
            if more:
                line += "\n" + redact(more)
        return line


class _Handler(logging.StreamHandler[TextIO]):
    """The one handler that `configure_logging` adds, so that a second call can replace it."""


def configure_logging(
    service: str, *, fmt: LogFormat | None = None, level: str | None = None, stream: TextIO | None = None
) -> None:
    """Send this process's log to one stream, redacted. Call it once, first thing in a program, never in a library.

    Uncaught exceptions, warnings and uvicorn's loggers go the same way (start uvicorn with ``log_config=None``).

    Args:
        service: the field `service` of every line.
        fmt: without it LOG_FORMAT; without that json on Railway and plain elsewhere.
        level: without it LOG_LEVEL; without that INFO.
        stream: without it stdout for json (a server's log) and stderr for plain. A command whose stdout is data
            gives `sys.stderr`.

    Raises:
        SwitchyardError: CONFIG-002, when LOG_FORMAT or LOG_LEVEL is none of the words it may be.
    """
    if fmt is None or level is None:
        from tradedb.config import LogSettings, load_settings, on_railway

        settings = load_settings(LogSettings)
        fmt = fmt or settings.log_format or ("json" if on_railway() else "plain")
        level = level or settings.log_level
    handler = _Handler(stream or (sys.stdout if fmt == "json" else sys.stderr))
    handler.setFormatter(JsonFormatter(service) if fmt == "json" else PlainFormatter(service))
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("alembic").setLevel(logging.WARNING)  # who migrates says himself what he did
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Log the exception that ends the process, redacted; Python's own hook would print it as it is."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger(__name__).critical("uncaught exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread."""
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    logging.getLogger(__name__).critical(
        "uncaught exception in a thread",
        exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        extra={"thread_name": args.thread.name if args.thread else None},
    )


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the call gave as `extra`."""
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD}


def _utc(seconds: float) -> str:
    """Return an epoch time like 2026-01-31T12:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
