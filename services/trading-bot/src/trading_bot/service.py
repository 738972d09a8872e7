"""The process: settings in, HTTP first, the loop in a thread, signals to a clean end."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import signal
import socket
import threading
from pathlib import Path

from tradedb.config import DatabaseSettings, load_settings, resolve_database_url
from tradedb.config.sources import on_railway
from tradedb.errors import SwitchyardError
from tradedb.logs import configure_logging
from tradedb.manager import DatabaseManager

from trading_bot.bot import Bot
from trading_bot.feeds.opening import open_feed
from trading_bot.probes import SERVICE, Probes, serve
from trading_bot.settings import BotSettings
from trading_bot.spool import Spool
from trading_bot.spooled import FactSpool
from trading_bot.status import Status
from trading_bot.strategies.registry import build_strategy
from trading_bot.venue.paper import PaperVenue

STOP_WITHIN_S = 8.0
VENUE_RETRY_S = 5.0

log = logging.getLogger(__name__)


def run() -> int:
    """Run the bot until SIGTERM or SIGINT; return the exit code: 0 after a signal, 1 when the loop ended by itself.

    Raises: SwitchyardError, the configuration is wrong (78) or the port is taken (1); nothing was started.
    """
    configure_logging(SERVICE)
    settings = load_settings(BotSettings)
    database_settings = load_settings(DatabaseSettings)
    strategy = build_strategy(settings.bot_strategy, settings.bot_strategy_parameters)
    feed = open_feed(settings)
    database = resolve_database_url(database_settings)
    manager = DatabaseManager(database.url, service=SERVICE, settings=database_settings)
    status = Status()
    server = serve(Probes(manager, status, feed=feed), host=settings.host, port=settings.port)
    log.info(
        "listening",
        extra={
            "host": settings.host,
            "port": server.server_address[1],
            "database": manager.url_redacted,
            "origin": database.origin,
        },
    )
    ending = _Ending()
    venue = _usable_venue(settings, feed.venue, status, ending)
    if venue is None:
        return 0
    bot = Bot(
        settings=settings,
        manager=manager,
        feed=feed,
        strategy=strategy,
        venue=venue,
        spool=fact_spool(settings),
        status=status,
        holder=f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}",
        local_file=database.url if database.dialect == "sqlite" else None,
    )
    return _until_asked(bot, manager, ending)


class _Ending:
    """Somebody asked this process to end: SIGTERM or SIGINT.

    The signal's handler interrupts whatever the main thread does, also while that holds a lock: it takes none itself,
    and wakes the main thread through a pipe.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._wakened, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._heard)

    def wake(self) -> None:
        """End the wait of the main thread; from any thread."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(self._waker, b"!")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Return whether the process is asked to end, at the latest after so many seconds."""
        select.select([self._wakened], [], [], timeout_s)
        return self.asked is not None

    def _heard(self, number: int, _frame: object) -> None:
        self.asked = signal.Signals(number)
        self.wake()


def _usable_venue(settings: BotSettings, name: str, status: Status, ending: _Ending) -> PaperVenue | None:
    """Return the venue once its file can be used; None when the process is asked to end before.

    A process that ended instead would be restarted for ever, and could tell nobody why.
    """
    said = ""
    while not ending.asked:
        try:
            return open_venue(settings, name)
        except SwitchyardError as error:
            if error.what != said:
                said = error.what
                log.critical("venue_unusable", extra={"code": error.code, "what": error.what, "fix": error.fix})
            status.set(role="waiting", reason=f"{error.code}: {error.what}; {error.fix}")
            status.beat()
            ending.wait(VENUE_RETRY_S)
    return None


def open_venue(settings: BotSettings, name: str) -> PaperVenue:
    """Return the paper venue of that name, in its file.

    Raises: SwitchyardError BOT-043, the file cannot be used.
    """
    return PaperVenue(
        name,
        settings.bot_venue_file or settings.bot_state_dir / "venue.db",
        fee_rate=settings.bot_fee_rate,
        slippage_rate=settings.bot_slippage_rate,
        partial_fills=settings.bot_partial_fills,
    )


def fact_spool(settings: BotSettings) -> FactSpool:
    """Return the spool in the state folder; it is not open yet. On Railway, say so where that is on no volume."""
    folder, volume = settings.bot_state_dir.absolute(), os.environ.get("RAILWAY_VOLUME_MOUNT_PATH")
    if on_railway() and not (volume and folder.is_relative_to(volume)):
        log.warning("state_folder_on_no_volume", extra={"folder": str(folder), "lost_with": "the next deployment"})

    def make(folder: Path) -> Spool:
        return Spool(
            folder,
            limit_bytes=settings.bot_spool_limit_bytes,
            limit_age_s=settings.bot_spool_limit_age_s,
            keep_acked_s=settings.bot_spool_keep_s,
        )

    return FactSpool(settings.bot_state_dir / "spool", make)


def _until_asked(bot: Bot, manager: DatabaseManager, ending: _Ending) -> int:
    """Run the loop in a thread, so that a signal is heard even while a call to the database blocks."""
    ended = threading.Event()

    def loop() -> None:
        try:
            bot.run()
        finally:
            ended.set()
            ending.wake()

    threading.Thread(target=loop, name="loop", daemon=True).start()
    if not ending.wait():
        log.critical("loop_ended_by_itself")
        return 1
    log.info("stopping", extra={"signal": ending.asked.name if ending.asked else None})
    bot.stop()
    # a call that blocks longer than this is left alone: its transaction happens or not, and the next start asks
    if ended.wait(STOP_WITHIN_S):
        manager.dispose()
    else:
        log.warning("stop_forced", extra={"waited_s": STOP_WITHIN_S})
    log.info("stopped")
    return 0
