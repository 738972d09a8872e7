"""Go on in the checkout's .venv, whatever Python the script was started with."""

import importlib.util
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
VENV_PYTHON = CHECKOUT / ".venv" / "bin" / "python"


def require_switchyard() -> None:
    """Return where switchyard can be imported; else start again with .venv's Python, or say how to make it."""
    if importlib.util.find_spec("switchyard") is not None:
        return
    if VENV_PYTHON.exists() and Path(sys.prefix) != VENV_PYTHON.parents[1]:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])  # noqa: S606  # the same script, another Python
    sys.stderr.write(
        f"error COPY-034: {VENV_PYTHON.parents[1]} has no Switchyard in it\n"
        "  The checkout's .venv was not made yet, or is incomplete. Nothing was changed.\n"
        "  Fix: make setup\n"
    )
    sys.exit(78)
