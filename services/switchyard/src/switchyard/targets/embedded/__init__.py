"""The embedded target: PostgreSQL 18 from a wheel and both services as processes of this machine, under supervisor."""

from switchyard.targets.embedded.target import EmbeddedTarget

__all__ = ["EmbeddedTarget"]
