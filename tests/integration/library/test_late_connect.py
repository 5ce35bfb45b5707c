"""A client socket that is wrapped first and connected later: identity and trust are those at connect."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from meshtls import LocalIdentityError, X509Context, authorize_any, authorize_id, client_context, server_context
from meshtls.bundle import BundleSet
from meshtls.svid.context import ConstantSource
from tests.support.authority import LASTING, Swapping, context_for, make_authority
from tests.support.waiting import SECONDS

OURS, STRANGERS = make_authority(), make_authority()
SERVER = ConstantSource(context_for(OURS, "/db", ttl=LASTING))
Connect = Callable[[ssl.SSLSocket, tuple[str, int]], object]
CONNECTS: list[Connect] = [lambda tls, address: tls.connect(address), lambda tls, address: tls.connect_ex(address)]


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Sends each client the serial number of the certificate that it presented."""
    plain = socket.create_server(("127.0.0.1", 0))
    context, over = server_context(SERVER, authorize_any()), threading.Event()

    def serve() -> None:
        while not over.is_set():
            accepted, _ = plain.accept()
            accepted.settimeout(SECONDS)
            with accepted, suppress(OSError), context.wrap_socket(accepted, server_side=True) as connection:
                connection.sendall(connection.peer.serial.encode())  # type: ignore[attr-defined]

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield plain.getsockname()
    finally:
        over.set()
        socket.create_connection(plain.getsockname()).close()
        thread.join(SECONDS)
        plain.close()


def wrapped(context: ssl.SSLContext, *, handshake: bool = True) -> closing[ssl.SSLSocket]:
    plain = socket.socket()
    plain.settimeout(SECONDS)
    return closing(context.wrap_socket(plain, do_handshake_on_connect=handshake))


@pytest.mark.parametrize("connect", CONNECTS, ids=["connect", "connect_ex"])
def test_a_late_socket_presents_the_svid_of_the_moment_of_connect(connect: Connect) -> None:
    source = Swapping(context_for(OURS, "/web"))
    with serving() as address, wrapped(client_context(source, authorize_id("spiffe://example.org/db"))) as tls:
        source.now = second = context_for(OURS, "/web")
        connect(tls, address)
        assert tls.recv(99).decode() == second.svid.serial


def test_a_late_socket_uses_the_bundles_of_the_moment_of_connect() -> None:
    source = Swapping(context_for(OURS, "/web"))
    context = client_context(source, authorize_any())
    with serving() as address, wrapped(context) as good, wrapped(context) as late:
        good.connect(address)
        source.now = X509Context(9, context_for(OURS, "/web").svids, BundleSet([STRANGERS.bundle]))
        with pytest.raises(ssl.SSLCertVerificationError, match="no path to a root"):
            late.connect(address)


def test_a_verifier_asked_too_early_is_not_asked_again() -> None:
    source = Swapping(context_for(OURS, "/web"))
    with serving() as address, wrapped(client_context(source, authorize_any())) as tls:
        with pytest.raises(OSError, match="not connected") as early:
            tls.do_handshake()
        assert early.value.errno == errno.ENOTCONN
        source.now = X509Context(9, context_for(OURS, "/web").svids, BundleSet([STRANGERS.bundle]))
        with pytest.raises(ssl.SSLCertVerificationError, match="no path to a root"):
            tls.connect(address)


@pytest.mark.parametrize("connect", CONNECTS, ids=["connect", "connect_ex"])
def test_connecting_needs_an_svid_at_that_moment(connect: Connect) -> None:
    source = Swapping(context_for(OURS, "/web"))
    with serving() as address, wrapped(client_context(source, authorize_any())) as tls:
        source.now = LocalIdentityError("our SVID has expired")
        with pytest.raises(LocalIdentityError, match="our SVID has expired") as refused:
            connect(tls, address)
        assert isinstance(refused.value, OSError)
        source.now = second = context_for(OURS, "/web")
        connect(tls, address)
        assert tls.recv(99).decode() == second.svid.serial


def test_a_deferred_handshake_uses_the_identity_of_the_moment_of_connect() -> None:
    source = Swapping(context_for(OURS, "/web"))
    context = client_context(source, authorize_any())
    with serving() as address, wrapped(context, handshake=False) as tls:
        source.now = second = context_for(OURS, "/web")
        tls.connect(address)
        tls.do_handshake()
        assert tls.recv(99).decode() == second.svid.serial


def test_a_connected_socket_is_not_connected_again() -> None:
    source = Swapping(context_for(OURS, "/web"))
    with serving() as address, wrapped(client_context(source, authorize_any())) as tls:
        tls.connect(address)
        with pytest.raises(ValueError, match="already-connected"):
            tls.connect(address)
        assert len(tls.recv(99)) > 0
