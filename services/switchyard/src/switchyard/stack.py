"""What the commands do, the same on every target: they find it, hold the lock, and say how it ended."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, cast

from tradedb.errors import EXIT_FAILED, EXIT_USAGE, SwitchyardError

from switchyard import env_file
from switchyard.checkout import Checkout, read_json
from switchyard.output import Progress, print_json, styled, table
from switchyard.targets import (
    SERVICES,
    TARGET_NAMES,
    DatabaseStatus,
    ServiceStatus,
    StackStatus,
    choose_target,
    current_target,
    find_target,
    make_target,
)
from switchyard.transfer.source_option import require_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from switchyard.targets import Role
    from switchyard.transfer.snapshot import Source


def up(target_name: str | None, sources: Sequence[Source], *, new_ports: bool, assume_yes: bool) -> None:
    """Start the stack and print where it is. See `switchyard up --help`."""
    report = Progress()
    checkout = Checkout.find()
    if sources:
        require_one(len(sources))
    for source in sources:
        _require_file(source)
    with checkout.lock("up"):
        last = checkout.known_target()
        choice = choose_target(checkout, target_name)
        report.note(f"target: {choice.target.name} ({choice.reason})")
        if choice.target.name != last and (elsewhere := _data_elsewhere(checkout, choice.target.name)):
            report.note(elsewhere)
        _make_env(checkout, report)
        values = env_file.read(checkout)
        if env_file.readable_by_others(checkout):
            report.note(f"WARN other users can read the passwords: chmod 600 {checkout.env_file}")
        if new_ports:
            if choice.target.running():
                choice.target.down(report)
            _renew_ports(checkout)
            values = env_file.read(checkout)
        ran_before = not new_ports and choice.target.running() and choice.target.status().healthy
        checkout.remember(target=choice.target.name)
        status = choice.target.up(report, sources, assume_yes=assume_yes)
    _print_services(status)
    _print_login(values, status)
    word = "Everything ran already; checked" if ran_before and not report.changed and not sources else "Finished"
    sys.stdout.write(f"{word} in {report.elapsed_s:.1f} s\n")


def down() -> None:
    """Stop the stack; the data stays."""
    report = Progress()
    checkout = Checkout.find()
    with checkout.lock("down"):
        target = find_target(checkout)
        if target is None or not target.running():
            if target is not None and target.name == "compose":
                env_file.read(checkout)  # without it nobody knows whether something runs
            sys.stdout.write("Nothing runs.\n")
            return
        target.down(report)
    sys.stdout.write(f"Stopped in {report.elapsed_s:.1f} s. The data is kept. Next: make up\n")


def status(*, as_json: bool) -> int:
    """Print what runs; return 0 if all of it is healthy, else 1."""
    checkout = Checkout.find()
    target = find_target(checkout)
    if target is None:
        stopped = tuple(ServiceStatus(service, "stopped", None, healthy=False) for service in SERVICES)
        found = StackStatus(None, stopped, DatabaseStatus())
    else:
        found = target.status()
    problem = _env_problem(checkout) if target is not None else None
    if as_json:
        print_json(found.as_dict())
    else:
        _print_services(found)
        if found.target is not None:
            sys.stdout.write(f"\nTarget: {found.target}\n")
        if problem is None:
            _print_database(found)
    if problem is not None:
        sys.stderr.write("\n" + "\n".join(problem.lines()) + "\n")
    return 0 if found.healthy else EXIT_FAILED


def _env_problem(checkout: Checkout) -> SwitchyardError | None:
    """Return why the services could not be asked: without .env and ports.json nobody knows where they are."""
    try:
        env_file.read(checkout)
        read_json(checkout.home / "ports.json")
    except SwitchyardError as error:
        return error
    return None


def logs(service: str | None, *, follow: bool) -> int:
    """Show logs of the target that `up` chose."""
    return current_target(Checkout.find()).logs(service, follow=follow)


def restart(service: str) -> None:
    """Restart one service under the lock."""
    report = Progress()
    checkout = Checkout.find()
    target = current_target(checkout)
    with checkout.lock(f"restart {service}"):
        target.restart(report, service)
    sys.stdout.write(f"{service} is ready again after {report.elapsed_s:.1f} s\n")


def psql(args: Sequence[str]) -> int:
    """Run psql against the stack's database."""
    return current_target(Checkout.find()).psql(args)


def exec_in(service: str, command: Sequence[str]) -> int:
    """Run a command with a service's environment."""
    return current_target(Checkout.find()).exec(service, command)


def write_env() -> None:
    """Write .env, or say that it is there."""
    checkout = Checkout.find()
    if env_file.write(checkout):
        sys.stdout.write(f"Wrote {checkout.env_file} (mode 600) with fresh secrets and free ports. Next: make up\n")
        return
    env_file.read(checkout)
    sys.stdout.write(f"{checkout.env_file} is there already and is left as it is. Next: make up\n")


def reset(target_name: str | None, *, assume_yes: bool) -> None:
    """Delete the data of a target, or of the one that was used last, after a question whose default is No.

    Raises: SwitchyardError: STACK-008, nobody can be asked and --yes was not given.
    """
    import click

    report = Progress()
    checkout = Checkout.find()
    target = make_target(target_name, checkout) if target_name else find_target(checkout)
    if target is None or (target_name and not target.running() and target.data_place() is None):
        never = "nothing was ever started here" if target is None else f"the {target.name} target has none"
        sys.stdout.write(f"There is no data to delete: {never}.\n")
        if elsewhere := _data_elsewhere(checkout, target.name if target else None):
            sys.stdout.write(f"{elsewhere}\n")
        return
    if not assume_yes:
        if not sys.stdin.isatty():
            raise SwitchyardError(
                "STACK-008",
                "reset deletes the database and would ask first, but there is no terminal to ask on",
                why="Nothing was deleted.",
                fix="if you mean it: .venv/bin/switchyard reset --yes",
                exit_code=EXIT_USAGE,
            )
        what = f"the database of the {target.name} target of {checkout.root}, and what its bot keeps"
        question = f"Stop everything and DELETE {what}?"
        if not click.confirm(question, default=False, err=True):
            sys.stdout.write("Nothing was deleted.\n")
            return
    with checkout.lock("reset"):
        target.reset(report)
        if checkout.state().target == target.name:
            checkout.remember(target=None)
    sys.stdout.write(f"The data is deleted ({report.elapsed_s:.1f} s); .env and the ports stay. Next: make up\n")
    if elsewhere := _data_elsewhere(checkout, target.name):
        sys.stdout.write(f"{elsewhere}\n")


def _data_elsewhere(checkout: Checkout, but: str | None) -> str | None:
    """Return a sentence on the database that another target than `but` keeps for this checkout; None without one."""
    for name in TARGET_NAMES:
        place = make_target(name, checkout).data_place() if name != but else None
        if place is not None:
            return (
                f"The {name} target keeps a database of its own in {place}; it stays as it is. "
                f"To delete it: .venv/bin/switchyard reset --target {name}"
            )
    return None


def database_url(role: str) -> str:
    """Return the URL of the stack's database for `role`."""
    return current_target(Checkout.find()).database_url(cast("Role", role))


def ensure_roles() -> None:
    """Create or update the roles: of the stack that was started here, else of DATABASE_URL (the ops image)."""
    import os

    from tradedb.roles import passwords_from

    from switchyard import prepare

    checkout = _checkout_with_stack()
    if checkout is not None:
        changes = current_target(checkout).ensure_roles()
    else:
        changes = prepare.ensure_roles(prepare.admin_url_of_environment(), passwords_from(os.environ))
    for change in changes:
        sys.stdout.write(f"{change}\n")
    sys.stdout.write(f"{prepare.ROLES_ARE_RIGHT}\n")


def prepare_database() -> None:
    """Wait, roles, migrate: of the stack that was started here, else of DATABASE_URL (the ops image)."""
    import os

    from tradedb.roles import passwords_from

    from switchyard import prepare

    report = Progress()
    checkout = _checkout_with_stack()
    if checkout is not None:
        current_target(checkout).prepare(report)
    else:
        prepare.prepare(prepare.admin_url_of_environment(), passwords_from(os.environ), report)
    sys.stdout.write(f"The database is ready after {report.elapsed_s:.1f} s\n")


def config_show(service: str, *, as_json: bool) -> int:
    """Run `tradedb config show` where `service` runs."""
    checkout = Checkout.find()
    target = current_target(checkout)
    from_file = ",".join(sorted(key for key, value in env_file.read(checkout).items() if value))
    command = ["tradedb", "config", "show", "--service", service, *(["--json"] if as_json else [])]
    # inside, all that the service has is its environment, whoever put it there
    return target.exec(service, ["env", f"SWITCHYARD_SETTINGS_FROM_ENV_FILE={from_file}", *command])


def _checkout_with_stack() -> Checkout | None:
    """Return the checkout if a stack was started from it: then its database is meant, whatever DATABASE_URL says."""
    try:
        checkout = Checkout.find()
    except SwitchyardError:
        return None
    return checkout if find_target(checkout) else None


def _require_file(source: Source) -> None:
    """Raise before anything is started if the file is not there; what is in it is the copy's business."""
    if not source.path.is_file():
        raise SwitchyardError(
            "STACK-009",
            f"source {source.label}: there is no file {source.path.absolute()}",
            why="Nothing was started and nothing was changed.",
            fix="correct the path after the equals sign: make up SOURCE=bot=path/to/trading_bot.db",
            exit_code=EXIT_USAGE,
        )


def _make_env(checkout: Checkout, report: Progress) -> None:
    """Write .env for a new stack; the passwords of an old one cannot be made anew.

    Raises: SwitchyardError: ENV-010, there is a database whose .env is gone.
    """
    env_file.require_for_data(checkout)
    if env_file.write(checkout):
        report.note(f"wrote {checkout.env_file} with fresh secrets and free ports")


def _renew_ports(checkout: Checkout) -> None:
    (checkout.home / "ports.json").unlink(missing_ok=True)
    env_file.renew_ports(checkout, [])


def _print_services(found: StackStatus) -> None:
    rows = [[s.name, s.state if s.healthy else _unhealthy(s), s.url or "-"] for s in found.services]
    sys.stdout.write("\n" + table(["SERVICE", "STATE", "URL"], rows) + "\n")
    for service in found.services:
        if service.own:
            sys.stdout.write(f"{service.name} is your own: {service.own}\n")
    for service in found.services:
        if service.reason and service.state != "stopped":
            standing = "does not do everything" if service.healthy else "is not ready"
            sys.stdout.write(f"\n{service.name} {standing}: {service.reason}\n{_where_to_read(service.reason)}")


def _where_to_read(reason: str) -> str:
    """Return a line that names the page of the error codes in a text; nothing where it has none."""
    codes = dict.fromkeys(re.findall(r"\b[A-Z]+-[0-9]{3}\b", reason))
    return f"Next: docs/troubleshooting/README.md has the page of {', '.join(codes)}\n" if codes else ""


def _unhealthy(service: ServiceStatus) -> str:
    return f"{service.state}, not ready" if service.state == "running" else service.state


def _print_database(found: StackStatus) -> None:
    database = found.database
    if any(service.state == "unwatched" for service in found.services):
        sys.stdout.write("\nsupervisor is gone: what runs goes on, and nothing would restart it. Next: make up\n")
    if found.target is None:
        sys.stdout.write("\nNothing was started here yet. Next: make up\n")
    elif database.reason is not None:
        sys.stdout.write(f"\nThe database tells nothing of itself: {database.reason}. Next: make up\n")
    elif database.system_identifier is None:
        sys.stdout.write("\nThe database does not run. Next: make up\n")
    else:
        behind = "" if database.revision == database.head else f", but this code needs {database.head}"
        sys.stdout.write(
            f"\nPostgreSQL {database.server_version} at {database.host}:{database.port}, "
            f"system identifier {database.system_identifier}, schema revision {database.revision}{behind}\n"
        )


def _print_login(values: dict[str, str], found: StackStatus) -> None:
    """Print the login: on a terminal with its password, elsewhere (a log, CI) with the place where it stands."""
    user = values["DASHBOARD_USER"]
    if sys.stdout.isatty():
        sys.stdout.write(
            f"\nLogin: {styled(user, '1', sys.stdout)} / {styled(values['DASHBOARD_PASSWORD'], '1', sys.stdout)}\n"
        )
    else:
        sys.stdout.write(f"\nLogin: {user}, password: in .env (DASHBOARD_PASSWORD)\n")
    url = next((service.url for service in found.services if service.name == "dashboard"), None)
    sys.stdout.write(f"Next: open {url}, or follow the logs with: make logs\n")
