"""docs/configuration.md is what the settings say, and every error of the configuration is explained."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings
from tradedb import config
from tradedb.config import document
from tradedb.config.classes import COMMON, service_classes
from tradedb.config.load import variable_name

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/configuration.md"


class Shop(BaseSettings):
    """What a shop needs.

    More, which is for programmers.
    """

    shop_wait_s: float = Field(1.5, description="how long | to wait.")
    shop_key: SecretStr = Field(description="Opens the door.")
    shop_open: bool = Field(True, description="Whether anybody may come in.")
    shop_note: str | None = Field(None, description="A note.")


def test_the_page_is_what_the_settings_say() -> None:
    result = CliRunner().invoke(document.main, [str(PAGE), "--check"])
    assert (result.exit_code, result.stderr) == (0, "")


def test_every_setting_of_every_installed_package_is_on_the_page() -> None:
    services = service_classes()
    assert set(services) >= {"dashboard", "trading-bot"}
    page = PAGE.read_text()
    for cls in (*COMMON, *services.values()):
        for name, field in cls.model_fields.items():
            assert f"| `{variable_name(cls, name)}` | " in page
            assert field.description, f"{cls.__name__}.{name} does not say what it is"


def test_a_row_says_what_unit_default_reader_and_secret() -> None:
    page = document.page({"shop": Shop})
    assert "## shop\n\nWhat a shop needs.\n\n" in page
    assert "| `SHOP_WAIT_S` | How long \\| to wait | seconds | `1.5` | shop |  |" in page
    assert "| `SHOP_KEY` | Opens the door |  | required | shop | yes |" in page
    assert "| `SHOP_OPEN` | Whether anybody may come in |  | `true` | shop |  |" in page
    assert "| `SHOP_NOTE` | A note |  |  | shop |  |" in page


def test_check_finds_a_page_that_is_old_or_absent_and_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "configuration.md"
    result = CliRunner().invoke(document.main, [str(file), "--check"])
    assert result.exit_code == 1
    assert result.stderr == (f"{file} is not what the settings say.\n  Fix: python -m tradedb.config.document {file}\n")
    assert not file.exists()
    assert CliRunner().invoke(document.main, [str(file)]).exit_code == 0
    assert CliRunner().invoke(document.main, [str(file), "--check"]).exit_code == 0
    file.write_text(file.read_text() + "more\n")
    assert CliRunner().invoke(document.main, [str(file), "--check"]).exit_code == 1


def test_every_code_has_its_section_and_every_section_its_code() -> None:
    package = Path(config.__file__).parents[1]
    raised = set(re.findall(r'"(CONFIG-\d{3})"', "".join(file.read_text() for file in package.rglob("*.py"))))
    explained = re.findall(r"^## (CONFIG-\d{3}): \S", (ROOT / "docs/troubleshooting/config.md").read_text(), re.M)
    assert sorted(raised) == explained
