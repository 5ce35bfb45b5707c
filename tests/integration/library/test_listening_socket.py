"""A listening socket that was wrapped once, as for http.server: each connection uses the present SVID and bundles."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from meshtls import LocalIdentityError, X509Context, authorize_any, client_context, server_context
from meshtls.bundle import BundleSet
from meshtls.svid.context import ConstantSource
from tests.support.authority import LASTING, Swapping, context_for, make_authority
from tests.support.waiting import SECONDS

OURS, STRANGERS = make_authority(), make_authority()
CLIENT = ConstantSource(context_for(OURS, "/web", ttl=LASTING))


@contextmanager
def serving(source: Swapping) -> Iterator[tuple[str, int]]:
    """Sends "hello" to each accepted client."""
    plain = socket.create_server(("127.0.0.1", 0))
    address = plain.getsockname()
    listener = server_context(source, authorize_any()).wrap_socket(plain, server_side=True)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                continue
            with connection:
                connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield address
    finally:
        over.set()
        socket.create_connection(address).close()
        thread.join(SECONDS)
        listener.close()


def called(address: tuple[str, int]) -> str:
    """The serial number of the server that accepted us."""
    context = client_context(CLIENT, authorize_any())
    with closing(socket.create_connection(address, SECONDS)) as plain, context.wrap_socket(plain) as connection:
        assert connection.recv(5) == b"hello"
        return str(connection.peer.serial)  # type: ignore[attr-defined]


def test_a_listening_socket_accepts_with_the_present_identity_and_trust() -> None:
    source = Swapping(context_for(OURS, "/db"))
    first = source.snapshot()
    with serving(source) as address:
        assert called(address) == first.svid.serial
        second = source.now = context_for(OURS, "/db")
        assert called(address) == second.svid.serial != first.svid.serial
        source.now = X509Context(9, second.svids, BundleSet([STRANGERS.bundle]))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            called(address)
        source.now = LocalIdentityError("our SVID has expired")
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            called(address)
        source.now = second
        assert called(address) == second.svid.serial
