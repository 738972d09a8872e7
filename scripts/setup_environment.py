"""Make .venv from the locks and keep it right: quick when nothing changed, repaired when half-made. Only the stdlib."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "switchyard-setup.json"
HOME = ROOT / ".switchyard"
LOG = HOME / "setup.log"
PACKAGES = ("tradedb", "trading-bot", "dashboard", "switchyard")
KINDS = ("run", "dev")  # each holds everything of the one before

EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_CONFIG = 1, 2, 69, 78
SIGN_OF_LIFE_S = 8.0
LOCK_TIMEOUT_S = 900.0
NETWORK_WORDS = ("connection", "name resolution", "timed out", "no matching distribution", "could not fetch", "proxy")


class SetupError(Exception):
    """What a person reads: a code, what happened, why, and what to do."""

    def __init__(self, code: str, what: str, why: str, fix: str, exit_code: int) -> None:
        super().__init__(f"error {code}: {what}\n  {why}\n  Fix: {fix}")
        self.exit_code = exit_code


def main(arguments: list[str]) -> int:
    """Make or repair .venv; return an exit code."""
    kind = arguments[0] if arguments else "run"
    if kind not in KINDS or len(arguments) > 1:
        sys.stderr.write("usage: python3 scripts/bootstrap.py [run|dev]\n")
        return EXIT_USAGE
    try:
        if not is_current(kind):
            make(kind)
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted. Run it again: it goes on from a clean start.\n")
        return 130
    return 0


def fingerprint(kind: str) -> str:
    """Return a digest of everything that .venv is made from: this Python, the lock, the packages' own files."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {platform.machine()} {ROOT}\n".encode())
    for path in (Path(__file__), lock_file(kind), *(package / "pyproject.toml" for package in package_folders())):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def lock_file(kind: str) -> Path:
    """Return the hashed requirements of that kind."""
    return ROOT / "requirements" / f"{kind}.txt"


def package_folders() -> list[Path]:
    """Return the folders of our own packages."""
    return [ROOT / "services" / name for name in PACKAGES]


def is_current(kind: str) -> bool:
    """Return whether .venv holds what this checkout asks for. Costs a few milliseconds: every make target asks."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    return (VENV / "bin" / "switchyard").exists() and stamp.get(kind) == fingerprint(kind)


def make(kind: str) -> None:
    """Bring .venv to what `kind` needs, alone: a second one that starts meanwhile waits and then finds it done."""
    check_python()
    check_writable()
    with lock():
        if is_current(kind):
            return
        if kind == "run" and has_tools():
            kind = "dev"  # somebody tests here: keep it in step with the lock that holds more
        started = time.monotonic()
        say(f"setting up {VENV} with Python {platform.python_version()} (the first time this takes about a minute)")
        STAMP.unlink(missing_ok=True)
        LOG.write_text("")
        if not is_sound():
            create()
        install(kind)
        install_own()
        write_stamp(kind)
        say(f"set up in {time.monotonic() - started:.0f} s")


def check_python() -> None:
    """Raise SETUP-002 if this Python cannot make environments (Debian ships those parts apart)."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise SetupError(
            "SETUP-002",
            f"this Python ({sys.executable}) has no {' and no '.join(missing)}, so it cannot make .venv",
            "Debian and Ubuntu ship that as a package of its own. Nothing was changed.",
            f"apt install {package} (as root), or another Python: make setup PYTHON=python3.13",
            EXIT_CONFIG,
        )


def check_writable() -> None:
    """Raise SETUP-003 if the checkout cannot be written."""
    try:
        HOME.mkdir(mode=0o700, exist_ok=True)
        for folder in (ROOT, HOME, *([VENV] if VENV.exists() else [])):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise SetupError(
            "SETUP-003",
            f"cannot write in {ROOT}: {error.strerror}",
            f".venv and .switchyard are made there, and you are user {os.getuid()}. Nothing was changed.",
            f"give yourself the folder: sudo chown -R $(id -un) {ROOT}; or clone into a folder of yours",
            EXIT_CONFIG,
        ) from error


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Hold the set-up's lock; wait, and say so, while somebody else does. The kernel frees it when its holder dies."""
    with (HOME / "setup.lock").open("a+") as handle:
        started = last_said = time.monotonic()
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now - started > LOCK_TIMEOUT_S:
                    raise SetupError(
                        "SETUP-005",
                        f"another set-up of this checkout has not ended for {LOCK_TIMEOUT_S:.0f} s",
                        f"It holds {handle.name}. This one changed nothing.",
                        "find it with: ps ax | grep bootstrap.py",
                        EXIT_FAILED,
                    ) from None
                if now - last_said > SIGN_OF_LIFE_S or last_said == started:
                    say(f"another set-up of this checkout runs; waiting for it ({now - started:.0f} s so far)")
                    last_said = now
                time.sleep(0.2)
        yield


def has_tools() -> bool:
    """Return whether .venv holds the tests' tools already."""
    return (VENV / "bin" / "pytest").exists()


def is_sound() -> bool:
    """Return whether .venv is a complete environment of this very Python; a killed set-up leaves one that is not."""
    python = VENV / "bin" / "python"
    question = "import sys, pip; print(sys.version, sys.base_prefix)"
    try:
        answer = subprocess.run(
            [str(python), "-I", "-c", question], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == f"{sys.version} {sys.base_prefix}"


def create() -> None:
    """Make an empty environment, in place of whatever is there."""
    if VENV.is_symlink():
        VENV.unlink()
    elif VENV.exists():
        say("the .venv that is there is incomplete or of another Python: making it anew")
        shutil.rmtree(VENV)
    # make runs us with .venv's own Python where there is one, and that one was just deleted
    python = getattr(sys, "_base_executable", sys.executable)
    run("an empty environment", [python, "-m", "venv", str(VENV)])


def install(kind: str) -> None:
    """Install the locked requirements; a file whose hash is another one is refused by pip."""
    requirements = lock_file(kind)
    total = sum(1 for line in requirements.read_text().splitlines() if line[:1].isalnum())
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "--only-binary=:all:"]
    run(f"{total} packages from {requirements.relative_to(ROOT)}", [*pip, "-r", str(requirements)], count=total)


def install_own() -> None:
    """Install our packages so that they run from this checkout, without asking an index for anything."""
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"]
    editable = [argument for folder in package_folders() for argument in ("--editable", str(folder))]
    run("our own packages", [*pip, *editable])


def write_stamp(kind: str) -> None:
    """Remember what .venv was made from."""
    stamp = {name: fingerprint(name) for name in KINDS[: KINDS.index(kind) + 1]}
    fresh = STAMP.with_suffix(".new")
    fresh.write_text(json.dumps(stamp))
    fresh.replace(STAMP)


def run(what: str, command: list[str], count: int = 0) -> None:
    """Run one phase and say how it goes; its whole output is in .switchyard/setup.log.

    Raises: SetupError: SETUP-004, it failed.
    """
    started = time.monotonic()
    lines: list[str] = []
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    done = threading.Event()
    watcher = threading.Thread(target=signs_of_life, args=(what, started, lines, count, done), daemon=True)
    watcher.start()
    try:
        assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
        with LOG.open("a") as log, process.stdout:
            for line in process.stdout:
                lines.append(line.rstrip())
                log.write(line)
        status = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        done.set()
        watcher.join()
    if status != 0:
        raise failure(what, lines)
    say(f"  {what} ({time.monotonic() - started:.1f} s)")


def signs_of_life(what: str, started: float, lines: list[str], count: int, done: threading.Event) -> None:
    """Say every few seconds how far a phase has come, until it is done."""
    while not done.wait(SIGN_OF_LIFE_S):
        seen = [line for line in list(lines) if line.startswith("Collecting ")]
        at = "installing" if any(line.startswith("Installing collected") for line in list(lines)) else ""
        if not at and seen and count:
            at = f"{len(seen)} of {count}, now {seen[-1].removeprefix('Collecting ').partition(' ')[0]}"
        say(f"  … {what}: {at or 'working'} ({time.monotonic() - started:.0f} s so far)")


def failure(what: str, lines: list[str]) -> SetupError:
    """Return the error for a phase that failed, with the line that says why."""
    telling = [line for line in lines if line.strip().lower().startswith(("error", "fatal"))] or lines[-1:]
    text = " ".join(lines).lower()
    if "do not match the hashes" in text:
        why = "A downloaded file is not the one that was locked: broken on its way, or tampered with. It was not used."
        fix = "run it again; if that does not help, look at your package index or mirror"
        return SetupError("SETUP-006", f"{what}: a hash does not match", why, fix, EXIT_FAILED)
    network = any(word in text for word in NETWORK_WORDS)
    return SetupError(
        "SETUP-004",
        f"{what} failed: {telling[-1].strip() if telling else 'it said nothing'}",
        f"The whole output is in {LOG}. What is half-made is repaired by the next run.",
        f"{'check the network, your proxy and the settings of pip' if network else 'correct that'}, then run it again",
        EXIT_UNREACHABLE if network else EXIT_FAILED,
    )


def environment() -> dict[str, str]:
    """Return the environment for pip: its own settings (an index, a proxy) count, those that break .venv do not."""
    ignored = (
        "PYTHONPATH",
        "PYTHONHOME",
        "PIP_USER",
        "PIP_TARGET",
        "PIP_PREFIX",
        "PIP_REQUIRE_VIRTUALENV",
        "VIRTUAL_ENV",
    )
    own = {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_PROGRESS_BAR": "off", "PIP_USER": "0",
        "PIP_ROOT_USER_ACTION": "ignore", "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    return {**{key: value for key, value in os.environ.items() if key not in ignored}, **own}


def say(text: str) -> None:
    """Write one line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
