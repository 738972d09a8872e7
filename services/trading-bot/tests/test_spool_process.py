"""Spools of real processes: killed at any moment, on a disk that is full, read-only, or somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trading_bot.spool import Spool, SpoolBusy

HERE = Path(__file__).parent
PATIENCE_S = 150
# a mount that only the one process sees; who is not root becomes it in a namespace of his own
APART = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def python(script: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def mounted(folder: Path, options: str) -> tuple[str, ...]:
    """What to put before a command that is to have a small file system of its own in a folder."""
    folder.mkdir(exist_ok=True)
    return (*APART, "sh", "-ec", f'mount -t tmpfs -o {options} tmpfs "$0"; exec "$@"', str(folder))


def test_killed_before_after_and_within_each_call_to_the_file_system(quick_folder: Path) -> None:
    done = python("spool_killed.py", quick_folder)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_killed_at_any_time_a_writer_has_lost_nothing_that_it_was_told_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    code = (
        "import sys; from pathlib import Path; from trading_bot.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "spool.open()\n"
        "while True: print(spool.append('fill', 'key', {'pad': 'x' * 500}), flush=True)\n"
    )
    spool = Spool(folder)
    told = 0
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer, writer.stdout as said:
            numbers = [int(said.readline()) for _ in range(20)]
            with pytest.raises(SpoolBusy, match=f"process {writer.pid} on "):
                spool.open()
            writer.send_signal(signal.SIGKILL)
            numbers += [int(line) for line in said if line.endswith("\n")]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[0] in (told + 1, told + 2)  # the one that was written when it was killed may be there
        told = numbers[-1]
        opened = spool.open()
        assert opened.entries in (told, told + 1)
        spool.close()


@pytest.mark.parametrize("how", ["ballast", "limit"])
def test_a_full_disk_refuses_and_when_there_is_room_again_it_goes_on(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    done = python("spool_full_disk.py", folder, how, before=mounted(folder, "size=256k") if how == "ballast" else ())
    assert done.returncode == 0, done.stderr


def test_a_read_only_folder_is_said_at_the_start(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from trading_bot.spool import Spool; Spool(Path(sys.argv[1])).open()"
    for name in ("disk", "disk/new"):
        command = [*mounted(tmp_path / "disk", "ro"), sys.executable, "-c", code, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 1
        assert f"BOT-032: the spool's folder {tmp_path / name} cannot be used: " in done.stderr


def test_who_only_looks_does_not_keep_the_bot_out(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.open()
    spool.append("fill", "key", {})
    spool.close()
    code = (
        "import sys; from pathlib import Path; from trading_bot.spool.inspect import inspect\n"
        "print('looking', flush=True)\n"
        "while True: assert inspect(Path(sys.argv[1])).sound\n"
    )
    looker = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    assert looker.stdout is not None
    with looker, looker.stdout as said:
        assert said.readline() == "looking\n"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            spool.open()
            spool.append("fill", "key", {})
            spool.close()
        assert looker.poll() is None
        looker.kill()
