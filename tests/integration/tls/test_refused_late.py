"""A peer refused after its handshake gets no close_notify, which would look like an empty but complete response."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from meshtls.errors import HandshakeError, NotAuthorizedError
from meshtls.policy.authorizer import authorize_id
from meshtls.tls.context import GenerationContext, TlsOptions
from meshtls.tls.engine import TlsEngine
from meshtls.tls.failures import RefusedHandshake
from tests.support.authority import context_for, make_authority
from tests.support.tls import context_of, shake

OURS = make_authority("example.org")
CLIENT, OTHER = "spiffe://example.org/client", "spiffe://example.org/other"
SECONDS = 10.0
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(autouse=True)
def no_early_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)


def contexts(allowed: str, version: ssl.TLSVersion = V1_3) -> tuple[GenerationContext, GenerationContext]:
    """A client's, and that of a server which lets in who is ``allowed``."""
    options = TlsOptions(minimum_version=version)
    client = context_of(context_for(OURS, CLIENT), server_side=False, options=options)
    client.maximum_version = version
    own = context_for(OURS, "spiffe://example.org/server")
    return client, context_of(own, server_side=True, authorizer=authorize_id(allowed), options=options)


@pytest.mark.parametrize(
    ("version", "alert"), [(V1_3, "unexpected message"), (V1_2, "(internal error|bad record mac)")], ids=["1.3", "1.2"]
)
def test_a_client_that_is_refused_late_reads_an_alert_and_no_clean_end(version: ssl.TLSVersion, alert: str) -> None:
    client, server = map(TlsEngine, contexts(OTHER, version))
    refused = shake(client, server)
    assert type(refused.server) is NotAuthorizedError
    assert server.ssl_object.refused_late
    assert (client.peer_closed, server.peer) == (False, None)
    server.feed(client.seal(b"for nobody"))
    server.queue_fatal_alert()
    client.feed(server.outgoing())
    with pytest.raises(HandshakeError, match=f"^the peer refused the connection with the alert '{alert}'$"):
        client.read()
    assert not client.peer_closed
    assert server.peer is None


def test_a_client_that_is_allowed_reads_a_clean_end_where_the_server_has_nothing_to_say() -> None:
    client, server = map(TlsEngine, contexts(CLIENT))
    shake(client, server)
    assert not server.ssl_object.refused_late
    server.close_write()
    client.feed(server.outgoing())
    assert (client.read(), client.peer_closed) == (b"", True)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SECONDS)
        yield listening


def serve_one(listener: socket.socket, context: GenerationContext) -> str:
    accepted, _ = listener.accept()
    accepted.settimeout(SECONDS)
    try:
        with context.wrap_socket(accepted, server_side=True) as connection:
            connection.unwrap()
    except RefusedHandshake as error:
        return str(error.error)
    except OSError:
        pass  # the client has gone without a close_notify of its own
    return "served"


@pytest.mark.parametrize("allowed", [CLIENT, OTHER])
def test_a_blocking_client_that_is_refused_late_is_reset_and_one_that_is_served_reads_the_end(
    listener: socket.socket, allowed: str
) -> None:
    client, server = contexts(allowed)
    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(serve_one, listener, server)
        plain = socket.create_connection(listener.getsockname(), SECONDS)
        # Read beside the ``ssl`` module: that of Python 3.11 takes a reset for an end.
        with closing(client.wrap_socket(plain)) as connection, socket.socket(fileno=os.dup(connection.fileno())) as raw:
            raw.settimeout(SECONDS)
            if allowed == CLIENT:
                assert raw.recv(1 << 10), "close_notify"
            else:
                with pytest.raises(ConnectionResetError):
                    raw.recv(1 << 10)
        said = serving.result(SECONDS)
    assert said == "served" if allowed == CLIENT else "is not allowed to reach" in said, said
