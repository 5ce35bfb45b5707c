"""Ports: answered by the peer that should be there, or free where nothing runs yet."""

from __future__ import annotations

import asyncio
from datetime import datetime

from meshtls.address import Address
from meshtls.bundle import BundleSet
from meshtls.cli.check.finding import Finding, failed, passed
from meshtls.cli.check.sockets import is_free
from meshtls.errors import HandshakeError, PeerError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.tls.unverified import look_at_unverified_server

__all__ = ["free_finding", "peer_finding"]

_SECONDS = 5.0


async def peer_finding(address: Address, wanted: SpiffeId, trust: Trust | BundleSet, now: datetime) -> Finding:
    """Whether a TLS server of this ID, by this trust, answers there. Only its certificate is looked at."""
    check = f"{address} is answered by {wanted}"
    try:
        seen = await asyncio.to_thread(look_at_unverified_server, address, _SECONDS)
    except HandshakeError as error:
        reason = str(error).removeprefix(f"{address}: ")
        return failed(check, reason, "see whether it runs, and whether a firewall or another program is in the way")
    try:
        peer = verify_peer(seen.chain, trust, now)
    except PeerError as error:
        return failed(check, str(error), f"look at it: `meshtls x509 inspect {address}`")
    if peer.spiffe_id != wanted:
        reason = f"peer {peer.spiffe_id} is not allowed; allowed: {wanted}"
        return failed(check, reason, "correct the address, or the identity that is expected")
    return passed(check)


async def free_finding(address: Address, who: str) -> Finding:
    """Whether ``who``, which does not run, could listen there."""
    check = f"{address} is free for {who}"
    taken = await asyncio.to_thread(is_free, address)
    if taken:
        advice = f"`ss -ltnp 'sport = :{address.port}'` shows what listens there; stop it, or take another port"
        return failed(check, taken, advice)
    return passed(check)
