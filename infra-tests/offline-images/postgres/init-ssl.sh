#!/usr/bin/env bash
# A root CA and a server certificate for localhost, made on the spot, and Postgres told of them. As postgres at the first
# boot (sudo, because the volume itself belongs to root), as root when a certificate is renewed.
set -euo pipefail

days=${SSL_CERT_DAYS:-820}
certs=/var/lib/postgresql/data/certs
sudo mkdir -p "$certs"
sudo chown postgres:postgres "$certs"
cd "$certs"

names=DNS:localhost${RAILWAY_PRIVATE_DOMAIN:+,DNS:$RAILWAY_PRIVATE_DOMAIN}
openssl req -x509 -new -nodes -days "$days" -subj /CN=root-ca -keyout root.key -out root.crt
openssl req -x509 -new -nodes -days "$days" -subj /CN=localhost -addext "subjectAltName=$names" \
  -CA root.crt -CAkey root.key -keyout server.key -out server.crt
chmod 0600 root.key server.key
chown postgres:postgres server.key server.crt

if ! grep -q "^ssl_cert_file" "$PGDATA/postgresql.conf"; then
  cat >>"$PGDATA/postgresql.conf" <<CONF
ssl = on
ssl_cert_file = '$certs/server.crt'
ssl_key_file = '$certs/server.key'
ssl_ca_file = '$certs/root.crt'
shared_preload_libraries = 'pg_stat_statements'
CONF
fi
