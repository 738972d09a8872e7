"""Whether a Docker engine with Compose v2 answers on this machine, and if not, why."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache

from tradedb.errors import EXIT_UNREACHABLE, SwitchyardError

PROBE_TIMEOUT_S = 8


@dataclass(frozen=True)
class Engine:
    """What was found. `code` and `fix` say what stands in the way; both are empty when the engine is usable."""

    sentence: str
    code: str = ""
    fix: str = ""

    @property
    def usable(self) -> bool:
        """Whether the Compose target can run."""
        return not self.code


def _ask(*args: str) -> tuple[int, str]:
    """Return docker's exit code and everything it said; a hanging client counts as a failure."""
    try:
        answer = subprocess.run(
            ["docker", *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, f"`docker {args[0]}` gave no answer within {PROBE_TIMEOUT_S} s"
    except OSError as error:
        return 127, str(error)
    return answer.returncode, (answer.stdout + answer.stderr).strip()


@cache
def probe() -> Engine:
    """Return what this machine offers. Asked once a process: it costs two client calls."""
    if shutil.which("docker") is None:
        return Engine(
            "Docker is not installed", "STACK-010", "install Docker with Compose v2, or: make up TARGET=embedded"
        )
    status, said = _ask("version", "--format", "{{.Server.Version}}")
    last = said.splitlines()[-1] if said else "no output"
    if status != 0:
        if "permission denied" in said.lower():
            return Engine(
                "Docker is there, but this user may not talk to it",
                "STACK-011",
                "sudo usermod -aG docker $USER, then log in again; or: make up TARGET=embedded",
            )
        return Engine(f"no Docker engine answers ({last})", "STACK-012", "start Docker, or: make up TARGET=embedded")
    engine_version = last
    status, said = _ask("compose", "version", "--short")
    version = said.splitlines()[-1].removeprefix("v") if said else ""
    if status != 0 or not version[:1].isdigit():
        old = shutil.which("docker-compose")
        found = "only the old docker-compose (v1) is there" if old else "its Compose plugin is missing"
        return Engine(
            f"Docker {engine_version} answers, but {found}",
            "STACK-013",
            "install the Compose v2 plugin, or: make up TARGET=embedded",
        )
    if version.startswith(("0.", "1.")):
        return Engine(
            f"Docker {engine_version} answers, but its Compose is {version}; v2 is needed",
            "STACK-013",
            "install the Compose v2 plugin, or: make up TARGET=embedded",
        )
    return Engine(f"Docker {engine_version} with Compose {version} answers")


def require() -> None:
    """Return if the Compose target can run.

    Raises: SwitchyardError: STACK-010 no client, STACK-011 not allowed, STACK-012 no engine, STACK-013 no Compose v2.
    """
    engine = probe()
    if not engine.usable:
        raise SwitchyardError(
            engine.code,
            f"the compose target cannot run: {engine.sentence}",
            why="It was asked for by name, so nothing else was tried. Nothing was changed.",
            fix=engine.fix,
            exit_code=EXIT_UNREACHABLE,
        )
