"""Values of the server's API, beside bundles and the model of ``registration``. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path

from cryptography import x509

from meshtls.bundle import BundleSet
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.registration import Entry
from meshtls.spiffeid import SpiffeId

__all__ = [
    "LEAF_REASONS",
    "AuthorityStatus",
    "Block",
    "Health",
    "Holders",
    "JoinToken",
    "Revoked",
    "RevokedSvid",
    "Subject",
    "SubjectKind",
    "SyncUpdate",
]

#: The names of the reasons for which a leaf can be revoked (RFC 5280, section 5.3.1).
LEAF_REASONS = tuple(
    one.name
    for one in x509.ReasonFlags
    if one not in (x509.ReasonFlags.ca_compromise, x509.ReasonFlags.aa_compromise, x509.ReasonFlags.remove_from_crl)
)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A token that is valid once, until ``expires_at``, and the ID of the agent that attests with it."""

    token: str = field(repr=False)
    agent_id: SpiffeId
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Holders:
    """``count`` SVIDs of one agent that hang on an authority, ``cas`` of them CAs of downstream servers that it serves;
    the last of them expires at ``until``. What such a CA has signed is not counted: it is on record with its server.

    ``agent_id`` is None for those that administrators minted and for the servers' own.
    """

    agent_id: SpiffeId | None
    count: int
    until: datetime
    cas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityStatus:
    """An authority of a server, and what hangs on it.

    - ``kind``: x509 or jwt. ``id``: the subject key identifier, hexadecimal, or the ``kid``.
    - ``state``: a name of ``ca.authority_states``.
    - ``created_at``, ``changed_at``: since when it is in the bundle, and in its state; None if that was not recorded.
    - ``ends_at``: when it can't be used any more; ``leaves_at``: when it leaves the bundle, as far as known.
    - ``holders``: whose SVIDs in use hang on it.
    - ``waiting_for``: of a prepared one, the agents that have not confirmed the bundle with it.
    - ``revocable_at``: when revoking it breaks nothing, as far as known; None while it is active.
    """

    kind: str
    id: str
    state: str
    server_id: str
    created_at: datetime | None
    changed_at: datetime | None
    ends_at: datetime
    leaves_at: datetime
    holders: tuple[Holders, ...] = ()
    waiting_for: tuple[SpiffeId, ...] = ()
    revocable_at: datetime | None = None

    @property
    def trouble(self) -> str:
        """What an operator has to attend to; empty if nothing."""
        return f"{'JWT' if self.kind == 'jwt' else 'X.509'} authority {self.id} is tainted" if self.tainted else ""

    @property
    def tainted(self) -> bool:
        """Whether what it has signed is being replaced, and it still has to be revoked."""
        return self.state == "TAINTED"


class SubjectKind(Enum):
    """What an administrator revokes."""

    SERIAL = "serial"
    SPIFFE_ID = "spiffe-id"
    AGENT = "agent"
    ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a revocation takes back. ``name`` is a serial in hexadecimal, a SPIFFE ID, an agent's SPIFFE ID or an
    entry's id.
    """

    kind: SubjectKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.name}"


@dataclass(frozen=True, slots=True)
class Block:
    """A SPIFFE ID or an entry for which nothing is issued."""

    subject: Subject
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokedSvid:
    """An SVID of the record. ``kind`` and ``number`` are as in Issuance; ``reason`` is a name of X.509's reasons.

    ``revoked_at`` is None, and ``reason`` empty, for one that is not revoked. ``authority`` is as in Issuance; messages
    do not have it.
    """

    number: int
    kind: str
    serial: str
    spiffe_id: SpiffeId
    server_id: str
    not_after: datetime
    revoked_at: datetime | None
    reason: str
    authority: str | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """How many X509-SVIDs, JWT-SVIDs and CAs of downstream servers a command has revoked or reinstated.

    ``of_other_servers`` of the X509-SVIDs and CAs were issued by other servers: those sign the CRLs that refuse them.
    """

    certificates: int
    tokens: int
    of_other_servers: int = 0
    cas: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The server's state. ``waiting_for`` says why it is not ready; empty if it is. ``clock`` is the server's time;
    None from a server that does not tell it. ``troubles``: what it can't do, though it is ready.
    """

    ready: bool
    waiting_for: str
    trust_domain: str
    server_id: str
    version: str
    revision: int
    entries: int
    agents_connected: int
    clock: datetime | None = None
    troubles: tuple[str, ...] = ()

    def process_at(self, socket: Path) -> ProcessName:
        """Which server this is, as it answered at this socket."""
        return ProcessName(ProcessKind.SERVER, str(socket), self.trust_domain)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncUpdate:
    """One message of a sync.

    - ``entries``: with ``whole`` all that the agent may serve, otherwise the new and changed ones.
    - ``removed``: ids of removed entries.
    - ``bundles``: all bundles; None if none changed.
    - ``tainted``: with bundles, the ids of the authorities whose SVIDs are to be replaced now.
    - ``crls``: with bundles, the CRLs of our own trust domain in DER: all there are.
    - ``revision``: a later sync may resume here.
    """

    revision: int
    whole: bool
    entries: tuple[Entry, ...]
    removed: tuple[str, ...]
    bundles: BundleSet | None
    tainted: tuple[str, ...] = ()
    crls: tuple[bytes, ...] = ()
