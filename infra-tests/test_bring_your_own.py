"""The service that docs/bring-your-own.md shows stands in for ours, and the stack treats it as ours."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from stack_fixtures import NewInstance
from targets import Target, attach
from targets.instance import CHECKOUT, Instance
from watch import until

PAGE = (CHECKOUT / "docs" / "bring-your-own.md").read_text()


def shown(language: str, holding: str) -> str:
    """The block of the page that has a text in it."""
    [block] = [
        block for block in re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if holding in block
    ]
    return block


def own_script(instance: Instance) -> Path:
    """The page's service as a file."""
    script = instance.folder / "my_bot.py"
    script.write_text(shown("python", "make_server"))
    script.chmod(0o644)
    return script


def put_in_place(instance: Instance, script: Path) -> str:
    """Say in .env what the page says, and return what ``status`` must then name."""
    if instance.target == "embedded":
        [line] = [line for line in PAGE.splitlines() if line.startswith("TRADING_BOT_COMMAND=")]
        key, command = line.replace("/home/me/my_bot.py", str(script)).split("=", 1)
        instance.edit_env({key: command})
        return command.strip('"')
    own = instance.folder / "my-stack.yml"
    own.write_text(shown("yaml", "command:").replace("/home/me/my_bot.py", str(script)))
    [line] = [line for line in PAGE.splitlines() if line.startswith("COMPOSE_FILE=")]
    instance.edit_env(dict([line.replace("/home/me/my-stack.yml", str(own)).split("=", 1)]))
    return str(own)


def of_bot(target: Target) -> dict[str, object]:
    """What ``status`` says of the bot."""
    [bot] = [service for service in target.status()["services"] if service["name"] == "trading-bot"]
    return bot


def ask(target: Target, path: str) -> tuple[int, str]:
    """What the service in the bot's place answers."""
    url = of_bot(target)["url"]
    if url is None:  # in a container, where the target knows the way
        return target.get("trading-bot", path)
    try:
        answer = httpx.get(f"{url}{path}", timeout=8)
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, answer.text


@pytest.mark.targets("embedded", "compose")
@pytest.mark.timeout(420)
def test_the_service_of_the_page_stands_in_for_the_bot_and_ours_comes_back(new_instance: NewInstance) -> None:
    instance = new_instance()
    own = put_in_place(instance, own_script(instance))
    instance.up()
    target = attach(instance)
    assert of_bot(target) == {"name": "trading-bot", "state": "running", "healthy": True, "own": own} | {
        "url": of_bot(target)["url"], "reason": None
    }  # fmt: skip
    assert f"trading-bot is your own: {own}" in instance.switchyard("status").stdout
    assert ask(target, "/healthz") == (200, json.dumps({"status": "alive", "service": "my-bot"}))
    assert ask(target, "/readyz")[0] == 200
    assert target.get("dashboard", "/readyz")[0] == 200
    assert target.value("SELECT count(*) FROM trading_sessions") == 0, "our bot ran too"

    target.kill("postgres")  # it survives that, and says so
    until(lambda: ask(target, "/readyz")[0] == 200, 60, "the service finds the database again")
    assert ask(target, "/healthz")[0] == 200

    instance.edit_env({"TRADING_BOT_COMMAND": "", "COMPOSE_FILE": ""})
    instance.up()
    until(lambda: '"trading-bot"' in ask(target, "/healthz")[1], 60, "our bot is back")
    assert of_bot(target)["own"] is None
    instance.switchyard("down")
    assert target.leftovers() == []
