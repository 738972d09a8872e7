#!/usr/bin/env bash
# The outer entry, as root: where the data may live, and whether the certificate is still good.
set -euo pipefail

volume=/var/lib/postgresql/data
case ${PGDATA:-unset} in
  "$volume" | "$volume"/*) ;;
  *) echo "wrapper: PGDATA is ${PGDATA:-unset}, and must be $volume or below it" >&2 && exit 1 ;;
esac

good() { # a certificate for localhost with more than 30 days left
  openssl x509 -noout -checkend $((30 * 24 * 3600)) -in "$1" && openssl x509 -noout -ext subjectAltName -in "$1" | grep -q DNS:localhost
}
if [ -e "$PGDATA/postgresql.conf" ] && ! good "$volume/certs/server.crt" >/dev/null 2>&1; then
  echo "wrapper: the certificate is missing, not for localhost or ends within 30 days: making a new one"
  /docker-entrypoint-initdb.d/init-ssl.sh
fi

unset PGHOST PGPORT
# No exec, as in the real image: this shell stays in front of Postgres, and does not pass a stop signal on.
docker-entrypoint.sh "$@"
