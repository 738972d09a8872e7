"""Trading over the past: the bot's own strategy, risk, venue and books; the clock jumps from candle to candle."""
