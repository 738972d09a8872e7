"""One checkout: where its files are, what it remembers, and the lock that keeps two commands apart."""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class State:
    """What ``state.json`` remembers: the target that ``up`` chose last."""

    target: str | None = None


@dataclass(frozen=True)
class Checkout:
    """The paths of one instance.

    Args:
        root: the folder with docker-compose.yml and .env.example.
        home: the instance's data, ports, logs and sockets (``SWITCHYARD_HOME``, else ``.switchyard`` in root).
        env_file: the secrets and ports (``SWITCHYARD_ENV_FILE``, else ``.env`` in root).
    """

    root: Path
    home: Path
    env_file: Path

    @classmethod
    def find(cls) -> Checkout:
        """Return the checkout that this package was installed from, so that the command works from any folder.

        Raises: SwitchyardError: STACK-004, the package does not live in a checkout (inside an image, for example).
        """
        root = Path(__file__).resolve().parents[4]
        if not (root / ".env.example").is_file():
            raise SwitchyardError(
                "STACK-004",
                f"{root} is no checkout of Switchyard: .env.example is missing",
                why="Inside an image only `db prepare`, `db roles` and `copy --target-url` work.",
                fix="run .venv/bin/switchyard of the checkout",
                exit_code=EXIT_CONFIG,
            )
        home = Path(os.environ.get("SWITCHYARD_HOME") or root / ".switchyard").expanduser().absolute()
        env_file = Path(os.environ.get("SWITCHYARD_ENV_FILE") or root / ".env").expanduser().absolute()
        return cls(root=root, home=home, env_file=env_file)

    @property
    def instance_id(self) -> str:
        """Eight hex digits of this instance's path: two checkouts on one machine never share a name."""
        place = self.root if self.home == self.root / ".switchyard" else self.home
        return hashlib.sha256(str(place).encode()).hexdigest()[:8]

    @property
    def example_file(self) -> Path:
        """The template of .env, and the list of every key that may stand there."""
        return self.root / ".env.example"

    @property
    def state_file(self) -> Path:
        """Where the chosen target is remembered."""
        return self.home / "state.json"

    @property
    def logs(self) -> Path:
        """Where the embedded target's processes write their logs."""
        return self.home / "logs"

    def make_home(self) -> None:
        """Create the instance's folder, readable by its owner only.

        Raises: SwitchyardError: STACK-005, no permission or no space.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.home):
                pass
        except OSError as error:
            raise _not_writable(self.home, error) from error

    def state(self) -> State:
        """Return what is remembered; an empty State in a fresh checkout."""
        known = read_json(self.state_file)
        return State(target=known.get("target"))

    def known_target(self) -> str | None:
        """Return the target that has this checkout's data: as remembered, else by what the embedded one leaves."""
        return self.state().target or ("embedded" if (self.home / "postgres.json").exists() else None)

    def remember(self, *, target: str | None) -> None:
        """Store the chosen target for the commands that follow."""
        known = self.state()
        if known.target != target:  # on a full disk, what runs can still be looked after
            write_json(self.state_file, asdict(replace(known, target=target)))

    @contextmanager
    def lock(self, command: str) -> Iterator[None]:
        """Hold the instance's lock while the body runs: ``up``, ``down``, ``restart`` and ``reset`` never overlap.

        The lock is the kernel's: it is gone with the process that held it, however that ended.

        Raises: SwitchyardError: STACK-006, another command holds it; says which, whose and since when.
        """
        import fcntl

        self.make_home()
        fd = os.open(self.home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held(os.pread(fd, 4096, 0)) from None
            now = datetime.now(UTC).isoformat(timespec="seconds")
            holder = {"command": command, "pid": os.getpid(), "user": getpass.getuser(), "since": now}
            with suppress(OSError):  # the disk is full: the lock holds without its note too
                os.ftruncate(fd, 0)
                os.pwrite(fd, json.dumps(holder).encode(), 0)
            yield
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def _held(self, note: bytes) -> SwitchyardError:
        try:
            holder = json.loads(note)
        except ValueError:  # it is just being written
            holder = {}
        who = f"switchyard {holder.get('command', '?')} (pid {holder.get('pid', '?')}, user {holder.get('user', '?')})"
        return SwitchyardError(
            "STACK-006",
            f"another command works on this checkout: {who}, since {holder.get('since', 'a moment ago')}",
            why="Two at once would start everything twice. Nothing was changed by this one.",
            fix=f"wait until it has ended, or stop it with: kill {holder.get('pid', 'PID')}",
        )


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in `path`, or an empty one if there is no such file.

    Raises: SwitchyardError: STACK-007, the file holds something else.
    """
    try:
        value = json.loads(path.read_text())
        if isinstance(value, dict):
            return value
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        reason = str(error)
    else:
        reason = "it holds no JSON object"
    raise SwitchyardError(
        "STACK-007",
        f"{path} cannot be read: {reason}",
        why="Switchyard wrote this file and something else changed it. Nothing was changed.",
        fix=f"rm {path}, then make up (what it said is found or chosen anew; the data stays)",
        exit_code=EXIT_CONFIG,
    )


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` in one step, so that a reader never sees half of it.

    Raises: SwitchyardError: STACK-005, no permission or no space.
    """
    name = None
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(fd, "w") as handle:
            json.dump(value, handle, indent=2)
            handle.write("\n")
        Path(name).replace(path)
    except OSError as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        raise _not_writable(path.parent, error) from error


def _not_writable(folder: Path, error: OSError) -> SwitchyardError:
    fix = "give yourself that folder with chown, or name another: SWITCHYARD_HOME=~/sy make up"
    if error.errno == errno.ENOSPC:
        fix = f"free some space (df -h {folder}), then run the command again"
    return SwitchyardError(
        "STACK-005",
        f"cannot write in {folder}: {error.strerror}",
        why=f"The stack keeps its data and logs there, and you are {getpass.getuser()}. Nothing was changed.",
        fix=fix,
        exit_code=EXIT_CONFIG,
    )
