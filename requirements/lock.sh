#!/usr/bin/env bash
# Writes every lock anew from the pyproject files: `make lock`. No index address is written into them.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() { # lock NAME INPUT...
  local out=requirements/$1.txt; shift
  .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 "${extra[@]}" "$@" -o "$out"
}
s=services
extra=(--extra embedded --extra parquet)
lock dev requirements/dev.in requirements/build.in $s/*/pyproject.toml
extra=(-c requirements/dev.txt --extra embedded)    # one version of a package everywhere
lock run requirements/build.in $s/*/pyproject.toml
extra=(-c requirements/dev.txt)
lock build requirements/build.in
lock trading-bot $s/tradedb/pyproject.toml $s/trading-bot/pyproject.toml
lock dashboard $s/tradedb/pyproject.toml $s/dashboard/pyproject.toml
lock ops $s/tradedb/pyproject.toml $s/switchyard/pyproject.toml
