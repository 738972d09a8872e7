"""The deployed stack: its tests come with the deployment."""

from __future__ import annotations

from typing import NoReturn

import pytest

from targets import TargetUnreachable


def start(config: pytest.Config) -> NoReturn:
    """Raise TargetUnreachable: nothing is deployed yet that could be tested."""
    raise TargetUnreachable("target railway: it comes with the deployment to Railway; use --target=embedded or compose")
