"""Instances that a test starts for itself, beside the shared target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from targets import Target
from targets.instance import Instance
from watch import ready

NewInstance = Callable[..., Instance]


@pytest.fixture
def new_instance(target_name: str) -> Iterator[NewInstance]:
    """``new_instance(**settings)``: an instance of the chosen target that is not started; gone after the test."""
    with ExitStack() as ending:

        def create(on: str = target_name, **settings: str) -> Instance:
            instance = Instance.create(on, **settings)
            ending.callback(instance.destroy)
            return instance

        yield create


@pytest.fixture
def whole(target: Target) -> Iterator[Target]:
    """The shared target for a test that breaks it: both services are ready before, and again afterwards."""
    ready(target)
    yield target
    ready(target, timeout_s=60)
