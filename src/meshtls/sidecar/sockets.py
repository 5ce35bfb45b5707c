"""The raw sockets of a sidecar: listening, accepting without loss, dialling by name, waiting, and the ways to end.

The phases before the relay wait here, on our poller: the loop's ``sock_recv`` and the like cost 20 µs and two system
calls a wait. The relay itself does not wait (see ``relay.py``, ``ends.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from itertools import repeat
from typing import Any

from meshtls.address import Address
from meshtls.errors import ConfigError
from meshtls.port_holder import bind_reason
from meshtls.sidecar.poller import Poller

__all__ = [
    "CHUNK",
    "abort",
    "accept_ready",
    "address_of",
    "close",
    "dial",
    "dial_at_once",
    "either_readable",
    "error_of",
    "hang_up",
    "linger",
    "listen",
    "peer_of",
    "readable",
    "ready",
    "receive",
    "send_all",
    "writable",
]

#: Most bytes of one read before the relay begins.
CHUNK = 1 << 14
_BACKLOG = 4096
#: Connections accepted per wake-up: more would delay the established ones.
_ACCEPTS = 64
#: Seconds for which we go on reading from a refused peer, so that it reads our alert: closing over unread bytes sends a
#: reset, which makes its next send fail and, on some systems, its read of what arrived before.
_LINGER_SECONDS = 1.0
#: Most bytes that are dropped meanwhile. After that the peer is not read from.
_LINGER_BYTES = 1 << 24
_DROPPED = memoryview(bytearray(1 << 18))
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_UNDERWAY = (errno.EINPROGRESS, errno.EALREADY)
_CONNECTED = (0, errno.EISCONN)
# With this flag a socket is non-blocking from the start, which saves a system call.
_NONBLOCK: int = getattr(socket, "SOCK_NONBLOCK", 0)
_Place = tuple[Any, ...]
_Target = tuple[int, _Place]


def listen(address: Address, key: str, *, shared: bool = False) -> socket.socket:
    """A listening socket; port 0 takes a free one. ``shared``: other processes may listen there, too.

    ``key`` names the setting in the ConfigError that may be raised.
    """
    family = socket.AF_INET6 if _is_ipv6(address.host) else socket.AF_INET
    try:
        listener = socket.create_server(
            (address.host, address.port), family=family, backlog=_BACKLOG, reuse_port=shared
        )
    except OSError as error:
        why = bind_reason(error, address.host, address.port)
        raise ConfigError(f"{key}: wanted to listen on {address}: {why}") from error
    _prepare(listener)
    return listener


def accept_ready(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept what is waiting, _ACCEPTS at most. Raises OSError if descriptors or memory are exhausted.

    Accepted sockets inherit TCP_NODELAY from the listener, but not that it is non-blocking.
    """
    for _ in repeat(None, _ACCEPTS):
        try:
            sock, _address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionAbortedError:
            continue
        sock.setblocking(False)
        yield sock


async def dial(address: Address, poller: Poller, timeout: float | None = None) -> socket.socket:
    """Connect within ``timeout`` seconds, if it is given, trying each address of the name in turn.

    Raises the OSError of the last address; TimeoutError is one.
    """
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    failure = OSError(f"{address.host} has no address")
    for family, place in _literal(address) or await _resolved(address, deadline):
        sock = socket.socket(family, socket.SOCK_STREAM)
        _prepare(sock)
        try:
            await _finish_connect(sock, place, deadline, poller)
        except OSError as error:
            close(sock, poller)
            failure = error
        except BaseException:
            close(sock, poller)
            raise
        else:
            return sock
    raise failure


def dial_at_once(address: Address) -> socket.socket | None:
    """Connect without waiting: on loopback the connection is made when ``connect`` returns. None for any other address,
    for a name, and if it was not made; use ``dial`` then, which waits or raises the reason.
    """
    for family, place in _loopback(address):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | _NONBLOCK)
        except OSError:
            return None
        try:
            if not _NONBLOCK:
                sock.setblocking(False)
            if _connect(sock, place) in _CONNECTED:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        except OSError:
            pass
        sock.close()
    return None


def _connect(sock: socket.socket, place: _Place) -> int:
    """The error number of ``connect``; 0 or EISCONN if connected."""
    code = sock.connect_ex(place)
    # On loopback it is connected when the call returns: a second call is cheaper than a wait.
    return sock.connect_ex(place) if code == errno.EINPROGRESS else code


async def _finish_connect(sock: socket.socket, place: _Place, deadline: float | None, poller: Poller) -> None:
    code = _connect(sock, place)
    if code in _UNDERWAY:
        async with asyncio.timeout_at(deadline):
            await writable(sock, poller)
        if error := error_of(sock):
            raise error
    elif code not in _CONNECTED:
        raise OSError(code, os.strerror(code))


async def readable(sock: socket.socket, poller: Poller) -> None:
    """Wait until there is something to read or to accept. Cancellation loses nothing."""
    await ready(sock, poller, read=True)


async def writable(sock: socket.socket, poller: Poller) -> None:
    """Wait until there is room to send."""
    await ready(sock, poller, write=True)


async def ready(sock: socket.socket, poller: Poller, *, read: bool = False, write: bool = False) -> None:
    """Wait until the socket is readable or writable, as requested; for ever if neither is."""
    found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done = partial(_set_done, found)
    poller.watch(sock, done if read else None, done if write else None)
    try:
        await found
    finally:
        poller.watch(sock, None, None)


async def either_readable(one: socket.socket, other: socket.socket, poller: Poller) -> None:
    """Wait until there is something to read from at least one of the two."""
    found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done = partial(_set_done, found)
    for sock in (one, other):
        poller.watch(sock, done, None)
    try:
        await found
    finally:
        for sock in (one, other):
            poller.watch(sock, None, None)


async def receive(sock: socket.socket, poller: Poller) -> bytes:
    """Wait for bytes, CHUNK at most; b"" at the end. Raises OSError where the connection broke."""
    while True:
        await readable(sock, poller)
        with contextlib.suppress(BlockingIOError, InterruptedError):
            return sock.recv(CHUNK)


async def send_all(sock: socket.socket, data: bytes, poller: Poller) -> None:
    """Send, and wait for room as long as there is none. Raises OSError where the connection broke."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except (BlockingIOError, InterruptedError):
            await writable(sock, poller)


def _set_done(found: asyncio.Future[None]) -> None:
    if not found.done():
        found.set_result(None)


def close(sock: socket.socket, poller: Poller) -> None:
    """Close gracefully: bytes that were sent still arrive."""
    poller.forget(sock)
    sock.close()


def abort(sock: socket.socket, poller: Poller) -> None:
    """Close with a reset, so that the other end can't take what it received as complete."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    close(sock, poller)


def hang_up(sock: socket.socket, error: Exception | None, poller: Poller) -> None:
    """Close a socket after its relay: with a reset, unless both directions had ended."""
    if error is None:
        close(sock, poller)
    else:
        abort(sock, poller)


async def linger(sock: socket.socket, poller: Poller, unsent: bytes = b"") -> None:
    """Close so that the last bytes sent arrive: send the rest, end our side, and for a bounded time drop what the peer
    still sends.
    """
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await _end_last_words(sock, poller, memoryview(unsent))
    finally:
        close(sock, poller)


async def _end_last_words(sock: socket.socket, poller: Poller, rest: memoryview) -> None:
    dropped, ended = 0, False
    while True:
        rest = rest[_send_some(sock, rest) :]
        if not rest:
            sock.shutdown(socket.SHUT_WR)  # again and again is once
        while not ended and dropped <= _LINGER_BYTES and (count := _drop_some(sock)) is not None:
            dropped, ended = dropped + count, not count
        if ended and not rest:
            return
        # Read and write at once: otherwise a peer that writes all before it reads would wait for us, and we for it.
        await ready(sock, poller, read=not ended and dropped <= _LINGER_BYTES, write=bool(rest))


def _send_some(sock: socket.socket, data: memoryview) -> int:
    try:
        return sock.send(data) if data else 0
    except (BlockingIOError, InterruptedError):
        return 0


def _drop_some(sock: socket.socket) -> int | None:
    """Read and drop bytes. Returns their number, 0 at the end, None for nothing yet."""
    try:
        return sock.recv_into(_DROPPED)
    except (BlockingIOError, InterruptedError):
        return None


def error_of(sock: socket.socket) -> OSError | None:
    """The error that broke this connection, or None. The kernel reports it once."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return OSError(code, os.strerror(code)) if code else None


def address_of(sock: socket.socket) -> Address:
    """Our own end's address."""
    return Address(*sock.getsockname()[:2])


def peer_of(sock: socket.socket) -> str:
    """The other end's address as text; "unknown" if it has disconnected."""
    try:
        return str(Address(*sock.getpeername()[:2]))
    except OSError:
        return "unknown"


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@lru_cache(maxsize=256)
def _literal(address: Address) -> tuple[_Target, ...]:
    """The target if the host is an IP address; () for a name, which asyncio resolves in a thread."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return ()
    return _targets(found)


@lru_cache(maxsize=256)
def _loopback(address: Address) -> tuple[_Target, ...]:
    """As ``_literal``, but () if the address is not loopback."""
    try:
        return _literal(address) if ipaddress.ip_address(address.host).is_loopback else ()
    except ValueError:
        return ()


async def _resolved(address: Address, deadline: float | None) -> tuple[_Target, ...]:
    async with asyncio.timeout_at(deadline):
        loop = asyncio.get_running_loop()
        return _targets(await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))


def _targets(found: Iterable[tuple[int, int, int, str, _Place]]) -> tuple[_Target, ...]:
    return tuple((family, place) for family, _, _, _, place in found)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False
