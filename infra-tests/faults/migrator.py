"""``python -m faults.migrator URL``: bring a database to the newest schema, as `tradedb migrate` does."""

from __future__ import annotations

import sys

from tradedb import migrate

from faults import mutants

if __name__ == "__main__":
    mutants.apply_in_writer()
    migrate.upgrade(sys.argv[1])
