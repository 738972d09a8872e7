from __future__ import annotations

import pytest
from pydantic import ValidationError
from trading_bot.settings import BotSettings


def test_every_setting_is_described_and_the_defaults_fit() -> None:
    settings = BotSettings()
    assert all(field.description for field in BotSettings.model_fields.values())
    assert (settings.bot_symbol, settings.bot_candle_interval_s, settings.bot_lease_ttl_s) == ("BTCUSDT", 2, 15)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bot_feed": "binance"}, "bot_feed"),
        ({"bot_exchange_url": "http://user:password@mirror"}, "bot_exchange_url"),
        ({"bot_lease_renew_s": 12.5}, "must be less than BOT_LEASE_TTL_S"),
        ({"bot_symbol": "btc usdt"}, "bot_symbol"),
        ({"bot_initial_balance": "0"}, "bot_initial_balance"),
        ({"bot_position_fraction": "0.91"}, "bot_position_fraction"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        BotSettings(**changes)  # pyright: ignore[reportArgumentType]  # wrong values are the point
