"""What asyncio's raw-socket calls leave out: listening, accepting without loss, dialling by name, and the ways to end.

The phases before the relay wait in these calls; the relay itself does not (see ``relay.py``, ``ends.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from meshtls.errors import ConfigError
from meshtls.sidecar.address import Address

__all__ = ["CHUNK", "abort", "accept_ready", "address_of", "dial", "linger", "listen", "peer_of", "readable"]

#: Bytes that one read takes at most; what the relay holds per direction.
CHUNK = 1 << 16
_BACKLOG = 1024
#: Seconds and bytes that a refused peer is listened to, so that our alert is read before our reset.
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 1 << 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def listen(address: Address, key: str) -> socket.socket:
    """A listening socket; port 0 takes a free one. ``key`` names the setting in the ConfigError that may be raised."""
    family = socket.AF_INET6 if _is_ipv6(address.host) else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigError(f"{key}: wanted to listen on {address}: {why}") from error
    listener.setblocking(False)
    return listener


async def readable(sock: socket.socket) -> None:
    """Wait until there is something to read or to accept. Unlike ``sock_recv`` it loses nothing when cancelled."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _set_done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def accept_ready(listener: socket.socket) -> Iterator[socket.socket]:
    """Accept every connection that is waiting. Raises OSError where the machine has no room for one more."""
    while True:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionAbortedError:
            continue
        _prepare(sock)
        yield sock


async def dial(address: Address) -> socket.socket:
    """Connect, trying each address of the name in turn. Raises OSError of the last that failed."""
    failure = OSError(f"{address.host} has no address")
    for family, place in await _resolve(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        _prepare(sock)
        try:
            await asyncio.get_running_loop().sock_connect(sock, place)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


def abort(sock: socket.socket) -> None:
    """Close with a reset, so that the other end can't take what it got for the whole."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


async def linger(sock: socket.socket) -> None:
    """Close so that what was sent last arrives: end our side, then drop what still comes, for a bounded while."""
    loop = asyncio.get_running_loop()
    try:
        with contextlib.suppress(OSError, TimeoutError):
            sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_LINGER_SECONDS):
                dropped = 0
                while dropped < _LINGER_BYTES and (data := await loop.sock_recv(sock, CHUNK)):
                    dropped += len(data)
    finally:
        sock.close()


def address_of(sock: socket.socket) -> Address:
    """Our own end's address."""
    return Address(*sock.getsockname()[:2])


def peer_of(sock: socket.socket) -> str:
    """The other end's address as text; "unknown" where it has gone already."""
    try:
        return str(Address(*sock.getpeername()[:2]))
    except OSError:
        return "unknown"


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _resolve(address: Address) -> list[tuple[int, tuple[object, ...]]]:
    loop = asyncio.get_running_loop()
    try:
        # A literal needs no resolver, and asyncio's resolver is a thread.
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    return [(family, place) for family, _, _, _, place in found]


def _set_done(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        return False
