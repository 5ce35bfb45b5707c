"""Callers without a sidecar: what they present, and how they call a listener of the mesh."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from meshtls.svid.x509 import X509Svid
from tests.e2e.day_in_the_life.mesh import Mesh
from tests.e2e.day_in_the_life.programs import SECONDS

__all__ = ["call_as", "minted", "plaintext_call", "tls_connection"]

_REQUEST = b"GET / HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n"


def minted(mesh: Mesh, spiffe_id: str) -> X509Svid:
    """An SVID of the mesh's own CA."""
    directory = mesh.directory / f"minted-{len(list(mesh.directory.glob('minted-*')))}"
    directory.mkdir(mode=0o700)
    mesh.told("x509", "mint", "--spiffe-id", spiffe_id, "--write", directory)
    key = load_pem_private_key((directory / "key.pem").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey)
    return X509Svid.from_chain(load_pem_x509_certificates((directory / "svid.pem").read_bytes()), key)


@contextmanager
def tls_connection(
    mesh: Mesh, svid: X509Svid | None, listener: str = "db tcp", newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[ssl.SSLSocket]:
    """A client that accepts any server, and presents this SVID. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = newest
    if svid is not None:
        file = mesh.directory / "caller.pem"
        file.touch(mode=0o600)
        key = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(key + b"".join(one.public_bytes(Encoding.PEM) for one in svid.chain))
        context.load_cert_chain(file)
    with (
        socket.create_connection(mesh.port(listener), SECONDS) as sock,
        context.wrap_socket(sock, server_hostname="db") as tls,
    ):
        yield tls


def call_as(
    mesh: Mesh,
    svid: X509Svid | None,
    listener: str = "db tcp",
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    request: bytes = _REQUEST,
) -> bytes:
    """What is answered to one request; nothing where the connection was refused."""
    with suppress(OSError), tls_connection(mesh, svid, listener, newest) as tls:
        tls.sendall(request)
        return _read(tls)
    return b""


def plaintext_call(mesh: Mesh, listener: str = "db tcp") -> bytes:
    """The same without TLS."""
    with suppress(OSError), socket.create_connection(mesh.port(listener), SECONDS) as sock:
        sock.sendall(_REQUEST)
        return _read(sock)
    return b""


def _read(sock: socket.socket) -> bytes:
    found = b""
    while data := sock.recv(1 << 14):
        found += data
    return found
