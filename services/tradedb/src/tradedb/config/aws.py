"""AWS Secrets Manager as a source: one secret, a JSON object whose keys are setting names.

boto3 is imported only when the source is configured. Credentials come from where boto3 looks for them.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import threading
from typing import Any

from tradedb.errors import EXIT_CONFIG, SwitchyardError

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 2
ATTEMPTS = 2
TOTAL_TIMEOUT_S = 9.0  # also bounds what boto3 does not: name resolution, credential helpers


@functools.cache
def read_secret(secret_id: str, region: str | None = None) -> dict[str, str]:
    """Return the variables in the secret, fetched once per process.

    Args:
        secret_id: name or ARN.
        region: AWS region; without it AWS_REGION, then boto3's own (AWS_DEFAULT_REGION, the profile).

    Raises:
        SwitchyardError: CONFIG-006 no answer within 9 s, no credentials, not allowed; CONFIG-007 no such secret;
            CONFIG-008 not a JSON object of plain values. Never an empty result instead.
    """
    outcome: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            outcome.put(_fetch(secret_id, region))
        except BaseException as error:  # handed to the waiting thread, which raises it
            outcome.put(error)

    threading.Thread(target=fetch, name="aws-secret", daemon=True).start()
    try:
        result = outcome.get(timeout=TOTAL_TIMEOUT_S)
    except queue.Empty:
        raise _unavailable(secret_id, f"no answer within {TOTAL_TIMEOUT_S:.0f} s") from None
    if isinstance(result, BaseException):
        raise _explain(secret_id, result) from None
    return _variables(secret_id, result)


def _fetch(secret_id: str, region: str | None) -> str | None:
    """Return the secret's text (None when it is binary)."""
    import boto3
    from botocore.config import Config

    limits = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
    )
    region = region or os.environ.get("AWS_REGION")  # every SDK but boto3 reads it
    client: Any = boto3.Session().client("secretsmanager", region_name=region, config=limits)
    return client.get_secret_value(SecretId=secret_id).get("SecretString")


def _explain(secret_id: str, error: BaseException) -> BaseException:
    """Return the error a person gets for what boto3 raised; anything unforeseen as it is."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code == "ResourceNotFoundException":
            return SwitchyardError(
                "CONFIG-007",
                f"SWITCHYARD_AWS_SECRET_ID: expected the secret {secret_id!r}, found none in this account and region",
                why="the source is configured, so it is not skipped. Nothing was started or changed.",
                fix="correct SWITCHYARD_AWS_SECRET_ID or SWITCHYARD_AWS_REGION, or unset SWITCHYARD_AWS_SECRET_ID",
                exit_code=EXIT_CONFIG,
            )
        return _unavailable(secret_id, f"it answered {code}")
    if isinstance(error, BotoCoreError):
        return _unavailable(secret_id, str(error).rstrip("."))
    return error


def _unavailable(secret_id: str, found: str) -> SwitchyardError:
    """Return the error for a secret that AWS did not hand over."""
    return SwitchyardError(
        "CONFIG-006",
        f"SWITCHYARD_AWS_SECRET_ID: expected AWS Secrets Manager to hand over {secret_id!r}; {found}",
        why="the source is configured, so it is not skipped. Nothing was started or changed.",
        fix=f"aws secretsmanager get-secret-value --secret-id {secret_id}  (the same credentials, region and network)",
        exit_code=EXIT_CONFIG,
    )


def _variables(secret_id: str, text: str | None) -> dict[str, str]:
    """Return the JSON object in the secret as variables, names in upper case."""
    try:
        values = json.loads(text or "")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise _no_object(secret_id, "text that is no JSON object" if text else "a binary secret")
    variables: dict[str, str] = {}
    for key, value in values.items():
        name = key.upper()
        if name in variables:
            raise _no_object(secret_id, f"{name} twice")
        if value is not None:
            variables[name] = value if isinstance(value, str) else json.dumps(value)
    return variables


def _no_object(secret_id: str, found: str) -> SwitchyardError:
    """Return the error for a secret whose form is wrong; its text is not shown."""
    return SwitchyardError(
        "CONFIG-008",
        f"AWS secret {secret_id}: expected a JSON object of setting names and values, found {found}",
        why="nothing can be read from it, and a configured source is not skipped. Nothing was started or changed.",
        fix='store it as {"DATABASE_URL": "postgresql://…"}',
        exit_code=EXIT_CONFIG,
    )
