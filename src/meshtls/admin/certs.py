"""``/certs``: a process's own SVIDs with their chains, and the authorities that it trusts. No key is looked at."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from meshtls.admin.pages import Record
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid, fingerprint_of, format_moment, format_serial
from meshtls.x509_names import name_text

__all__ = ["bundles_record", "context_record", "svid_record"]


def context_record(context: X509Context, now: datetime) -> Record:
    """The SVIDs of a snapshot, and what it trusts."""
    return {
        "generation": context.generation,
        "svids": [svid_record(one, now) for one in context.svids],
        "bundles": bundles_record(context.bundles, now),
        "unusable": list(context.unusable),
    }


def svid_record(svid: X509Svid, now: datetime) -> Record:
    """One SVID: leaf first, then its intermediates."""
    return {
        "spiffe_id": str(svid.spiffe_id),
        "hint": svid.hint,
        "serial": svid.serial,
        "not_before": format_moment(svid.not_before),
        "not_after": format_moment(svid.not_after),
        "seconds_left": int((svid.not_after - now).total_seconds()),
        "chain": [_certificate(one, now) for one in svid.chain],
    }


def bundles_record(bundles: BundleSet, now: datetime) -> list[Record]:
    """The bundle of each trust domain."""
    return [_bundle(one, now) for one in sorted(bundles, key=lambda one: str(one.trust_domain))]


def _bundle(bundle: TrustBundle, now: datetime) -> Record:
    return {
        "trust_domain": str(bundle.trust_domain),
        "sequence": bundle.sequence,
        "x509_authorities": [_certificate(one, now) for one in bundle.x509_authorities],
        "jwt_authorities": sorted(bundle.jwt_authorities),
    }


def _certificate(one: x509.Certificate, now: datetime) -> Record:
    return {
        "subject": name_text(one.subject),
        "issuer": name_text(one.issuer),
        "serial": format_serial(one),
        "not_after": format_moment(one.not_valid_after_utc),
        "seconds_left": int((one.not_valid_after_utc - now).total_seconds()),
        "sha256": fingerprint_of(one),
    }
