"""What can be set, with defaults that run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings


class BotSettings(BaseSettings):
    """The bot's own settings; those of its database are ``tradedb.config.DatabaseSettings``."""

    host: str = Field(
        default="127.0.0.1",
        description="address that /healthz and /readyz listen on; 0.0.0.0 or :: (also IPv6) in a container",
    )
    port: int = Field(default=8081, ge=0, le=65_535, description="TCP port of /healthz and /readyz; 0 takes a free one")
    bot_feed: Literal["simulated", "replay", "ccxt"] = Field(
        default="simulated",
        description="where candles come from: a simulated market, a file of candles, or an exchange's public prices; "
        "orders are paper with each of them",
    )
    bot_seed: int = Field(default=7, description="seed of the simulated market: the same seed gives the same candles")
    bot_symbol: str = Field(default="BTCUSDT", pattern=r"^[A-Z0-9]{2,20}$", description="what is traded")
    bot_replay_file: Path = Field(
        default=Path("sample"),
        description="file of candles (.csv or .parquet) that BOT_FEED=replay plays, one row per BOT_CANDLE_INTERVAL_S, "
        "over and over; sample is a synthetic one that ships",
    )
    bot_exchange: str = Field(
        default="kraken",
        pattern=r"^[a-z][a-z0-9]{1,30}$",
        description="exchange whose public prices BOT_FEED=ccxt reads, by ccxt's name for it; no key is needed",
    )
    bot_exchange_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/@]+/?$",
        description="address that stands in for the exchange's own (scheme and host), for a mirror or a proxy",
    )
    bot_candle_interval_s: int = Field(default=2, ge=1, le=86_400, description="length of a candle in seconds")
    bot_initial_balance: Decimal = Field(
        default=Decimal(10_000),
        gt=0,
        le=1_000_000,
        max_digits=15,
        decimal_places=8,
        description="paper money of a new trading session, in quote currency; a session that is open keeps its own",
    )
    bot_strategy: str = Field(
        default="MovingAverageCross",
        min_length=1,
        max_length=100,
        description="strategy to trade by; trading-bot strategies lists those that are installed",
    )
    bot_strategy_parameters: dict[str, Any] = Field(
        default={},
        description="the strategy's parameters, a JSON object; those left out keep the strategy's own defaults",
    )
    bot_position_fraction: Decimal = Field(
        default=Decimal("0.5"),
        gt=0,
        le=Decimal("0.9"),
        description="share of the balance that one position takes; slippage and fees come on top",
    )
    bot_max_exposure_percent: Decimal = Field(
        default=Decimal(90),
        gt=0,
        le=100,
        description="percentage of the balance that all positions together may be worth when one is opened",
    )
    bot_stop_loss_percent: Decimal = Field(
        default=Decimal(2),
        ge=0,
        lt=100,
        description="percentage below the entry price at which a position is closed; 0: never",
    )
    bot_take_profit_percent: Decimal = Field(
        default=Decimal(4),
        ge=0,
        le=1_000,
        description="percentage above the entry price at which a position is closed; 0: never",
    )
    bot_daily_loss_limit_percent: Decimal = Field(
        default=Decimal(5),
        ge=0,
        le=100,
        description="percentage of the balance at 00:00 UTC that may be lost in a day before no position is opened any "
        "more until the next; 0: no limit",
    )
    bot_fee_rate: Decimal = Field(
        default=Decimal("0.0004"), ge=0, le=Decimal("0.1"), description="paper fee as a share of the traded value"
    )
    bot_slippage_rate: Decimal = Field(
        default=Decimal("0.0001"), ge=0, le=Decimal("0.1"), description="paper slippage as a share of the price"
    )
    bot_partial_fills: bool = Field(
        default=True,
        description="whether the paper venue fills an order in up to three parts, the first at once and one more at "
        "each later candle",
    )
    bot_state_dir: Path = Field(
        default=Path("data/trading-bot"),
        description="folder of what the bot must not forget while the database is away: its spool, and the paper "
        "venue's file venue.db; in a container it must be a volume",
    )
    bot_venue_file: Path | None = Field(
        default=None,
        description="file of the paper venue, where it is not the one in BOT_STATE_DIR: bots with folders of their own "
        "share a venue by it",
    )
    bot_spool_limit_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=64 * 1024,
        le=16 * 1024 * 1024 * 1024,
        description="how much may wait in the spool for the database; from three quarters of it on no position is "
        "opened. What the database has taken is kept beside it, up to four times as much",
    )
    bot_spool_limit_age_s: float = Field(
        default=900,
        ge=1,
        description="seconds that something may wait in the spool for the database before no position is opened",
    )
    bot_spool_keep_s: float = Field(
        default=86_400,
        ge=0,
        description="seconds that the spool keeps a fact after the database has taken it, at least",
    )
    bot_lease_ttl_s: float = Field(
        default=15, ge=2, le=300, description="seconds after which a silent leader may be replaced"
    )
    bot_lease_renew_s: float = Field(default=5, ge=0.2, le=100, description="seconds between two renewals of the lease")
    bot_lease_margin_s: float = Field(
        default=3, ge=0.2, le=100, description="seconds before the end of the lease at which its holder stops deciding"
    )
    bot_snapshot_interval_s: float = Field(
        default=5, ge=0.5, le=3_600, description="seconds between two account_history rows"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> BotSettings:
        if self.bot_lease_renew_s + self.bot_lease_margin_s >= self.bot_lease_ttl_s:
            raise ValueError("BOT_LEASE_RENEW_S + BOT_LEASE_MARGIN_S must be less than BOT_LEASE_TTL_S")
        dearest = self.bot_position_fraction * (1 + self.bot_slippage_rate) * (1 + self.bot_fee_rate)
        if dearest > 1:
            raise ValueError(
                f"BOT_POSITION_FRACTION with BOT_SLIPPAGE_RATE and BOT_FEE_RATE on top is {dearest:.3f} of the "
                "balance: more than there is"
            )
        return self
