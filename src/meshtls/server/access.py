"""Authentication of callers, and which methods each role may call. A method that is not listed is refused.

An administrator connects to the local socket (the kernel reports its uid) or presents an SVID of an entry marked admin.
An agent presents an agent SVID whose serial is in the store and that is not banned. Each call queries the store, so a
ban on one server takes effect on all of them at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from meshtls.clock import Clock
from meshtls.errors import AccessError, ValidityError
from meshtls.registration import AgentRecord, is_agent_id
from meshtls.server.hub import Hub
from meshtls.server.store import agents
from meshtls.server.store.database import Database
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Authenticator", "Caller", "Listener", "Role", "may_call"]

_PACKAGE = "/meshtls.server.v1."


class Listener(Enum):
    """The listener that accepted a call."""

    ADMIN_SOCKET = "the local socket"
    MUTUAL_TLS = "mutual TLS"
    ATTESTATION = "the attestation port, where clients are anonymous"


class Role(Enum):
    """The role of a caller."""

    ANONYMOUS = "an anonymous client"
    AGENT = "an agent"
    ADMIN = "an administrator"


_SERVICES: Mapping[str, Role] = {
    "Attestation": Role.ANONYMOUS,
    "Node": Role.AGENT,
    "Entries": Role.ADMIN,
    "Agents": Role.ADMIN,
    "Svids": Role.ADMIN,
    "Bundles": Role.ADMIN,
    "Health": Role.ADMIN,
}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. ``name`` is for the log; an agent also has its record and its connection's peer."""

    role: Role
    name: str
    agent: AgentRecord | None = None
    peer: VerifiedPeer | None = None

    def as_agent(self) -> tuple[AgentRecord, VerifiedPeer]:
        """The agent's record and its verified certificate. Raises AccessError for any other caller."""
        if self.agent is None or self.peer is None:
            raise AccessError(f"permission denied: {self.name} is not an agent")
        return self.agent, self.peer


def may_call(role: Role, method: str) -> bool:
    """Whether callers of this role may call this method (``/package.Service/Method``)."""
    service = method.removeprefix(_PACKAGE).partition("/")[0] if method.startswith(_PACKAGE) else ""
    return _SERVICES.get(service) is role


class Authenticator:
    """Establishes the identity and role of a caller. Raises AccessError or ValidityError for one that is refused."""

    def __init__(self, hub: Hub, database: Database, clock: Clock) -> None:
        self._hub = hub
        self._database = database
        self._clock = clock

    async def authenticate(
        self, listener: Listener, peer: VerifiedPeer | None = None, uid: int | None = None
    ) -> Caller:
        """The caller on this listener: a peer that the handshake has verified, or a local uid. Can raise StoreError."""
        if listener is Listener.ATTESTATION:
            return Caller(Role.ANONYMOUS, "a node that attests")
        if listener is Listener.ADMIN_SOCKET:
            return _administrator(uid)
        if peer is None:
            raise AccessError("wanted a verified client certificate, got none")
        if is_agent_id(peer.spiffe_id):
            return Caller(Role.AGENT, str(peer.spiffe_id), await self.agent(peer), peer)
        self.check_current(peer)
        if self._hub.index.is_admin(peer.spiffe_id):
            return Caller(Role.ADMIN, str(peer.spiffe_id))
        raise AccessError(f"{peer.spiffe_id}: wanted an agent, or an identity whose entry is marked admin")

    async def agent(self, peer: VerifiedPeer) -> AgentRecord:
        """The record of an agent that is admitted with this certificate. Also raises ValidityError and StoreError."""
        self.check_current(peer)
        spiffe_id, serial = peer.spiffe_id, peer.serial
        async with self._database.read() as tx:
            agent = await agents.find_agent(tx, spiffe_id)
        if agent is None:
            raise AccessError(f"agent {spiffe_id} is not attested, or was evicted: attest again")
        if agent.banned:
            raise AccessError(f"agent {spiffe_id} is banned")
        if serial not in agent.serials:
            raise AccessError(f"agent {spiffe_id}: certificate {serial} is not its present one; attest again")
        if serial != agent.serials[0]:
            async with self._database.write() as tx:
                await agents.note_serial_in_use(tx, spiffe_id, serial)
        return agent

    def check_current(self, peer: VerifiedPeer) -> None:
        """Raises ValidityError for an expired certificate: a connection may outlive it."""
        now = self._clock.now()
        if peer.not_after <= now:
            raise ValidityError(
                f"{peer.spiffe_id}: your certificate {peer.serial} expired at {peer.not_after:%Y-%m-%dT%H:%M:%SZ};"
                f" our clock says {now:%Y-%m-%dT%H:%M:%SZ}; connect again with a newer one"
            )


def _administrator(uid: int | None) -> Caller:
    if uid is None or uid not in (0, os.geteuid()):
        raise AccessError(f"uid {uid}: only root and the user that runs the server (uid {os.geteuid()}) administer it")
    return Caller(Role.ADMIN, f"uid {uid}")
