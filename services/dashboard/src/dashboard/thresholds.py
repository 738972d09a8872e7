"""From where on the database page warns: each a setting, with its unit in its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dashboard.settings import DashboardSettings


@dataclass(frozen=True)
class Thresholds:
    """The limits beyond which a sentence is a warning. Percentages are 0 to 100."""

    connections_percent: float = 80.0
    lock_wait_s: float = 5.0
    long_query_s: float = 30.0
    idle_transaction_s: float = 30.0
    slow_query_ms: float = 20.0
    slow_query_calls: int = 50
    cache_hit_percent: float = 99.0
    dead_rows_percent: float = 20.0
    bloat_percent: float = 50.0
    transaction_ids_percent: float = 50.0

    @classmethod
    def of(cls, settings: DashboardSettings) -> Thresholds:
        """Return those that the settings name."""
        return cls(**{name: getattr(settings, f"dashboard_{name}") for name in cls.__dataclass_fields__})
