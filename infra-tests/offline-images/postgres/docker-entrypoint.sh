#!/usr/bin/env bash
# The inner entry: as root give the data folder to postgres and step down, then make the cluster if there is none.
set -euo pipefail

[ "${1:0:1}" != - ] || set -- postgres "$@"

if [ "$1" = postgres ]; then
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    chmod 3775 /var/run/postgresql
    find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres {} +
    exec gosu postgres "$0" "$@"
  fi
  [ -s "$PGDATA/PG_VERSION" ] || first-boot.sh
fi
exec "$@"
