"""Passwords go to the real server only, and on a network everything is encrypted."""

from __future__ import annotations

import datetime
import json

import pytest
import trustme
from targets import Target
from watch import ready

# An impostor that runs beside the service: it answers the service's own connection parameters, pointed at itself.
# argv: how it behaves, its certificate and key (PEM).
IMPOSTOR = r"""
import json, os, socket, ssl, struct, sys, tempfile, threading
import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

mode, pem = sys.argv[1], sys.argv[2]
received = []

def take(peer):
    kind_or_length = peer.recv(4, socket.MSG_WAITALL)
    return peer.recv(struct.unpack("!I", kind_or_length)[0] - 4, socket.MSG_WAITALL)

def serve(listener):
    while True:
        peer, _ = listener.accept()
        try:
            body = take(peer)
            if body[:4] == struct.pack("!I", 80877103):  # SSLRequest
                if mode == "no-tls":
                    peer.sendall(b"N")
                    received.append(peer.recv(4096).decode("latin-1"))
                    continue
                peer.sendall(b"S")
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                    file.write(pem)
                    file.flush()
                    context.load_cert_chain(file.name)
                peer = context.wrap_socket(peer, server_side=True)
                body = b""
                length = struct.unpack("!I", peer.recv(4))[0]
                while len(body) < length - 4:
                    body += peer.recv(length - 4 - len(body))
            peer.sendall(b"R" + struct.pack("!II", 8, 3))  # AuthenticationCleartextPassword
            received.append(peer.recv(4096).decode("latin-1"))
        except OSError as error:
            received.append("")
        finally:
            peer.close()

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
url = os.environ["DATABASE_URL"]
parts = parse_dsn(url)
parts |= {"host": "127.0.0.1", "port": listener.getsockname()[1], "connect_timeout": 5}
try:
    psycopg2.connect(make_dsn(**parts))
    said = "connected"
except psycopg2.OperationalError as error:
    said = str(error)
print(json.dumps({"said": said, "got_the_password": any(parts["password"] in text for text in received)}))
"""


@pytest.fixture(scope="module")
def certificate() -> str:
    """A certificate and key of nobody."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1", not_after=soon)
    return issued.private_key_and_cert_chain_pem.bytes().decode()


@pytest.mark.targets("compose")
def test_every_session_from_the_network_is_encrypted(target: Target) -> None:
    ready(target)
    sessions = target.sql(
        "SELECT usename, application_name, host(client_addr) AS client, ssl, version FROM pg_stat_activity "
        "JOIN pg_stat_ssl USING (pid) WHERE backend_type = 'client backend' AND client_addr IS NOT NULL"
    )
    assert {session["usename"] for session in sessions} >= {"trading_bot", "dashboard"}
    assert [session for session in sessions if not session["ssl"] or session["version"] != "TLSv1.3"] == []


@pytest.mark.targets("compose")
def test_a_service_says_what_it_speaks(target: Target) -> None:
    assert target.execute("dashboard", "tradedb", "info", "--json").json()["database"]["tls"] == "TLSv1.3"


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
@pytest.mark.targets("compose")
def test_a_server_that_declines_tls_is_refused(target: Target, service: str, certificate: str) -> None:
    seen = json.loads(target.python(service, IMPOSTOR, "no-tls", certificate).stdout)
    assert "server does not support SSL, but SSL was required" in seen["said"]
    assert not seen["got_the_password"]


@pytest.mark.parametrize("service", ["trading-bot", "dashboard"])
def test_a_server_that_asks_for_the_password_itself_is_refused(target: Target, service: str, certificate: str) -> None:
    seen = json.loads(target.python(service, IMPOSTOR, "ask-for-the-password", certificate).stdout)
    assert (
        'authentication method requirement "scram-sha-256" failed' in seen["said"] or "channel binding" in seen["said"]
    )
    assert not seen["got_the_password"]


def test_the_impostor_does_get_a_password_from_a_careless_client(target: Target, certificate: str) -> None:
    """Without our parameters it works, so the tests above can fail."""
    program = IMPOSTOR.replace(
        "parts |= {", "parts = {k: v for k, v in parts.items() if k not in ('require_auth', 'channel_binding')} | {"
    )
    assert program != IMPOSTOR
    seen = json.loads(target.python("dashboard", program, "ask-for-the-password", certificate).stdout)
    assert seen["got_the_password"], seen
