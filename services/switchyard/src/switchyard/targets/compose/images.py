"""Which of our images must be built: those whose inputs have changed since this checkout built them last."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from switchyard.checkout import read_json, write_json
from switchyard.targets.compose.client import ASK_TIMEOUT_S, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from switchyard.checkout import Checkout
    from switchyard.output import Progress
    from switchyard.targets.compose.client import Compose

DOCKERFILES = {
    "ops": "services/switchyard/Dockerfile",
    "trading-bot": "services/trading-bot/Dockerfile",
    "dashboard": "services/dashboard/Dockerfile",
}
BUILD_TIMEOUT_S = 1800  # downloads over a slow line
PULL_TIMEOUT_S = 1800
IMAGE = re.compile(r"^ +image: (\S+)", re.MULTILINE)  # the one image that we do not build
COPIED = re.compile(r"^COPY (?!--from)(\S+) \S+$", re.MULTILINE)


def inputs(root: Path, dockerfile: str) -> Iterator[Path]:
    """Yield every file that goes into an image: the Dockerfile, .dockerignore, and what its COPY lines name."""
    yield root / ".dockerignore"
    yield root / dockerfile
    for name in COPIED.findall((root / dockerfile).read_text()):
        place = root / name
        if place.is_file():
            yield place
            continue
        yield place / "pyproject.toml"
        yield from sorted(path for path in (place / "src").rglob("*") if path.is_file() and path.suffix != ".pyc")


def fingerprint(root: Path, dockerfile: str) -> str:
    """Return a hash of all inputs, names and contents."""
    digest = hashlib.sha256()
    for path in inputs(root, dockerfile):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def outdated(built: Mapping[str, object], fingerprints: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """Return the services whose image is not there, is not the one we built, or was built from other inputs.

    Args:
        built: what the last builds left behind: service -> [fingerprint, image id].
        fingerprints: of the inputs now.
        present: service -> id of the image that the engine has.
    """
    return [name for name in fingerprints if built.get(name) != [fingerprints[name], present.get(name)]]


def present(compose: Compose) -> dict[str, str]:
    """Return the id of each of our images that the engine has."""
    tags = {f"{compose.project}-{service}:latest": service for service in DOCKERFILES}
    # exits 1 when one of them is missing, and still prints the others
    found = run(["docker", "image", "inspect", *tags], compose.environment(), ASK_TIMEOUT_S).stdout
    return {tags[tag]: image["Id"] for image in json.loads(found or "[]") for tag in image["RepoTags"] if tag in tags}


def build_outdated(report: Progress, checkout: Checkout, compose: Compose) -> None:
    """Build what is outdated and remember it; nothing to do costs a tenth of a second.

    Raises: SwitchyardError: COMPOSE-002 the base image cannot be had, COMPOSE-003 a build step failed.
    """
    memory = checkout.home / "images.json"
    fingerprints = {service: fingerprint(checkout.root, path) for service, path in DOCKERFILES.items()}
    wanted = outdated(read_json(memory), fingerprints, present(compose))
    if not wanted:
        return
    report.changed = True
    with report.step(f"build the image{'s' if len(wanted) > 1 else ''} of {', '.join(wanted)}") as step:
        compose.stream(step, "build", *wanted, timeout_s=BUILD_TIMEOUT_S)
    ids = present(compose)
    write_json(memory, {service: [fingerprints[service], ids.get(service)] for service in DOCKERFILES})


def pull_missing(report: Progress, compose: Compose) -> None:
    """Download the database's image if the engine does not have it.

    Raises: SwitchyardError: COMPOSE-002, no registry gave it.
    """
    [image] = IMAGE.findall((compose.root / "docker-compose.yml").read_text())
    found = run(["docker", "image", "inspect", "--format", "{{.Id}}", image], compose.environment(), ASK_TIMEOUT_S)
    if found.returncode == 0:
        return
    with report.step(f"download {image}") as step:
        compose.stream(step, "pull", "postgres", timeout_s=PULL_TIMEOUT_S)
