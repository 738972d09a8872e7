"""What can be set, with defaults that run."""

from __future__ import annotations

from decimal import Decimal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings


class BotSettings(BaseSettings):
    """The bot's own settings; those of its database are ``tradedb.config.DatabaseSettings``."""

    host: str = Field(
        default="127.0.0.1",
        description="address that /healthz and /readyz listen on; 0.0.0.0 or :: (also IPv6) in a container",
    )
    port: int = Field(default=8081, ge=0, le=65_535, description="TCP port of /healthz and /readyz; 0 takes a free one")
    bot_seed: int = Field(default=7, description="seed of the simulated market: the same seed gives the same candles")
    bot_symbol: str = Field(default="BTCUSDT", pattern=r"^[A-Z0-9]{2,20}$", description="what is traded")
    bot_candle_interval_s: int = Field(default=2, ge=1, le=86_400, description="length of a candle in seconds")
    bot_initial_balance: Decimal = Field(
        default=Decimal(10_000),
        gt=0,
        le=1_000_000,
        max_digits=15,
        decimal_places=8,
        description="paper money of a new trading session, in quote currency; a session that is open keeps its own",
    )
    bot_fast_window_candles: int = Field(default=3, ge=1, le=1_000, description="candles in the fast moving average")
    bot_slow_window_candles: int = Field(default=8, ge=2, le=5_000, description="candles in the slow moving average")
    bot_position_fraction: Decimal = Field(
        default=Decimal("0.5"),
        gt=0,
        le=Decimal("0.9"),
        description="share of the balance that one position takes; slippage and fees come on top",
    )
    bot_fee_rate: Decimal = Field(
        default=Decimal("0.0004"), ge=0, le=Decimal("0.1"), description="paper fee as a share of the traded value"
    )
    bot_slippage_rate: Decimal = Field(
        default=Decimal("0.0001"), ge=0, le=Decimal("0.1"), description="paper slippage as a share of the price"
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
        if self.bot_fast_window_candles >= self.bot_slow_window_candles:
            raise ValueError("BOT_FAST_WINDOW_CANDLES must be less than BOT_SLOW_WINDOW_CANDLES")
        if self.bot_lease_renew_s + self.bot_lease_margin_s >= self.bot_lease_ttl_s:
            raise ValueError("BOT_LEASE_RENEW_S + BOT_LEASE_MARGIN_S must be less than BOT_LEASE_TTL_S")
        return self
