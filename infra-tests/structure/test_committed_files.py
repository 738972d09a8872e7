"""No committed file names this machine, a package registry, or carries somebody's data."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from targets.instance import CHECKOUT


@pytest.fixture(scope="module")
def committed() -> dict[Path, str]:
    """Every text file that git knows, with its content."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    texts: dict[Path, str] = {}
    for name in filter(None, listed.split("\0")):
        try:
            texts[Path(name)] = (CHECKOUT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
    assert texts
    return texts


def naming(committed: dict[Path, str], pattern: str) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in committed.items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def registry_hosts() -> set[str]:
    """The public registries' hosts, and those that this machine's clients are set up with."""
    hosts = {
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb", "debian", "org"))
    }
    addresses = [value for key, value in os.environ.items() if key.endswith(("INDEX_URL", "GOPROXY", "_REGISTRY"))]
    for file in (Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read(file)
        addresses += [value for section in parser.values() for value in section.values()]
    hosts |= {host for address in addresses if (host := urlsplit(address).hostname) and "." in host}
    return hosts - {"127.0.0.1"}


def test_no_file_names_a_registry(committed: dict[Path, str]) -> None:
    assert naming(committed, "|".join(map(re.escape, sorted(registry_hosts())))) == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on(committed: dict[Path, str]) -> None:
    work = "/" + "work/"  # in two pieces: this file is committed as well
    assert naming(committed, rf"{work}(main|shared|\.)|{re.escape(str(CHECKOUT))}/") == []


def test_no_database_and_no_secret_is_committed(committed: dict[Path, str]) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in listed if re.search(r"\.(db|sqlite3?)(-wal|-shm|-journal)?$|(^|/)\.env$", name)] == []
    assert [
        name
        for name in listed
        if (CHECKOUT / name).is_file() and (CHECKOUT / name).read_bytes()[:16] == b"SQLite format 3\0"
    ] == []
    assert naming(committed, r"BEGIN [A-Z ]*PRIVATE" + r" KEY") == []


def test_tests_never_skip_for_want_of_a_database(committed: dict[Path, str]) -> None:
    skips = naming(
        {k: v for k, v in committed.items() if "tests" in k.parts or "infra-tests" in k.parts},
        r"pytest\.(skip|importorskip)\(",
    )
    assert skips == [], "a run that tested nothing must not be green"
