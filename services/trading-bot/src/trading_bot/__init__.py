"""The writer: market data, strategy, paper broker, and a ledger that records each trade exactly once."""
