"""A TLS 1.3 client that can present any bytes as its certificates, which a library's client would refuse to send.

It supports X25519 and TLS_AES_128_GCM_SHA256 (RFC 8446), and does not verify the server. Its CertificateVerify is junk:
a server should refuse the chain before that.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Answer", "certificate_message", "client_hello", "present", "present_on"]

_SUITE, _X25519, _TLS12, _TLS13 = 0x1301, 0x001D, 0x0303, 0x0304
_SCHEMES = (0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0807, 0x0401, 0x0501, 0x0601)
_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE, _APPLICATION = 20, 21, 22, 23
_CLIENT_HELLO, _CERTIFICATE, _CERTIFICATE_REQUEST, _CERTIFICATE_VERIFY, _FINISHED = 1, 11, 13, 15, 20
_MAX_RECORD = 1 << 14


@dataclass(frozen=True, slots=True)
class Answer:
    """The server's reaction.

    - ``alert``: its number (RFC 8446, section 6); None if the connection ended without one.
    - ``asked``: whether the server requested a certificate.
    """

    alert: int | None
    asked: bool


def certificate_message(certificates: Sequence[bytes], context: bytes = b"") -> bytes:
    """A client's Certificate message without entry extensions (RFC 8446, section 4.4.2), header included."""
    entries = b"".join(_vector(3, der) + b"\0\0" for der in certificates)
    return _message(_CERTIFICATE, _vector(1, context) + _vector(3, entries))


def present(address: tuple[str, int], message: bytes, timeout: float = 30.0) -> Answer:
    """Shake hands, send ``message`` in place of the client's Certificate, and wait for the server's reaction.

    Raises OSError, and ValueError if the server does not support this client's group and suite.
    """
    with socket.create_connection(address, timeout=timeout) as sock:
        return present_on(sock, message)


def present_on(sock: socket.socket, message: bytes) -> Answer:
    """The same on an open connection, which stays open.

    Also raises EOFError if the server ends it before its own part of the handshake is done.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Connection(sock).run(message)


def client_hello() -> bytes:
    """The client's first record, with a new key share."""
    return _record(_HANDSHAKE, _client_hello(X25519PrivateKey.generate().public_key().public_bytes_raw()))


@dataclass(slots=True)
class _Keys:
    """One direction's traffic keys (RFC 8446, section 7.3)."""

    secret: bytes
    count: int = 0
    aead: AESGCM = field(init=False)
    iv: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.aead = AESGCM(_expand(self.secret, b"key", b"", 16))
        self.iv = _expand(self.secret, b"iv", b"", 12)

    def nonce(self) -> bytes:
        self.count += 1
        return (int.from_bytes(self.iv, "big") ^ (self.count - 1)).to_bytes(12, "big")


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._transcript = hashlib.sha256()
        self._plain = b""  # unread handshake messages
        self._theirs: _Keys | None = None

    def run(self, message: bytes) -> Answer:
        own = X25519PrivateKey.generate()
        hello = _client_hello(own.public_key().public_bytes_raw())
        self._transcript.update(hello)
        self._sock.sendall(_record(_HANDSHAKE, hello))
        shared = own.exchange(X25519PublicKey.from_public_bytes(_share_of(self._next_message())))
        secret = _extract(_expand(_extract(bytes(32), bytes(32)), b"derived", hashlib.sha256().digest(), 32), shared)
        ours = _Keys(_expand(secret, b"c hs traffic", self._transcript.digest(), 32))
        self._theirs = _Keys(_expand(secret, b"s hs traffic", self._transcript.digest(), 32))
        asked = False
        while (received := self._next_message())[0] != _FINISHED:
            asked = asked or received[0] == _CERTIFICATE_REQUEST
        master = _extract(_expand(secret, b"derived", hashlib.sha256().digest(), 32), bytes(32))
        self._theirs = _Keys(_expand(master, b"s ap traffic", self._transcript.digest(), 32))
        self._say(ours, message)
        self._say(ours, _message(_CERTIFICATE_VERIFY, struct.pack(">H", _SCHEMES[0]) + _vector(2, b"junk" * 16)))
        self._say(ours, _message(_FINISHED, self._finished(ours)))
        return Answer(self._alert(), asked)

    def _finished(self, ours: _Keys) -> bytes:
        return hmac.digest(_expand(ours.secret, b"finished", b"", 32), self._transcript.digest(), "sha256")

    def _say(self, keys: _Keys, message: bytes) -> None:
        """Send a handshake message; ignores that the server has closed the connection already."""
        self._transcript.update(message)
        sealed = b""
        for start in range(0, len(message), _MAX_RECORD):
            inner = message[start : start + _MAX_RECORD] + bytes((_HANDSHAKE,))
            header = struct.pack(">BHH", _APPLICATION, _TLS12, len(inner) + 16)
            sealed += header + keys.aead.encrypt(keys.nonce(), inner, header)
        try:
            self._sock.sendall(sealed)
        except (BrokenPipeError, ConnectionResetError):
            return

    def _next_message(self) -> bytes:
        while len(self._plain) < 4 or len(self._plain) < 4 + int.from_bytes(self._plain[1:4], "big"):
            kind, data = self._next_record()
            if kind == _ALERT:
                raise ValueError(f"the server refused with alert {data[1]} before it asked for a certificate")
            if kind == _HANDSHAKE:
                self._plain += data
        end = 4 + int.from_bytes(self._plain[1:4], "big")
        message, self._plain = self._plain[:end], self._plain[end:]
        self._transcript.update(message)
        return message

    def _next_record(self) -> tuple[int, bytes]:
        header = self._exactly(5)
        kind, _, length = struct.unpack(">BHH", header)
        data = self._exactly(length)
        if kind != _APPLICATION or self._theirs is None:
            return kind, data
        inner = self._theirs.aead.decrypt(self._theirs.nonce(), data, header).rstrip(b"\0")
        return inner[-1], inner[:-1]

    def _alert(self) -> int | None:
        """Read to the end, and return the alert, if any."""
        try:
            while True:
                kind, data = self._next_record()
                if kind == _ALERT and data[0] == 2:  # fatal
                    return data[1]
        except (EOFError, ConnectionResetError):
            return None

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            if not more:
                raise EOFError("the server closed the connection")
            data += more
        return data


def _client_hello(share: bytes) -> bytes:
    extensions = (
        _extension(43, _vector(1, struct.pack(">H", _TLS13)))
        + _extension(10, _vector(2, struct.pack(">H", _X25519)))
        + _extension(13, _vector(2, b"".join(struct.pack(">H", one) for one in _SCHEMES)))
        + _extension(51, _vector(2, struct.pack(">H", _X25519) + _vector(2, share)))
    )
    suites = _vector(2, struct.pack(">H", _SUITE))
    fixed = struct.pack(">H", _TLS12) + os.urandom(32) + _vector(1, b"")
    return _message(_CLIENT_HELLO, fixed + suites + _vector(1, b"\0") + _vector(2, extensions))


def _share_of(hello: bytes) -> bytes:
    """The server's X25519 share in its ServerHello."""
    place = 4 + 2 + 32
    place += 1 + hello[place] + 2 + 1 + 2
    while place < len(hello):
        kind, length = struct.unpack_from(">HH", hello, place)
        body = hello[place + 4 : place + 4 + length]
        if kind == 51 and len(body) == 36:
            return body[4:]
        place += 4 + length
    raise ValueError("wanted an X25519 share of the server, got none")


def _extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + _vector(2, body)


def _message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _vector(3, body)


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack(">BH", kind, _TLS12) + _vector(2, data)


def _vector(length_bytes: int, data: bytes) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data


def _extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def _expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, section 7.1), for lengths up to one hash."""
    info = struct.pack(">H", length) + _vector(1, b"tls13 " + label) + _vector(1, context)
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]
