"""A ClientHello as browsers send it: GREASE (RFC 8701), and a share of the post-quantum group X25519MLKEM768."""

from __future__ import annotations

import ssl
import struct

__all__ = ["answer_to", "hello_of_a_browser"]

_GREASE = 0x3A3A
_X25519, _X25519MLKEM768 = 0x001D, 0x11EC


def _vector(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _numbers(*values: int) -> bytes:
    return struct.pack(f"!{len(values)}H", *values)


def hello_of_a_browser(server_name: str) -> bytes:
    """The record."""
    name = _vector(b"\0" + _vector(server_name.encode()))
    # A share of X25519 is 32 bytes of any value; ML-KEM's are before it, and are not looked at by X25519.
    share, encapsulation = bytes(range(1, 33)), bytes(1184)
    shares = ((_GREASE, b"\0"), (_X25519MLKEM768, encapsulation + share), (_X25519, share))
    extensions = (
        (_GREASE, b""),
        (0, name),
        (10, _vector(_numbers(_GREASE, _X25519MLKEM768, _X25519, 0x0017))),
        (13, _vector(_numbers(0x0403, 0x0804, 0x0401))),
        (16, _vector(_vector(b"h2", 1) + _vector(b"http/1.1", 1))),
        (43, _vector(_numbers(_GREASE, 0x0304, 0x0303), 1)),
        (45, _vector(b"\1", 1)),
        (51, _vector(b"".join(_numbers(group) + _vector(content) for group, content in shares))),
        (_GREASE + 0x1010, b"\0"),
    )
    body = b"".join(
        (
            _numbers(0x0303),
            bytes(range(32)),
            _vector(bytes(32), 1),
            _vector(_numbers(_GREASE, 0x1301, 0x1302, 0x1303)),
            _vector(b"\0", 1),
            _vector(b"".join(_numbers(kind) + _vector(content) for kind, content in extensions)),
        )
    )
    return b"\x16\3\1" + _vector(b"\1" + _vector(body, 3))


def answer_to(hello: bytes, server: ssl.SSLContext) -> bytes:
    """What OpenSSL's server answers."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = server.wrap_bio(into, out, server_side=True)
    into.write(hello)
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a ClientHello alone ended the handshake")
