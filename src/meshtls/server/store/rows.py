"""Conversion of entries and agents to rows, and back. Pure."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import RowMapping

from meshtls.registration import AgentRecord, Entry, Selector
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["agent_of", "agent_row", "entry_of", "entry_row", "likeness", "moment", "seconds", "selector_text"]

# A hundred thousand entries have few distinct parents and selectors: parse each once, and share it.
_parse_id = lru_cache(maxsize=65536)(SpiffeId.parse)
_parse_domain = lru_cache(maxsize=1024)(TrustDomain.parse)


@lru_cache(maxsize=65536)
def _parse_selectors(text: str) -> tuple[Selector, ...]:
    return tuple(Selector(kind, value) for kind, value in json.loads(text))


def seconds(when: datetime) -> int:
    return int(when.timestamp())


def moment(stored: int) -> datetime:
    return datetime.fromtimestamp(stored, UTC)


def selector_text(selector: Selector) -> str:
    """The text of one selector within a row's list. It is never part of another selector's text."""
    return json.dumps([selector.type, selector.value], separators=(",", ":"))


def _selectors_text(selectors: tuple[Selector, ...]) -> str:
    return f"[{','.join(map(selector_text, selectors))}]"


def likeness(entry: Entry) -> str:
    """A hash that is equal for entries with the same parent, SPIFFE ID and selectors."""
    said = "\n".join((str(entry.parent_id), str(entry.spiffe_id), _selectors_text(entry.selectors)))
    return hashlib.sha256(said.encode()).hexdigest()


def entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "parent_id": str(entry.parent_id),
        "selectors": _selectors_text(entry.selectors),
        "x509_svid_ttl": entry.x509_svid_ttl,
        "jwt_svid_ttl": entry.jwt_svid_ttl,
        "federates_with": " ".join(map(str, entry.federates_with)),
        "dns_names": " ".join(entry.dns_names),
        "hint": entry.hint,
        "admin": entry.admin,
        "downstream": entry.downstream,
        "expires_at": None if entry.expires_at is None else seconds(entry.expires_at),
        "revision": entry.revision,
        "created": entry.created,
        "likeness": likeness(entry),
    }


def entry_of(row: RowMapping) -> Entry:
    return Entry(
        id=row["id"],
        spiffe_id=_parse_id(row["spiffe_id"]),
        parent_id=_parse_id(row["parent_id"]),
        selectors=_parse_selectors(row["selectors"]),
        x509_svid_ttl=row["x509_svid_ttl"],
        jwt_svid_ttl=row["jwt_svid_ttl"],
        federates_with=tuple(map(_parse_domain, row["federates_with"].split())),
        dns_names=tuple(row["dns_names"].split()),
        hint=row["hint"],
        admin=row["admin"],
        downstream=row["downstream"],
        expires_at=None if row["expires_at"] is None else moment(row["expires_at"]),
        revision=row["revision"],
        created=row["created"],
    )


def agent_row(agent: AgentRecord) -> dict[str, Any]:
    present, *coming = agent.serials
    return {
        "spiffe_id": str(agent.spiffe_id),
        "type": agent.type,
        "serial": present,
        "next_serial": coming[0] if coming else None,
        "not_after": seconds(agent.not_after),
        "attested_at": seconds(agent.attested_at),
        "banned": agent.banned,
        "selectors": _selectors_text(agent.selectors),
        "bundle_seen": agent.bundle_seen,
    }


def agent_of(row: RowMapping) -> AgentRecord:
    return AgentRecord(
        spiffe_id=_parse_id(row["spiffe_id"]),
        type=row["type"],
        serials=tuple(filter(None, (row["serial"], row["next_serial"]))),
        not_after=moment(row["not_after"]),
        attested_at=moment(row["attested_at"]),
        banned=row["banned"],
        selectors=_parse_selectors(row["selectors"]),
        bundle_seen=row["bundle_seen"],
    )
