"""The bytes of a handshake by X25519, and of the same by X25519MLKEM768, over a round trip of 100 ms.

OpenSSL speaks this group from 3.5 on. So that older ones can show what it costs, the shares of X25519 are replaced in
the bytes of a handshake. Nobody could decrypt that, but it has the size and the order of the real one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from examples.costs.network import HERE, PORT, THERE, Network
from examples.costs.talk import Authority, contexts

#: The numbers of the groups, of which draft-ietf-tls-ecdhe-mlkem has the second one, and the bytes of a share.
_X25519, _HYBRID, _SHARE = b"\0\x1d", b"\x11\xec", 32
_SUPPORTED_GROUPS, _KEY_SHARE = b"\0\x0a\0\4\0\2", b"\0\x33"
#: Where a hello in a record has the length of its session ID.
_SESSION_ID = 5 + 4 + 2 + 32
_CLIENT_HELLO = 1


def flights(name: str) -> list[bytes]:
    """What the client and the server write in turn."""
    ours, theirs = contexts(Authority())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(to_client, to_server, server_hostname=name)
    server = theirs.wrap_bio(to_server, to_client, server_side=True)
    found = []
    for end, output in 2 * [(client, to_server), (server, to_client)]:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        found.append(output.read())
        output.write(found[-1])
    return found


def with_share(flight: bytes, share: bytes) -> bytes:
    """The flight, with this share of the hybrid group in the hello that it begins with."""
    at = flight.index(_X25519 + _SHARE.to_bytes(2, "big"))
    extension = flight.rindex(_KEY_SHARE, 0, at)
    extensions = _SESSION_ID + 1 + flight[_SESSION_ID]
    if flight[5] == _CLIENT_HELLO:  # lists of suites and compressions; a ServerHello has one of each
        extensions += 2 + int.from_bytes(flight[extensions : extensions + 2], "big")
        extensions += 1 + flight[extensions]
    else:
        extensions += 3
    hello = bytearray(flight)
    hello[at : at + 4 + _SHARE] = _HYBRID + len(share).to_bytes(2, "big") + share
    # Each length around it: record, message, extensions, key_share, and the list in a client's.
    for place, size in {(3, 2), (6, 3), (extensions, 2), (extension + 2, 2), (at - 2, 2)}:
        length = int.from_bytes(hello[place : place + size], "big") + len(share) - _SHARE
        hello[place : place + size] = length.to_bytes(size, "big")
    return bytes(hello).replace(_SUPPORTED_GROUPS + _X25519, _SUPPORTED_GROUPS + _HYBRID)


def send(both: list[bytes]) -> None:
    """Each flight, once the one before it has come."""

    def run(sock: socket.socket, turn: int) -> None:
        with sock:
            for number, flight in enumerate(both):
                if number % 2 == turn:
                    sock.sendall(flight)
                else:
                    sock.recv(len(flight), socket.MSG_WAITALL)

    with socket.create_server((HERE, PORT)) as listener:
        there = threading.Thread(target=lambda: run(listener.accept()[0], 1))
        there.start()
        run(socket.create_connection((THERE, PORT)), 0)
        there.join()


def main() -> None:
    """Make the captures."""
    key = MLKEM768PrivateKey.generate().public_key()
    points = [X25519PrivateKey.generate().public_key().public_bytes_raw() for _ in range(2)]
    shares = key.public_bytes_raw() + points[0], key.encapsulate()[1] + points[1]
    with Network("hybrid"):
        send(flights("x25519"))
        first, second, *others = flights("hybrid")
        send([with_share(first, shares[0]), with_share(second, shares[1]), *others])


if __name__ == "__main__":
    main()
