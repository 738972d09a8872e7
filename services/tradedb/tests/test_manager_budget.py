from __future__ import annotations

import pytest
from tradedb.config.settings import DatabaseSettings
from tradedb.errors import SwitchyardError
from tradedb.manager import assert_pool_budget, pool_budget
from tradedb.roles import LOGIN_ROLES, ROLES

RAILWAYS_MAX_CONNECTIONS = 100
SUPERUSER_RESERVED = 3
defaults = DatabaseSettings.model_construct()


def test_the_default_pools_fit_under_the_servers_limit_with_everything_else() -> None:
    tools = sum(role.connection_limit for role in LOGIN_ROLES if role.name not in ("trading_bot", "dashboard"))
    assert pool_budget(defaults, services=2) == (4 + 2) * 2 * 2 == 24
    assert_pool_budget(
        defaults, services=2, max_connections=RAILWAYS_MAX_CONNECTIONS, reserved=tools + SUPERUSER_RESERVED
    )


@pytest.mark.parametrize("service", ["trading_bot", "dashboard"])
def test_a_services_role_takes_its_pool_of_two_overlapping_deploys(service: str) -> None:
    limit = next(role.connection_limit for role in ROLES if role.name == service)
    assert limit >= pool_budget(defaults, services=1) + 2  # and a tool or two


def test_all_roles_at_their_limits_leave_the_superuser_a_connection() -> None:
    assert all(role.connection_limit > 0 for role in LOGIN_ROLES)
    assert sum(role.connection_limit for role in LOGIN_ROLES) + SUPERUSER_RESERVED < RAILWAYS_MAX_CONNECTIONS


def test_the_original_systems_pools_do_not_fit() -> None:
    """10 + 20 connections, two services, two deploys: 120 of 100."""
    theirs = DatabaseSettings.model_construct(pool_size=10, max_overflow=20)
    with pytest.raises(SwitchyardError) as over:
        assert_pool_budget(theirs, services=2, max_connections=100, reserved=3)
    assert over.value.code == "DB-024"
    assert over.value.what == "the pools may need 120 connections, 3 are reserved, and the server gives 100"
    assert over.value.why == "(10 + 20) x 2 services x 2 deploys that overlap."
