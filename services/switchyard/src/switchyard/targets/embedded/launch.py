"""Becomes one service: ``python -m switchyard.targets.embedded.launch SERVICE``, which supervisor starts.

It stands between supervisor and the service so that no secret is in supervisor's configuration or argument list, and so
that a changed .env counts at the next start.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tradedb.errors import SwitchyardError

from switchyard.checkout import Checkout, write_json
from switchyard.targets.embedded import account as accounts
from switchyard.targets.embedded import environment, state_folder
from switchyard.targets.embedded.target import EmbeddedTarget


def main(service: str) -> None:
    """Replace this process by `service`; note its pid and what it was started with."""
    checkout = Checkout.find()
    target = EmbeddedTarget(checkout)
    values = target.values()
    variables = environment.service_environment(service, checkout, values, target.ports(values))
    words = environment.command(service, values)
    program = environment.program(service, words, variables)
    digest = environment.fingerprint(service, checkout, variables, words)
    write_json(target.note_file(service), {"pid": os.getpid(), "fingerprint": digest, "command": words})
    needed = [path.parent for path in environment.own_files(words)]
    account = accounts.for_services(program, Path(sys.executable).resolve(), Path(__file__).parent, *needed)
    if service == "trading-bot":
        state_folder.make(checkout, account)
    if account is not None:  # only now: .env is readable by root alone
        os.setgroups([])
        os.setgid(account.gid)
        os.setuid(account.uid)
    os.execve(program, words, variables)  # noqa: S606  # the same pid, so that signals arrive


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except SwitchyardError as error:
        sys.stderr.write("\n".join(error.lines()) + "\n")
        sys.exit(error.exit_code)
