"""``--target``: the option, the mark, the start before the first test, the end whatever happens."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url

from targets import TARGETS, Target, TargetUnreachable, start

EXIT_UNREACHABLE = 69  # pytest owns 0 to 6

_target = pytest.StashKey[Target]()
_ending = pytest.StashKey[ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("switchyard").addoption(
        "--target",
        default="embedded",
        metavar="{" + ",".join(TARGETS) + "}",
        help="where the stack under test runs (default: %(default)s)",
    )
    parser.getgroup("switchyard").addoption("--pictures", metavar="FOLDER", help="where `make look` puts its pictures")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--target")
    if name not in TARGETS:
        raise pytest.UsageError(f"--target={name}: not a target; choose from {', '.join(TARGETS)}")
    # a CI job that runs out of time is ended with SIGTERM: end like on Ctrl-C, so that nothing is left running
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name in ("target", "target_name"):
        if name in metafunc.fixturenames and not _own_parameter(metafunc.definition, name):
            metafunc.parametrize(name, [metafunc.config.getoption("--target")], indirect=True, scope="session")
            return


def _own_parameter(item: pytest.Item, name: str) -> bool:
    """Whether a test gives that argument itself: a unit test may have a parameter of our fixture's name."""
    given = [mark.args[0] for mark in item.iter_markers("parametrize")]
    return any(name in (names.replace(",", " ").split() if isinstance(names, str) else names) for names in given)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("--target")
    kept: list[pytest.Item] = []
    elsewhere: list[pytest.Item] = []
    for item in items:
        names = [name for mark in item.iter_markers("targets") for name in mark.args]
        unknown = sorted(set(names) - set(TARGETS))
        if unknown:
            raise pytest.UsageError(
                f"{item.nodeid}: targets({', '.join(unknown)}): not a target; {', '.join(TARGETS)} are"
            )
        (kept if not names or chosen in names else elsewhere).append(item)
    if elsewhere:
        config.hook.pytest_deselected(items=elsewhere)
        items[:] = kept


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the target before the first test, if any test wants it; when it cannot be reached, end the run."""
    config = session.config
    wanted = any(
        "target" in getattr(item, "fixturenames", ()) and not _own_parameter(item, "target") for item in session.items
    )
    if not wanted or config.option.collectonly:
        return
    if os.environ.get("PYTEST_XDIST_WORKER"):
        raise pytest.UsageError("infra-tests share one running stack: run them without -n")
    ending = config.stash[_ending] = ExitStack()
    try:
        target = start(str(config.getoption("--target")), config)
    except TargetUnreachable as error:
        pytest.exit(str(error), returncode=EXIT_UNREACHABLE)
    ending.callback(target.instance.destroy)
    config.stash[_target] = target


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    target = config.stash.get(_target, None)
    if target is None:
        return None
    url = make_url(target.database_url).render_as_string(hide_password=True)
    return f"target: {target.name}, PostgreSQL {target.server_version}, {url}"


def pytest_unconfigure(config: pytest.Config) -> None:
    ending = config.stash.get(_ending, None)
    if ending is not None:
        ending.close()


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The running stack. The tests share it: whoever breaks it waits until it is whole again."""
    return request.config.stash[_target]


@pytest.fixture(scope="session")
def target_name(request: pytest.FixtureRequest) -> str:
    """The word after ``--target``, for tests that start an instance of their own."""
    return str(request.config.getoption("--target"))
