"""Authentication of callers, and which methods each role may call. A method that is not listed is refused.

An administrator connects to the local socket (the kernel reports its uid) or presents an SVID of an entry marked admin.
An agent presents an agent SVID whose serial is in the store and that is not banned. Each call queries the store, so a
ban on one server takes effect on all of them at once.

Servers below this one can sign any ID of the trust domain, with any serial. So a certificate gives a role only if an
intermediate of a server of this store has signed it, which the transparency log has by its fingerprint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from cryptography import x509

from meshtls.ca.tlog.leaf import Leaf
from meshtls.clock import Clock
from meshtls.errors import AccessError, ValidityError
from meshtls.registration import AgentRecord, is_agent_id
from meshtls.server.hub import Hub
from meshtls.server.store import agents, transparency
from meshtls.server.store.database import Database
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import fingerprint_of, format_serial

__all__ = ["Authenticator", "Caller", "ListenerKind", "Role", "may_call", "role_for"]

_PACKAGE = "/meshtls.server.v1."


class ListenerKind(Enum):
    """The listener that accepted a call."""

    ADMIN_SOCKET = "the local socket"
    MUTUAL_TLS = "mutual TLS"
    ATTESTATION = "the attestation port, where clients are anonymous"


class Role(Enum):
    """The role of a caller."""

    ANONYMOUS = "an anonymous client"
    AGENT = "an agent"
    ADMIN = "an administrator"
    DOWNSTREAM = "a downstream server"


#: What a server below this one calls, as SPIRE names it: no other method of SPIRE's API is served.
_DOWNSTREAM = frozenset(
    {
        "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA",
        "/spire.api.server.bundle.v1.Bundle/GetBundle",
        "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",
    }
)
_SERVICES: Mapping[str, Role] = {
    "Attestation": Role.ANONYMOUS,
    "Node": Role.AGENT,
    "Entries": Role.ADMIN,
    "Agents": Role.ADMIN,
    "Svids": Role.ADMIN,
    "Bundles": Role.ADMIN,
    "Federation": Role.ADMIN,
    "Authorities": Role.ADMIN,
    "Revocations": Role.ADMIN,
    "Health": Role.ADMIN,
    "Log": Role.ADMIN,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. ``name`` is for the log; an agent also has its record and its connection's peer.

    ``credential`` is how the caller was authenticated, for the audit trail.
    """

    role: Role
    name: str
    agent: AgentRecord | None = None
    peer: VerifiedPeer | None = None
    credential: str = ""

    def as_agent(self) -> tuple[AgentRecord, VerifiedPeer]:
        """The agent's record and its verified certificate. Raises AccessError for any other caller."""
        if self.agent is None or self.peer is None:
            raise AccessError(f"permission denied: {self.name} is not an agent")
        return self.agent, self.peer


def role_for(method: str) -> Role | None:
    """The role whose callers may call this method (``/package.Service/Method``), None if nobody may."""
    if method in _DOWNSTREAM:
        return Role.DOWNSTREAM
    service = method.removeprefix(_PACKAGE).partition("/")[0] if method.startswith(_PACKAGE) else ""
    return _SERVICES.get(service)


def may_call(role: Role, method: str) -> bool:
    """Whether callers of this role may call this method."""
    return role_for(method) is role


class Authenticator:
    """Establishes the identity and role of a caller. Raises AccessError or ValidityError for one that is refused."""

    def __init__(self, hub: Hub, database: Database, clock: Clock) -> None:
        self._hub = hub
        self._database = database
        self._clock = clock
        #: The fingerprints of intermediates that were found in the log.
        self._intermediates: set[str] = set()

    async def authenticate(
        self,
        listener: ListenerKind,
        peer: VerifiedPeer | None = None,
        uid: int | None = None,
        wanted: Role | None = None,
    ) -> Caller:
        """The caller on this listener: a peer that the handshake has verified, or a local uid. Can raise StoreError.

        ``wanted``: the role that the call needs, which counts where the entries of one ID give it two.
        """
        if listener is ListenerKind.ATTESTATION:
            return Caller(Role.ANONYMOUS, "a node that attests")
        if listener is ListenerKind.ADMIN_SOCKET:
            return _administrator(uid)
        if peer is None:
            raise AccessError("wanted a verified client certificate, got none")
        if is_agent_id(peer.spiffe_id):
            return Caller(Role.AGENT, str(peer.spiffe_id), await self.agent(peer), peer, _credential(peer))
        self.check_current(peer)
        await self._check_issuer(peer)
        self.check_not_revoked(peer)
        index, name = self._hub.index, str(peer.spiffe_id)
        downstream = index.downstream(peer.spiffe_id) is not None
        if index.is_admin(peer.spiffe_id) and not (downstream and wanted is Role.DOWNSTREAM):
            return Caller(Role.ADMIN, name, credential=_credential(peer))
        if downstream:
            return Caller(Role.DOWNSTREAM, name, peer=peer, credential=_credential(peer))
        raise AccessError(f"{name}: wanted an agent, or an identity whose entry is marked admin or downstream")

    async def agent(self, peer: VerifiedPeer) -> AgentRecord:
        """The record of an agent that is admitted with this certificate. Also raises ValidityError and StoreError."""
        self.check_current(peer)
        await self._check_issuer(peer)
        spiffe_id, serial = peer.spiffe_id, peer.serial
        async with self._database.read() as tx:
            agent = await agents.find_agent(tx, spiffe_id)
        if agent is None:
            raise AccessError(f"agent {spiffe_id} is not attested, or was evicted: attest again")
        if agent.banned:
            raise AccessError(f"agent {spiffe_id} is banned")
        if serial not in agent.serials:
            raise AccessError(f"agent {spiffe_id}: certificate {serial} is not its present one; attest again")
        self.check_not_revoked(peer)
        if serial != agent.serials[0]:
            async with self._database.write() as tx:
                await agents.note_serial_in_use(tx, spiffe_id, serial)
        return agent

    async def _check_issuer(self, peer: VerifiedPeer) -> None:
        issuer = peer.chain[1] if len(peer.chain) > 1 else None
        if issuer is None or not await self._is_ours(issuer):
            raise AccessError(
                f"{peer.spiffe_id}: wanted a certificate that a server of this data store has issued, got {peer.serial}"
                f" of {'a root' if issuer is None else f'CA {format_serial(issuer)}'}; get one from an agent of this"
                " server, or mint one here"
            )

    async def _is_ours(self, issuer: x509.Certificate) -> bool:
        fingerprint = fingerprint_of(issuer)
        if fingerprint in self._intermediates:
            return True
        async with self._database.read() as tx:
            entry = await transparency.intermediate_leaf(tx, format_serial(issuer))
        if entry is None or Leaf.parse(entry).digest != fingerprint:
            return False
        self._intermediates.add(fingerprint)
        return True

    def check_current(self, peer: VerifiedPeer) -> None:
        """Raises ValidityError for an expired certificate: a connection may outlive it."""
        now = self._clock.now()
        if peer.not_after <= now:
            raise ValidityError(
                f"{peer.spiffe_id}: your certificate {peer.serial} expired at {peer.not_after:%Y-%m-%dT%H:%M:%SZ};"
                f" our clock says {now:%Y-%m-%dT%H:%M:%SZ}; connect again with a newer one"
            )

    def check_not_revoked(self, peer: VerifiedPeer) -> None:
        """Raises AccessError where the peer's certificate, or a CA above it, was revoked. The handshake accepts it, so
        that its holder is told why.
        """
        for one in peer.chain:
            if self._hub.is_revoked(one.serial_number):
                raise AccessError(f"{peer.spiffe_id}: your certificate {format_serial(one)} was revoked")


def _administrator(uid: int | None) -> Caller:
    if uid is None or uid not in (0, os.geteuid()):
        raise AccessError(f"uid {uid}: only root and the user that runs the server (uid {os.geteuid()}) administer it")
    return Caller(Role.ADMIN, f"uid {uid}", credential="the admin socket")


def _credential(peer: VerifiedPeer) -> str:
    return f"X509-SVID {peer.serial}"
