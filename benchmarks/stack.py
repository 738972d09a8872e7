"""How long `make up` takes, and what each service weighs at rest.

    .venv/bin/python benchmarks/stack.py [--target embedded|compose] [--runs 5] [--cold] [--json]

Warm: the stack has been up once, is stopped, and comes up again with its data. Cold (`--cold`): a clone of this
checkout's HEAD in an empty folder, everything downloaded anew by pip (its cache is switched off), first `make up`. Each
run is an instance of its own, beside the developer's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from dotenv import dotenv_values

CHECKOUT = Path(__file__).resolve().parent.parent
SWITCHYARD = CHECKOUT / ".venv/bin/switchyard"


def run(command: list[str], env: dict[str, str], cwd: Path = CHECKOUT) -> float:
    """Return the seconds that `command` took; its output goes to stderr; a failure ends the benchmark."""
    started = time.monotonic()
    subprocess.run(command, env=env, cwd=cwd, stdout=sys.stderr, stdin=subprocess.DEVNULL, check=True, timeout=1200)
    return time.monotonic() - started


def instance(folder: Path) -> dict[str, str]:
    """Return the environment of an instance that lives in `folder` alone."""
    return {**os.environ, "SWITCHYARD_HOME": str(folder / "home"), "SWITCHYARD_ENV_FILE": str(folder / "env")}


def memory_mib(target: str, env: dict[str, str]) -> dict[str, float]:
    """Return what each service takes, in MiB: of a container what the engine says, of a process its share of pages."""
    return container_memory_mib(env) if target == "compose" else process_memory_mib(env["SWITCHYARD_HOME"])


def container_memory_mib(env: dict[str, str]) -> dict[str, float]:
    """Return `docker stats` of the instance's containers."""
    project = dotenv_values(env["SWITCHYARD_ENV_FILE"])["COMPOSE_PROJECT_NAME"]
    command = ["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    units = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
    result: dict[str, float] = {}
    for name, used, *_ in map(str.split, lines):
        if name.startswith(f"{project}-"):
            service = name.removeprefix(f"{project}-").rsplit("-", 1)[0]
            result[service] = round(float(used[:-3]) * units[used[-3:]], 1)
    return result


def process_memory_mib(home: str) -> dict[str, float]:
    """Return the proportional set size of the instance's processes; Postgres with its children."""
    marks = {"trading-bot": "trading-bot run", "dashboard": "dashboard run", "supervisor": "supervisord"}
    result: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        name = next((name for name, mark in marks.items() if mark in line), None)
        if name is None and Path(line.split(" ")[0]).name == "postgres" and home in line:
            family = [process, *process.children(recursive=True)]
            result["postgres"] = round(sum(one.memory_full_info().pss for one in family) / 2**20, 1)
        elif name and home in line + process.cwd():
            result[name] = round(process.memory_full_info().pss / 2**20, 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=["embedded", "compose"], default="embedded")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also a fresh clone with every download")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report: dict[str, object] = {"schema_version": 1, "target": args.target}
    with tempfile.TemporaryDirectory(prefix="switchyard-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        env = instance(folder)
        up = [str(SWITCHYARD), "up", "--target", args.target]
        try:
            report["first_up_s"] = round(run(up, env), 2)
            warm: list[float] = []
            for _ in range(args.runs):
                run([str(SWITCHYARD), "down"], env)
                warm.append(round(run(up, env), 2))
            report["warm_up_s"] = {"runs": warm, "median": statistics.median(warm), "max": max(warm)}
            time.sleep(20)  # "at rest": past start-up, trading
            report["memory_mib"] = memory_mib(args.target, env)
        finally:
            run([str(SWITCHYARD), "reset", "--yes"], env)
        if args.cold:
            clone = folder / "clone"
            subprocess.run(["git", "clone", "-q", str(CHECKOUT), str(clone)], check=True)
            cold_env = {k: v for k, v in os.environ.items() if not k.startswith("SWITCHYARD_")} | {
                "PIP_NO_CACHE_DIR": "1"
            }
            try:
                report["cold_make_up_s"] = round(run(["make", "up", f"TARGET={args.target}"], cold_env, clone), 1)
            finally:
                run(["make", "down"], cold_env, clone)
    if args.json:
        print(json.dumps(report))
    else:
        for key, value in report.items():
            print(f"{key:16} {value}")


if __name__ == "__main__":
    main()
