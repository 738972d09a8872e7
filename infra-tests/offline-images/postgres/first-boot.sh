#!/usr/bin/env bash
# A new cluster, as postgres: initdb, then a server on the socket only while the scripts of /docker-entrypoint-initdb.d run.
set -euo pipefail

setting() { # setting NAME DEFAULT: NAME, or what the file NAME_FILE holds
  local file="$1_FILE"
  if [ -n "${!1:-}" ] && [ -n "${!file:-}" ]; then echo "first-boot: $1 and $file are both set" >&2 && return 1; fi
  if [ -n "${!file:-}" ]; then cat "${!file}"; else printf '%s' "${!1:-$2}"; fi
}
user=$(setting POSTGRES_USER postgres)
database=$(setting POSTGRES_DB "$user")
password=$(setting POSTGRES_PASSWORD "")
read -ra initdb_args <<<"$(setting POSTGRES_INITDB_ARGS "")"
[ -n "$password" ] || { echo "first-boot: POSTGRES_PASSWORD is not set: a database without a superuser password is not made" >&2; exit 1; }

initdb --username="$user" --pwfile=<(printf '%s\n' "$password") "${initdb_args[@]}"
printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"

pg_ctl -w start -o "-p 5432 -c listen_addresses=''"
if [ "$database" != postgres ]; then
  psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d postgres -v name="$database" <<<'CREATE DATABASE :"name"'
fi
for script in /docker-entrypoint-initdb.d/*; do
  case $script in
    *.sh) bash "$script" ;;
    *.sql) psql -v ON_ERROR_STOP=1 --no-psqlrc -U "$user" -d "$database" -f "$script" ;;
  esac
done
pg_ctl -w -m fast stop
echo "first-boot: PostgreSQL init process complete; ready for start up."
