"""The demo's walk: every call that the mesh allows, then a caller that is not allowed, then an impostor.

Each connection is real, and each result is what a sidecar reported: a step waits for the ConnectionResult of the
sidecar that accepted or refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict

from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet
from meshtls.cli.demo.mesh import LocalMesh, Member
from meshtls.cli.demo.report import Demo, End, Hop, Refusal
from meshtls.cli.http import HttpError, get
from meshtls.errors import ConfigError, PeerError
from meshtls.node.impostor import foreign_svid
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.policy.authorizer import authorize_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.tls.streams import dial

__all__ = ["Results", "refusal_problem", "run_demo"]

_SECONDS = 15.0
_REQUEST = b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"


class Results:
    """Queues of each sidecar's ConnectionResults, in order."""

    def __init__(self) -> None:
        self._queues: defaultdict[tuple[str, Direction], asyncio.Queue[ConnectionResult]] = defaultdict(asyncio.Queue)

    def __call__(self, result: ConnectionResult) -> None:
        self._queues[result.sidecar, result.direction].put_nowait(result)

    async def next(self, member: Member, direction: Direction) -> ConnectionResult | None:
        """The next result of this sidecar; None after 15 s without one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                return await self._queues[member.name, direction].get()
        return None


async def run_demo(mesh: LocalMesh, results: Results) -> Demo:
    """Walk through the mesh. Raises ConfigError if no sidecar calls another."""
    if not mesh.calls:
        raise ConfigError("wanted a sidecar whose first outbound leads to another's first inbound, found none")
    hops = [await _hop(mesh, results, *pair) for pair in mesh.calls]
    caller, callee = mesh.calls[0]
    key = ec.generate_private_key(ec.SECP256R1())
    outsider_id = SpiffeId(mesh.authority.trust_domain, "/outsider")
    outsider = X509Svid.from_chain(mesh.authority.issue(outsider_id, key.public_key()), key)
    impostor = foreign_svid(caller.config.spiffe_id, mesh.clock)
    refusals = [
        await _refusal(mesh, results, callee, outsider, Outcome.POLICY_DENIED, title="an identity that is not allowed"),
        await _refusal(
            mesh, results, callee, impostor, Outcome.PEER_UNTRUSTED, title="an impostor with an allowed identity"
        ),
    ]
    return Demo(tuple(hops), tuple(refusals))


async def _hop(mesh: LocalMesh, results: Results, caller: Member, callee: Member) -> Hop:
    assert caller.app is not None  # noqa: S101  # LocalMesh.calls lists no other
    try:
        answer = (await get(caller.app, "/call", _SECONDS)).body.decode("utf-8", "replace").strip()
    except HttpError as error:
        answer = str(error)
    sent = await results.next(caller, Direction.OUTBOUND)
    received = await results.next(callee, Direction.INBOUND)
    return Hop(
        # Each ID and serial as the peer verified it.
        caller=_end(mesh, caller, received.source_id if received else None, received.peer_serial if received else None),
        callee=_end(mesh, callee, sent.destination_id if sent else None, sent.peer_serial if sent else None),
        tls_version=received.tls_version if received else None,
        cipher_suite=received.cipher_suite if received else None,
        answer=answer,
        problem=_hop_problem(caller, callee, answer, sent, received),
    )


def _hop_problem(
    caller: Member, callee: Member, answer: str, sent: ConnectionResult | None, received: ConnectionResult | None
) -> str | None:
    wanted = {"app": caller.name, "called": {"app": callee.name, "path": "/"}}
    name = f"{caller.name} calls {callee.name}"
    try:
        answered = json.loads(answer)
    except ValueError:
        answered = None
    if answered != wanted:
        return f"{name}: wanted the answer {json.dumps(wanted)}, got {answer}"
    ids = (caller.config.spiffe_id, callee.config.spiffe_id)
    for result in (sent, received):
        if result is None or result.outcome is not Outcome.OK:
            return f"{name}: {result.detail if result else 'a sidecar reported no connection'}"
        if (result.source_id, result.destination_id) != ids or not result.tls_version:
            return f"{name}: wanted TLS from {ids[0]} to {ids[1]}, got {result.source_id} to {result.destination_id}"
    return None


def _end(mesh: LocalMesh, member: Member, spiffe_id: SpiffeId | None, serial: str | None) -> End:
    expiry = mesh.expiry(serial)
    left = (expiry - mesh.clock.now()).total_seconds() if expiry else None
    return End(member.name, str(spiffe_id) if spiffe_id else None, serial, left)


async def _refusal(
    mesh: LocalMesh, results: Results, server: Member, svid: X509Svid, wanted: Outcome, *, title: str
) -> Refusal:
    got, seen = await _request(server, svid)
    ours = svid.leaf.issuer == mesh.authority.intermediate.certificate.subject
    issuer = "this mesh's CA" if ours else "a foreign CA"
    result = await results.next(server, Direction.INBOUND)
    return Refusal(
        title=title,
        presented=f"{svid.spiffe_id}, SVID {svid.serial} of {issuer}",
        server=str(server.config.spiffe_id),
        outcome=result.outcome.name if result else "none",
        detail=result.detail if result else "",
        client_saw=seen,
        problem=refusal_problem(title, wanted, result, got, seen),
    )


def refusal_problem(title: str, wanted: Outcome, result: ConnectionResult | None, got: bytes, seen: str) -> str | None:
    """What is wrong with this refusal.

    None if the server's sidecar reported ``wanted``, and the caller received an alert and no data.
    """
    if result is None or result.outcome is not wanted or got:
        ended = f"{result.outcome.name}: {result.detail}" if result else "no connection"
        return f"{title}: wanted {wanted.name} and no byte, got {len(got)} bytes and {ended}"
    return None if "with the alert" in seen else f"{title}: wanted the caller to receive an alert, it saw: {seen}"


async def _request(server: Member, svid: X509Svid) -> tuple[bytes, str]:
    """Send a request as a client with this SVID. Returns the response and how the connection ended."""
    # The client trusts the mesh, so that only the server can refuse.
    context = X509Context(1, (svid,), BundleSet(server.source.snapshot().bundles))
    address = server.sidecar.inbound[0].address
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await dial(
                address.host, address.port, ConstantSource(context), authorize_id(server.config.spiffe_id)
            )
            try:
                writer.write(_REQUEST)
                await writer.drain()
                return await reader.read(), "the connection was closed"
            finally:
                writer.close()
    except (PeerError, OSError) as error:
        return b"", str(error)
