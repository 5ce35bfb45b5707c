"""The strangers: what each does at a listener, and whether it was refused."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.hostile_chains import HostileChain
from bench.peers.base import SideCerts
from bench.raw_client import certificate_message, client_hello, present_on
from bench.raw_http2 import (
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawHttp2,
    anonymous_tls,
    frame,
    raw_http2,
)
from bench.strangers.figures import FOREIGN, Scale
from bench.strangers.http2 import Ending, ending_of
from bench.strangers.targets import Calls, Listener, Target
from bench.traffic import wire_bytes

__all__ = ["STRANGERS", "Attack", "Ended", "Stranger", "chains_presented", "foreign_certificates"]

_AT_ONCE = 8
_PATIENCE_S = 30.0
_HTTP_REQUEST = b"EGET / HTTP/1.1\r\nHost: app.bench.test\r\n\r\n"  # E: the app echoes what follows
_ALERT, _HANDSHAKE, _CHANGE_CIPHER_SPEC, _APPLICATION_DATA = 21, 22, 20, 23
_FRAME = 1 << 14
_WINDOW = 65535  # the initial window of a connection and a stream (RFC 9113, section 6.9.2)
_INITIAL_WINDOW_SIZE = 4


@dataclass(frozen=True, slots=True)
class Attack:
    """Strangers at one listener, all from the address ``source``.

    ``foreign`` is a certificate of another CA; ``chain`` is the one chosen for this peer.
    """

    target: Target
    scale: Scale
    foreign: SideCerts
    source: str
    chain: HostileChain | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of one stranger: bytes sent and received, whether the app served it, and whether the server closed its
    connection.
    """

    sent: int = 0
    received: int = 0
    served: bool = False
    cut: bool = True


Storm = Callable[[Attack, int], Awaitable[list[Ended]]]


@dataclass(frozen=True, slots=True)
class Stranger:
    """One kind of stranger.

    - ``storm``: runs this many of them, or as many as time allows.
    - ``chosen_chain``: it presents the costliest chain for the peer.
    - ``burst``: it is the first at its listener, without a friendly client beside it.
    """

    name: str
    title: str
    listener: Listener
    count: Callable[[Scale], int]
    storm: Storm
    chosen_chain: bool = False
    burst: bool = False


def _connected(attack: Attack) -> socket.socket:
    address = ("127.0.0.1", attack.target.port)
    return socket.create_connection(address, timeout=_PATIENCE_S, source_address=(attack.source, 0))


# Over TCP and TLS. Each of these returns whether the stranger received a byte of the app.


async def _one_by_one(attack: Attack, count: int, act: Callable[[socket.socket], bool]) -> list[Ended]:
    """This many strangers, a few at a time, each until the server is done with it."""

    def meet() -> Ended:
        try:
            sock = _connected(attack)
        except ConnectionError:
            return Ended()
        with sock:
            try:
                served = act(sock)
            except (EOFError, ConnectionError):
                served = False
            sent, received = wire_bytes(sock)
        return Ended(sent, received, served)

    async def in_turn() -> Ended:
        return await asyncio.to_thread(meet)

    return await _as_time_allows(attack, count, in_turn)


async def _as_time_allows(attack: Attack, count: int, meet: Callable[[], Awaitable[Ended]]) -> list[Ended]:
    """This many strangers, a few at a time; fewer if a server keeps each waiting."""
    until = time.monotonic() + attack.scale.storm_seconds
    left = iter(range(count))

    async def meets() -> list[Ended]:
        return [await meet() for _ in left if time.monotonic() < until]

    return [one for some in await asyncio.gather(*(meets() for _ in range(_AT_ONCE))) for one in some]


async def chains_presented(attack: Attack, count: int, chain: HostileChain) -> list[Ended]:
    """This many strangers that present this chain."""
    message = certificate_message(chain.certificates)

    def act(sock: socket.socket) -> bool:
        # Without the leaf's key it can't be served; the client reads until the end.
        present_on(sock, message)
        return False

    return await _one_by_one(attack, count, act)


async def _chosen_chain(attack: Attack, count: int) -> list[Ended]:
    if attack.chain is None:
        raise ValueError("wanted the chain that was chosen for this peer, got none")
    return await chains_presented(attack, count, attack.chain)


async def foreign_certificates(attack: Attack, count: int) -> list[Ended]:
    """This many strangers with a good certificate and key of a CA that the server does not know."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(attack.foreign.chain, attack.foreign.key)

    def act(sock: socket.socket) -> bool:
        # An SSLObject over memory, so that the socket stays accessible for its counters.
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing)
        greeted = False
        while True:
            try:
                if not greeted:
                    tls.do_handshake()
                    greeted = True
                    tls.write(b"Ehello")
                return bool(tls.read(1))
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                if data := sock.recv(_FRAME):
                    incoming.write(data)
                else:
                    return False
            except ssl.SSLError:
                return False  # the alert that refuses

    return await _one_by_one(attack, count, act)


async def _plaintext(attack: Attack, count: int) -> list[Ended]:
    def act(sock: socket.socket) -> bool:
        sock.sendall(_HTTP_REQUEST)
        came = b""
        while data := sock.recv(_FRAME):
            came += data
        return _HTTP_REQUEST[1:9] in came

    return await _one_by_one(attack, count, act)


def _held(first: Callable[[], bytes], usual: Sequence[int]) -> Storm:
    """Connect, send ``first`` and nothing more; all at once. Records of ``usual`` types do not come from the app."""

    async def storm(attack: Attack, count: int) -> list[Ended]:
        def meet() -> list[Ended]:
            with ExitStack() as stack:
                opened = []
                for _ in range(count):
                    sock = stack.enter_context(_connected(attack))
                    if said := first():
                        sock.sendall(said)
                    opened.append(sock)
                time.sleep(attack.scale.held_seconds)
                return [_state(sock, usual) for sock in opened]

        return await asyncio.to_thread(meet)

    return storm


def _state(sock: socket.socket, usual: Sequence[int]) -> Ended:
    sock.setblocking(False)
    came, cut = b"", False
    try:
        while data := sock.recv(_FRAME):
            came += data
        cut = True
    except BlockingIOError:
        cut = False
    except ConnectionError:
        cut = True
    sent, received = wire_bytes(sock)
    return Ended(sent, received, served=bool(came) and came[0] not in usual, cut=cut)


# Over HTTP/2.


async def _calling(attack: Attack, count: int, act: Callable[[RawHttp2, Calls], Awaitable[Ending]]) -> list[Ended]:
    calls = attack.target.calls
    if calls is None:
        raise ValueError("wanted a listener for HTTP/2")
    tls = anonymous_tls()

    async def meet() -> Ended:
        try:
            async with raw_http2(("127.0.0.1", attack.target.port), tls, source=attack.source) as client:
                # Another descriptor of the same connection: asyncio closes its own when the server does.
                with socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno())) as sock:
                    try:
                        ending = await act(client, calls)
                    except ConnectionError:
                        ending = Ending.CUT
                    sent, received = wire_bytes(sock)
        except (ConnectionError, ssl.SSLError):
            return Ended()  # refused before its first frame
        return Ended(sent, received, ending is Ending.ANSWERED, ending is Ending.CUT)

    return await _as_time_allows(attack, count, meet)


async def _rapid_reset(attack: Attack, count: int) -> list[Ended]:
    async def act(client: RawHttp2, calls: Calls) -> Ending:
        streams = range(1, 2 * attack.scale.resets, 2)
        said = b"".join(client.reset_call(stream, calls.reset, end=calls.whole) for stream in streams)
        sending = asyncio.create_task(client.send(said + frame(PING, 0, 0, bytes(8))))
        try:
            return await _after_resets(client)
        finally:
            await asyncio.gather(sending, return_exceptions=True)

    return await _calling(attack, count, act)


async def _after_resets(client: RawHttp2) -> Ending:
    """As ``ending_of``, but to the end of all streams.

    The requested resource is public, so a response that arrives before the reset is not a wrong admission.
    """
    while (ending := await ending_of(client)) in (Ending.REFUSED, Ending.ANSWERED):
        pass
    return ending


async def _large_message(attack: Attack, count: int) -> list[Ended]:
    size = attack.scale.message_bytes

    async def act(client: RawHttp2, calls: Calls) -> Ending:
        await client.send(client.call(1, calls.message))
        return await _pour(client, struct.pack(">BI", 0, size), size + 5)

    return await _calling(attack, count, act)


async def _pour(client: RawHttp2, beginning: bytes, total: int) -> Ending:
    """Send this many bytes of DATA on stream 1 as fast as the server's windows allow, until it refuses."""
    windows, initial, sent = {0: _WINDOW, 1: _WINDOW}, _WINDOW, 0
    while True:
        while sent < total and (room := min(_FRAME, total - sent, *windows.values())) > 0:
            piece = beginning[:room].ljust(room, b"\0") if sent == 0 else bytes(room)
            sent += room
            windows = {stream: window - room for stream, window in windows.items()}
            await client.send(frame(DATA, END_STREAM if sent == total else 0, 1, piece))
        found = await client.next()
        if found is None or found.kind == GOAWAY:
            return Ending.CUT
        if found.kind == WINDOW_UPDATE and found.stream in windows:
            windows[found.stream] += int.from_bytes(found.payload, "big")
        elif found.kind == SETTINGS and not found.flags:
            for place in range(0, len(found.payload), 6):
                key, value = struct.unpack_from(">HI", found.payload, place)
                if key == _INITIAL_WINDOW_SIZE:
                    windows[1], initial = windows[1] + value - initial, value
        elif found.kind == RST_STREAM:
            return Ending.REFUSED
        elif found.kind == HEADERS:
            headers = client.decoded(found)
            if headers.get(":status") != "200" or "grpc-status" in headers:
                return Ending.REFUSED
        elif found.kind == DATA and found.payload:
            return Ending.ANSWERED


async def _token_guess(attack: Attack, count: int) -> list[Ended]:
    async def act(client: RawHttp2, calls: Calls) -> Ending:
        if calls.guess is None:
            raise ValueError("wanted a listener that takes join tokens")
        await client.send(client.call(1, calls.message, calls.guess(secrets.token_urlsafe())))
        return await ending_of(client)

    return await _calling(attack, count, act)


_TLS_RECORDS = (_CHANGE_CIPHER_SPEC, _ALERT, _HANDSHAKE)
_BURST = 24
STRANGERS = (
    Stranger(FOREIGN, "certificate of another CA", Listener.MTLS, lambda s: s.handshakes, foreign_certificates),
    Stranger("worst-chain", "the dearest chain, sustained", Listener.MTLS, lambda s: s.handshakes, _chosen_chain, True),
    Stranger(
        "worst-chain-burst",
        "the dearest chain, the first few",
        Listener.MTLS,
        lambda s: min(_BURST, s.handshakes),
        _chosen_chain,
        True,
        True,
    ),
    Stranger("plaintext", "HTTP request without TLS", Listener.MTLS, lambda s: s.connections, _plaintext),
    Stranger("half-open", "TCP connection that says nothing", Listener.MTLS, lambda s: s.held, _held(bytes, ())),
    Stranger(
        "half-handshake",
        "ClientHello, then nothing",
        Listener.MTLS,
        lambda s: s.held,
        _held(client_hello, _TLS_RECORDS),
    ),
    Stranger("rapid-reset", "HTTP/2 rapid reset", Listener.HTTP2, lambda s: s.connections // 4, _rapid_reset),
    Stranger("large-message", "message of 64 MiB", Listener.HTTP2, lambda s: s.messages, _large_message),
    Stranger("token-guess", "wrong join token", Listener.TOKEN, lambda s: s.guesses, _token_guess),
)
