"""Make .venv: ``python3 scripts/bootstrap.py run`` (to run the stack) or ``dev`` (tests and checks too).

This file is the door: any Python can read it, so that one that is too old gets a sentence instead of a syntax error.
The work is in setup_environment.py beside it.
"""

import sys

OLDEST = (3, 11)

if sys.version_info[:2] < OLDEST:
    found = ".".join(str(part) for part in sys.version_info[:3])
    code = "SETUP-001"
    sys.stderr.write(
        "error " + code + ": Python 3.11 or newer is needed, found " + found + " (" + sys.executable + ")\n"
        "  The code uses what older versions do not have. Nothing was changed.\n"
        "  Fix: install a newer one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)"
        ", then name it: make setup PYTHON=python3.13\n"
    )
    sys.exit(78)

from setup_environment import main  # noqa: E402  # only a Python that can read it gets here

sys.exit(main(sys.argv[1:]))
