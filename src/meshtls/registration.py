"""The registration model: entries and selectors, agents, and records of issued SVIDs. Pure.

An entry means that a workload with all of its selectors, on a node that is reachable through ``parent_id``, gets its
SPIFFE ID. The store keeps entries, the server sends them to the agents that may serve them, and agents match workloads.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshtls.errors import RequestError
from meshtls.scalars import dns_name
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = [
    "DIGEST",
    "RESERVED",
    "AgentRecord",
    "Entry",
    "EntryFilter",
    "Issuance",
    "Selector",
    "agent_id",
    "is_agent_id",
    "server_id",
]

RESERVED = "meshtls"
#: The kind of ``unix`` selector that holds the SHA-256 of a workload's program.
DIGEST = "sha256"
_AGENT = (RESERVED, "agent")
_MAX_TTL = 10 * 365 * 24 * 3600
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One fact about a workload or a node: ``unix:uid:1000`` is of type ``unix`` and has the value ``uid:1000``."""

    type: str
    value: str

    def __post_init__(self) -> None:
        if not self.type or not self.value or ":" in self.type or len(str(self)) > _MAX_TEXT:
            raise RequestError(f"selector {str(self)[:80]!r}: wanted type:value, at most {_MAX_TEXT} characters")

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Read ``type:value``; the value may hold colons. Raises RequestError."""
        kind, _, value = text.partition(":")
        return cls(kind, value)

    @property
    def is_digest(self) -> bool:
        """Whether it holds a program's SHA-256, which an agent computes only where an entry asks for it."""
        return self.type == "unix" and self.value.startswith(f"{DIGEST}:")

    def __str__(self) -> str:
        return f"{self.type}:{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A registration entry. TTLs are in seconds, 0 for the server's default. Raises RequestError for an invalid one.

    The store sets ``id``, ``revision`` and ``created``: the latter two are the store's revisions at this entry's last
    change and at its creation, so the entry with the lower ``created`` is older. ``admin`` lets the workload administer
    the server; ``downstream`` marks a workload that may run a server below this one.
    """

    spiffe_id: SpiffeId
    parent_id: SpiffeId
    selectors: tuple[Selector, ...]
    x509_svid_ttl: int = 0
    jwt_svid_ttl: int = 0
    federates_with: tuple[TrustDomain, ...] = ()
    dns_names: tuple[str, ...] = ()
    hint: str = ""
    admin: bool = False
    downstream: bool = False
    expires_at: datetime | None = None
    id: str = ""
    revision: int = 0
    created: int = 0

    def __post_init__(self) -> None:
        # Sorted and deduplicated, so that two spellings of one entry are equal.
        object.__setattr__(self, "selectors", tuple(sorted(set(self.selectors))))
        object.__setattr__(self, "federates_with", tuple(sorted(set(self.federates_with))))
        for violation in _violations(self):
            raise RequestError(f"entry {self.spiffe_id}: {violation}")
        try:
            for name in self.dns_names:
                dns_name(name)
        except RequestError as error:
            raise RequestError(f"entry {self.spiffe_id}: {error}") from error

    def matches(self, selectors: Set[Selector]) -> bool:
        """Whether a workload with these selectors matches: it has each selector of the entry."""
        return all(selector in selectors for selector in self.selectors)

    def missing(self, selectors: Set[Selector]) -> tuple[Selector, ...]:
        """The selectors of the entry that a workload with these selectors lacks."""
        return tuple(selector for selector in self.selectors if selector not in selectors)

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def values(self) -> dict[str, Any]:
        """Its fields as JSON values, in the order in which they are shown, but for ``expires_at``, which is a datetime:
        each reader has its own form of that. ``created`` is the store's alone.
        """
        return {
            "id": self.id,
            "spiffe_id": str(self.spiffe_id),
            "parent_id": str(self.parent_id),
            "selectors": list(map(str, self.selectors)),
            "x509_svid_ttl": self.x509_svid_ttl,
            "jwt_svid_ttl": self.jwt_svid_ttl,
            "federates_with": list(map(str, self.federates_with)),
            "dns_names": list(self.dns_names),
            "hint": self.hint,
            "admin": self.admin,
            "downstream": self.downstream,
            "expires_at": self.expires_at,
            "revision": self.revision,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRecord:
    """An attested node. ``serials`` are the certificates that it may present: the current one and, from a renewal until
    the agent first uses it, the next (the response with it may have been lost). ``bundle_seen`` is the sequence of the
    newest bundle of the trust domain that the agent has confirmed.
    """

    spiffe_id: SpiffeId
    type: str
    serials: tuple[str, ...]
    not_after: datetime
    attested_at: datetime
    banned: bool = False
    selectors: tuple[Selector, ...] = ()
    bundle_seen: int = 0


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries to list: all conditions that are set must hold; ``selectors`` must be a subset of the entry's."""

    spiffe_id: SpiffeId | None = None
    parent_id: SpiffeId | None = None
    selectors: tuple[Selector, ...] = ()
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuance:
    """One X509-SVID (``kind`` x509; ``serial`` hexadecimal), JWT-SVID (jwt; the first 128 bits of its SHA-256) or
    intermediate certificate (ca), whose ``spiffe_id`` is that of the trust domain.

    ``agent_id`` requested it for ``entry_id``; both are None where an administrator or the server itself did.
    ``server_id`` is the server whose key signed, ``authority`` the id of its authority, None for one that was issued
    before authorities had states. ``below`` is the ID of the server whose CA this is, as it gave it itself; None for
    other kinds, and for a server that gives none. ``number`` is assigned by the store and increases; ``log_index`` is
    the leaf of the transparency log.
    """

    kind: str
    serial: str
    spiffe_id: SpiffeId
    server_id: str
    issued_at: datetime
    not_before: datetime
    not_after: datetime
    agent_id: SpiffeId | None = None
    entry_id: str | None = None
    authority: str | None = None
    below: str | None = None
    number: int = 0
    log_index: int | None = None


def server_id(trust_domain: TrustDomain) -> SpiffeId:
    """The ID that servers of this trust domain present; an entry with it as parent is an alias of nodes."""
    return SpiffeId(trust_domain, f"/{RESERVED}/server")


def spire_server_id(trust_domain: TrustDomain) -> SpiffeId:
    """The ID that SPIRE servers of this trust domain present, the only one that servers below them accept."""
    return SpiffeId(trust_domain, "/spire/server")


def agent_id(trust_domain: TrustDomain, attestor: str, name: str) -> SpiffeId:
    """The agent ID of the node that this attestor identifies by this name."""
    return SpiffeId(trust_domain, f"/{'/'.join(_AGENT)}/{attestor}/{name}")


def is_agent_id(spiffe_id: SpiffeId) -> bool:
    return spiffe_id.segments[: len(_AGENT)] == _AGENT


def _violations(entry: Entry) -> Iterable[str]:
    if not entry.spiffe_id.path:
        yield "wanted an ID with a path; the trust domain's own ID is no workload's"
    if entry.spiffe_id.segments[:1] == (RESERVED,):
        yield f"IDs below /{RESERVED}/ are reserved for the server and the agents; choose another"
    if entry.parent_id.trust_domain != entry.spiffe_id.trust_domain:
        yield f"wanted a parent in the same trust domain, got {entry.parent_id}"
    if entry.parent_id == entry.spiffe_id:
        yield "an entry can't be its own parent"
    if not entry.selectors:
        yield "wanted at least one selector; without any, every process would get this ID"
    if entry.spiffe_id.trust_domain in entry.federates_with:
        yield "federates_with is for other trust domains; a workload always gets the bundle of its own"
    for name, ttl in (("x509_svid_ttl", entry.x509_svid_ttl), ("jwt_svid_ttl", entry.jwt_svid_ttl)):
        if not 0 <= ttl <= _MAX_TTL:
            yield f"{name}: wanted 0 (the server's default) to {_MAX_TTL} seconds, got {ttl}"
    if len(entry.hint) > _MAX_TEXT:
        yield f"hint: wanted at most {_MAX_TEXT} characters"
