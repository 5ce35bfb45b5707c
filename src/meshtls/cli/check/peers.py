"""Ports: answered by who should be there, or free where nothing runs yet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

from meshtls.address import Address, os_reason
from meshtls.bundle import BundleSet
from meshtls.cli.check.finding import Claim, Finding, failed, passed
from meshtls.cli.check.sockets import is_free
from meshtls.errors import HandshakeError, PeerError
from meshtls.policy.istio.match import Networks, read_ip
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.tls.unverified import look_at_unverified_server
from meshtls.wire.proxy_protocol import LOCAL_HEADER

__all__ = ["balanced_peer_finding", "free_finding", "peer_finding", "reached", "reached_finding"]

_SECONDS = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # connected to, never bound
#: No packet is sent there: connecting a datagram socket only asks the kernel for a route.
_DISCARD = 9


def reached(address: Address) -> Address:
    """Where what listens on this address is reached from here."""
    return Address(_EVERYWHERE.get(address.host, address.host), address.port)


async def peer_finding(
    address: Address, wanted: SpiffeId, trust: Trust | BundleSet, now: datetime, *, first: bytes = b""
) -> Finding:
    """Whether a TLS server of this ID, by this trust, answers there. Only its certificate is looked at.

    ``first`` is sent before TLS begins.
    """
    claim = Claim(f"{address} is answered by {wanted}", f"{address} is not answered by {wanted}")
    try:
        seen = await asyncio.to_thread(look_at_unverified_server, address, _SECONDS, first=first)
    except HandshakeError as error:
        reason = str(error).removeprefix(f"{address}: ")
        return failed(claim, reason, "see whether it runs, and whether a firewall or another program is in the way")
    try:
        peer = verify_peer(seen.chain, trust, now)
    except PeerError as error:
        return failed(claim, str(error), f"look at it: `meshtls x509 inspect {address}`")
    if peer.spiffe_id != wanted:
        reason = f"peer {peer.spiffe_id} is not allowed; allowed: {wanted}"
        return failed(claim, reason, "correct the address, or the identity that is expected")
    return passed(claim)


async def balanced_peer_finding(
    address: Address,
    balancers: Sequence[IPv4Network | IPv6Network],
    wanted: SpiffeId,
    trust: Trust | BundleSet,
    now: datetime,
) -> Finding:
    """As ``peer_finding``, where a PROXY protocol header is wanted: ``LOCAL``, as a load balancer's own check sends it.

    From this machine's address it may be refused; then nothing is tried.
    """
    ours = await asyncio.to_thread(_address_towards, address)
    ip = read_ip(ours)
    if ip is None or Networks(map(str, balancers)).matches(ip):
        return await peer_finding(address, wanted, trust, now, first=LOCAL_HEADER)
    claim = Claim(f"{address} takes connections from its load balancers alone", "")
    return passed(claim, f"not tried: {ours} is not in proxy_protocol_from")


def _address_towards(address: Address) -> str:
    """The address of ours from which we would connect there; empty if there is none."""
    try:
        [(family, kind, protocol, _, where), *_] = socket.getaddrinfo(address.host, _DISCARD, type=socket.SOCK_DGRAM)
        with closing(socket.socket(family, kind, protocol)) as sock:
            sock.connect(where)
            return str(sock.getsockname()[0])
    except (OSError, UnicodeError):
        return ""


async def reached_finding(address: Address, claim: Claim, advice: str) -> Finding:
    """Whether something accepts TCP connections there. It is connected to, and no byte is sent."""
    try:
        async with asyncio.timeout(_SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port)
            writer.close()
    except TimeoutError:
        return failed(claim, f"{address} did not answer within {_SECONDS:g} s", advice)
    except OSError as error:
        return failed(claim, f"{address} can't be reached: {os_reason(error)}", advice)
    except UnicodeError as error:  # a name that no resolver takes
        return failed(claim, f"{address} can't be reached: {error}", advice)
    return passed(claim)


async def free_finding(address: Address, who: str, key: str = "") -> Finding:
    """Whether ``who``, which does not run, could listen there. ``key``: of the file, if its name says more."""
    of = f" ({key})" if key else ""
    claim = Claim(f"{address} is free for {who}{of}", f"{who} can't listen on {address}{of}")
    taken = await asyncio.to_thread(is_free, address)
    if taken:
        advice = f"`ss -ltnp 'sport = :{address.port}'` shows what listens there; stop it, or take another port"
        return failed(claim, taken, advice)
    return passed(claim)
