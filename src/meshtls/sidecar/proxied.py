"""The PROXY protocol at both ends of an inbound connection: the header that it begins with, and the one for the app."""

from __future__ import annotations

import asyncio
import socket

from meshtls.address import Address
from meshtls.errors import RequestError
from meshtls.observe.events import Outcome
from meshtls.policy.istio.match import Networks, read_ip
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, EndedError, TlsFacts, host_of
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import address_of, receive
from meshtls.wire.proxy_protocol import ProxiedTls, proxy_header, read_proxy_header

__all__ = ["proxy_header_of", "take_proxy_header"]


async def take_proxy_header(
    connection: Connection, so_far: bytearray, trusted: Networks, poller: Poller, timeout: float
) -> None:
    """Read the header, and leave in ``so_far`` what follows it. ``connection.remote`` is then the client that it names,
    or ``unknown``.

    Raises EndedError if the connection did not come from ``trusted``, if what it begins with is no header, and if the
    header is not there within ``timeout`` seconds.
    """
    came_from = read_ip(host_of(connection.remote))
    if came_from is None or not trusted.matches(came_from):
        raise EndedError(
            Outcome.PROXY_HEADER_REFUSED,
            f"wanted a proxy in proxy_protocol_from, got a connection from {connection.remote}",
        )
    try:
        async with asyncio.timeout(timeout):
            while (header := read_proxy_header(bytes(so_far))) is None:
                data = await receive(connection.opener, poller)
                if not data and not so_far:
                    raise EndedError(Outcome.CLOSED_EARLY, "the proxy closed the connection before it sent a byte")
                if not data:
                    raise EndedError(Outcome.PROXY_HEADER_REFUSED, "the proxy ended before its header did")
                so_far += data
    except RequestError as error:
        raise EndedError(Outcome.PROXY_HEADER_REFUSED, str(error)) from error
    except TimeoutError as error:
        raise EndedError(Outcome.PROXY_HEADER_REFUSED, f"no whole header within {timeout:g} s") from error
    except OSError as error:
        outcome = Outcome.RESET if so_far else Outcome.CLOSED_EARLY
        raise EndedError(outcome, f"the proxy broke off: {error}") from error
    del so_far[: header.size]
    if not header.local:
        connection.remote = str(Address(*header.source)) if header.source else "unknown"


def proxy_header_of(connection: Connection, request: Request, came: socket.socket) -> bytes:
    """The header for the app. ``came`` is the socket that the connection, or its tunnel, came on."""
    host, port = host_of(connection.remote), connection.remote.rpartition(":")[2]
    source = (host, int(port)) if port.isdigit() else None
    ours = address_of(came)
    if request.peer is None:
        return proxy_header(source, (ours.host, ours.port), None)
    facts = connection.facts or TlsFacts.of(connection.engine, request.peer)
    tls = ProxiedTls(
        str(request.peer.spiffe_id), facts.tls_version or "", facts.cipher_suite or "", request.sni, facts.resumed
    )
    return proxy_header(source, (ours.host, ours.port), tls)
