"""The fields of each thing that verbs print, under the names that programs read, as JSON values. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from meshtls.bundle import TrustBundle
from meshtls.cli.output import Record
from meshtls.registration import AgentRecord, Entry
from meshtls.svid.jwt import JwtSvid
from meshtls.svid.x509 import X509Svid

__all__ = ["agent_record", "bundle_record", "entry_record", "jwt_record", "moment", "moment_of", "x509_record"]


def moment(when: datetime) -> str:
    """A time as ``2030-01-31T12:00:00Z``."""
    return f"{when.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def moment_of(seconds: int) -> str:
    """The same for seconds since 1970, which may come from anywhere."""
    try:
        return moment(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"


def entry_record(entry: Entry) -> Record:
    return {**entry.values(), "expires_at": moment(entry.expires_at) if entry.expires_at else None}


def agent_record(agent: AgentRecord) -> Record:
    return {
        "spiffe_id": str(agent.spiffe_id),
        "attestation": agent.type,
        "attested_at": moment(agent.attested_at),
        "serials": list(agent.serials),
        "not_after": moment(agent.not_after),
        "banned": agent.banned,
        "selectors": list(map(str, agent.selectors)),
    }


def bundle_record(bundle: TrustBundle) -> Record:
    """The field ``bundle`` is the SPIFFE bundle document."""
    return {"trust_domain": str(bundle.trust_domain), "bundle": json.loads(bundle.to_jwks())}


def x509_record(svid: X509Svid) -> Record:
    """Without the key."""
    return {
        "spiffe_id": str(svid.spiffe_id),
        "serial": svid.serial,
        "not_before": moment(svid.not_before),
        "not_after": moment(svid.not_after),
        "hint": svid.hint,
    }


def jwt_record(svid: JwtSvid) -> Record:
    """Without the token."""
    return {
        "spiffe_id": str(svid.spiffe_id),
        "audience": list(svid.audience),
        "issued_at": moment(svid.issued_at) if svid.issued_at else None,
        "expires_at": moment(svid.expiry),
        "hint": svid.hint,
    }
