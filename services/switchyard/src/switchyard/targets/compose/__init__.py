"""The Compose target: docker-compose.yml of this checkout, driven through the docker client."""

from switchyard.targets.compose.target import ComposeTarget

__all__ = ["ComposeTarget"]
