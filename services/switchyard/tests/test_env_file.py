""".env: written once, read strictly, and each mistake in it named by file and line."""

from __future__ import annotations

import stat
from itertools import pairwise

import pytest
from switchyard import env_file
from switchyard.checkout import Checkout
from tradedb.errors import SwitchyardError


@pytest.fixture
def written(checkout: Checkout) -> Checkout:
    """A checkout whose .env was just written."""
    assert env_file.write(checkout)
    return checkout


def edit(checkout: Checkout, old: str, new: str) -> int:
    """Replace the line that begins with `old`; return its number."""
    lines = checkout.env_file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith(old))
    lines[number] = new
    checkout.env_file.write_text("\n".join(lines) + "\n")
    return number + 1


def refused(checkout: Checkout) -> SwitchyardError:
    with pytest.raises(SwitchyardError) as caught:
        env_file.read(checkout)
    assert caught.value.exit_code == 78
    assert "Nothing was changed." in caught.value.why
    return caught.value


def test_a_written_file_is_private_complete_and_fresh(checkout: Checkout, written: Checkout) -> None:
    assert stat.S_IMODE(checkout.env_file.stat().st_mode) == 0o600
    values = env_file.read(checkout)
    secrets = [value for key, value in values.items() if env_file.is_secret(key)]
    assert len(secrets) == 8
    assert len(set(secrets)) == 8
    assert min(map(len, secrets)) >= 32
    assert values["COMPOSE_PROJECT_NAME"] == f"switchyard-{checkout.instance_id}"
    assert values["DASHBOARD_PORT"] != values["DATABASE_DEBUG_PORT"]
    assert values["DASHBOARD_USER"] == "admin"
    assert "DATABASE_URL" not in values


def test_an_existing_file_is_never_touched(checkout: Checkout) -> None:
    checkout.env_file.write_text("mine\n")
    assert not env_file.write(checkout)
    assert checkout.env_file.read_text() == "mine\n"


def test_a_folder_that_cannot_be_written(checkout: Checkout) -> None:
    (checkout.root / "file").write_text("")
    nowhere = Checkout(root=checkout.root, home=checkout.home, env_file=checkout.root / "file" / ".env")
    with pytest.raises(SwitchyardError, match=r"ENV-001: cannot write .*file/\.env: Not a directory") as caught:
        env_file.write(nowhere)
    assert caught.value.exit_code == 78


def test_every_key_of_the_example_has_a_comment_that_says_who_reads_it(checkout: Checkout) -> None:
    lines = checkout.example_file.read_text().splitlines()
    for before, line in pairwise(lines):
        if env_file.LINE.fullmatch(line) or env_file.OPTIONAL.fullmatch(line):
            assert before.startswith("# "), line
            assert "Read by:" in before, line


def test_no_file(checkout: Checkout) -> None:
    error = refused(checkout)
    assert (error.code, error.fix) == ("ENV-002", "make env")
    assert str(checkout.env_file) in error.what


@pytest.mark.parametrize("line", ["DASHBOARD_USER admin", "DASHBOARD_USER: admin", "export DASHBOARD_USER=admin", "=x"])
def test_a_malformed_line(written: Checkout, line: str) -> None:
    number = edit(written, "DASHBOARD_USER", line)
    error = refused(written)
    assert error.code == "ENV-003"
    assert f"{written.env_file}:{number}: expected KEY=value" in error.what


def test_a_malformed_line_does_not_show_a_secret(written: Checkout) -> None:
    edit(written, "POSTGRES_PASSWORD", "POSTGRES_PASSWORD hunter2")
    assert "hunter2" not in "\n".join(refused(written).lines())


def test_an_unknown_key_with_a_close_match(written: Checkout) -> None:
    number = edit(written, "DASHBOARD_USER", "DASHBORD_USER=admin")
    error = refused(written)
    assert error.code == "ENV-004"
    assert error.what == f"{written.env_file}:{number}: unknown key DASHBORD_USER; did you mean DASHBOARD_USER?"


def test_an_unknown_key_like_no_other(written: Checkout) -> None:
    with written.env_file.open("a") as handle:
        handle.write("ZZZ=1\n")
    assert refused(written).what.endswith("unknown key ZZZ")


def test_a_key_twice(written: Checkout) -> None:
    number = edit(written, "DASHBOARD_USER", "DASHBOARD_USER=admin\nDASHBOARD_USER=root")
    error = refused(written)
    assert error.code == "ENV-005"
    assert f":{number + 1}: DASHBOARD_USER stands in line {number} already" in error.what


@pytest.mark.parametrize(("line", "words"), [("DASHBOARD_PASSWORD=", "is empty"), ("# gone", "is missing")])
def test_an_empty_or_missing_secret(written: Checkout, line: str, words: str) -> None:
    edit(written, "DASHBOARD_PASSWORD", line)
    error = refused(written)
    assert error.code == "ENV-006"
    assert f"DASHBOARD_PASSWORD {words}" in error.what
    assert "secrets.token_urlsafe" in error.fix


@pytest.mark.parametrize("value", ["a$b", "a\\b", "'a$b'", "a # comment", "a'b"])
def test_a_value_that_its_readers_read_differently(written: Checkout, value: str) -> None:
    number = edit(written, "DASHBOARD_PASSWORD", f"DASHBOARD_PASSWORD={value}")
    error = refused(written)
    assert error.code == "ENV-007"
    assert f"{written.env_file}:{number}:" in error.what
    assert value not in "\n".join(error.lines())


def test_a_quote_that_does_not_end(written: Checkout) -> None:
    edit(written, "DASHBOARD_PASSWORD", 'DASHBOARD_PASSWORD="abc')
    assert refused(written).code == "ENV-003"


@pytest.mark.parametrize("value", ["p@ss", "a/b", "a:b", "50%"])
def test_a_database_password_that_breaks_a_url(written: Checkout, value: str) -> None:
    edit(written, "TRADING_BOT_DB_PASSWORD", f"TRADING_BOT_DB_PASSWORD={value}")
    error = refused(written)
    assert error.code == "ENV-008"
    assert value not in "\n".join(error.lines())


def test_the_login_may_have_any_character_and_quotes(written: Checkout) -> None:
    edit(written, "DASHBOARD_PASSWORD", 'DASHBOARD_PASSWORD="correct horse: 100%@#/?"')
    assert env_file.read(written)["DASHBOARD_PASSWORD"] == "correct horse: 100%@#/?"


@pytest.mark.parametrize("value", ["0", "65536", "eighty", "-1", "80.0", "٣"])
def test_a_bad_port(written: Checkout, value: str) -> None:
    number = edit(written, "DASHBOARD_PORT", f"DASHBOARD_PORT={value}")
    error = refused(written)
    assert error.code == "ENV-009"
    assert f"{written.env_file}:{number}: DASHBOARD_PORT is {value!r}" in error.what


def test_new_ports_change_the_ports_alone(written: Checkout) -> None:
    before = env_file.read(written)
    env_file.renew_ports(written, [])
    after = env_file.read(written)
    assert {key for key in before if before[key] != after[key]} == set(env_file.PORT_KEYS)
    assert stat.S_IMODE(written.env_file.stat().st_mode) == 0o600


def test_optional_keys_are_known(written: Checkout) -> None:
    with written.env_file.open("a") as handle:
        handle.write("BOT_SEED=7\n")
    assert env_file.read(written)["BOT_SEED"] == "7"
