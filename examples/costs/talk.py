"""Certificates as a mesh has them, TLS contexts of Python's ``ssl``, and one connection."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from examples.costs.network import HERE, PORT, THERE

__all__ = ["HOUR", "KEYLOG", "NOW", "Authority", "Contexts", "Talk", "contexts"]

os.umask(0o077)  # keys and secrets are for nobody else
NOW, HOUR = datetime.now(UTC), timedelta(hours=1)
KEYLOG = Path("keys")
_SECONDS = 30
_WORDS = b"hello, mesh\n"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
#: The client's, and the server's; None speaks no TLS.
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def _new_key(kind: str) -> Key:
    return ec.generate_private_key(ec.SECP256R1()) if kind == "EC" else rsa.generate_private_key(65537, 2048)


class Authority:
    """A root, which is in the bundle, and an intermediate, which signs. ``kind``: EC (P-256) or RSA (2048 bits)."""

    def __init__(self, kind: str = "EC", name: str = "ours") -> None:
        self._kind, self._name, root_key, self._key = kind, name, _new_key(kind), _new_key(kind)
        self.root = _issued(f"{name}: root", root_key, f"{name}: root", root_key)
        self._intermediate = _issued(f"{name}: CA", self._key, f"{name}: root", root_key)

    def load(self, context: ssl.SSLContext, name: str, *, end: datetime = NOW + HOUR, copies: int = 1) -> None:
        """Present an SVID in this context: a leaf, and the intermediate, so many times."""
        key, file = _new_key(self._kind), Path(f"{name}.pem")
        leaf = _issued(name, key, f"{self._name}: CA", self._key, end, f"spiffe://a.test/{name}")
        chain = (one.public_bytes(Encoding.PEM) for one in (leaf, *[self._intermediate] * copies))
        file.write_bytes(b"".join(chain) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        context.load_cert_chain(file)


def _issued(
    subject: str, key: Key, issuer: str, issuer_key: Key, end: datetime = NOW + HOUR, spiffe_id: str = ""
) -> x509.Certificate:
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (issuer, subject)]
    builder = x509.CertificateBuilder().issuer_name(names[0]).subject_name(names[1])
    builder = builder.serial_number(x509.random_serial_number()).public_key(key.public_key())
    builder = builder.not_valid_before(NOW - 2 * HOUR).not_valid_after(end)
    builder = builder.add_extension(x509.BasicConstraints(ca=not spiffe_id, path_length=None), critical=True)
    if spiffe_id:
        uri = x509.UniformResourceIdentifier(spiffe_id)
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def contexts(
    authority: Authority,
    version: str = "1.3",
    *,
    mutual: bool = True,
    groups: tuple[str, str] | None = None,
) -> Contexts:
    """The client's and the server's. ``groups``: the only one of each for the key exchange, "" for those of OpenSSL."""
    groups = groups or 2 * ("X25519" if version == "1.3" else "prime256v1",)
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context, group in zip((client, server), groups, strict=True):
        context.check_hostname = False  # it is the SPIFFE ID that counts
        context.minimum_version = context.maximum_version = ssl.TLSVersion[f"TLSv{version.replace('.', '_')}"]
        context.load_verify_locations(cadata=authority.root.public_bytes(Encoding.DER))
        if group:
            context.set_ecdh_curve(group)
    authority.load(server, "web")
    if mutual:
        server.verify_mode = ssl.CERT_REQUIRED
        authority.load(client, "client")
    client.keylog_filename = str(KEYLOG)
    return client, server


class Talk:
    """One connection: the client sends ``size`` bytes, and gets as many back.

    ``saw`` has for each side what it saw in the end, in the words of OpenSSL, and ``session`` what the client can
    resume.
    """

    def __init__(
        self,
        name: str = "",
        made: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None),
        *,
        size: int = 1000,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._name, self._size = name, size
        self.session = session
        self.saw: dict[str, str] = {}
        with socket.create_server((HERE, PORT)) as listener:
            there = threading.Thread(target=self._run, args=("server", made[1], lambda: listener.accept()[0]))
            there.start()
            self._run("client", made[0], lambda: socket.create_connection((THERE, PORT), _SECONDS))
            there.join()

    def _run(self, side: str, context: ssl.SSLContext | None, connected: Callable[[], socket.socket]) -> None:
        try:
            with connected() as sock:
                sock.settimeout(_SECONDS)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                with self._wrapped(side, context, sock) if context is not None else sock as end:
                    self.saw[side] = self._said(side, end)
                    end.shutdown(socket.SHUT_WR)
                    # Closed with bytes unread, TCP would send a reset, which takes an alert from the peer.
                    while socket.socket.recv(end, 1 << 16):
                        pass
        except OSError as error:
            self.saw.setdefault(side, type(error).__name__)

    def _wrapped(self, side: str, context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
        if side == "server":
            return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return context.wrap_socket(
            sock, server_hostname=self._name, session=self.session, do_handshake_on_connect=False
        )

    def _said(self, side: str, end: socket.socket) -> str:
        try:
            if isinstance(end, ssl.SSLSocket):
                end.do_handshake()
            if side == "client":
                end.sendall((_WORDS * self._size)[: self._size])
            left = self._size
            while left:
                got = len(end.recv(left))
                if not got:
                    return "the end of the stream"
                left -= got
            if side == "server":
                end.sendall((_WORDS * self._size)[: self._size])
            if isinstance(end, ssl.SSLSocket):
                if side == "client":
                    self.session = end.session
                end.unwrap()
        except ssl.SSLError as error:
            return error.reason or str(error)
        return "no error"
