"""Verifies a peer's chain: at this time, by the bundle of its own trust domain, and by what was revoked.

OpenSSL's trust store is one flat set of roots and can't do that: with a federated domain's root beside ours it accepts
an ID of ours that they signed. Signatures are cryptography's; which roots count, and what a stranger may cost, is
decided here and in ``presented`` and ``path``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import (
    InvalidSvidError,
    NoBundleError,
    RevocationUnknownError,
    RevokedError,
    UntrustedPeerError,
    ValidityError,
)
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import SpiffeId
from meshtls.svid.leaf_rules import signing_violations
from meshtls.svid.path import NoPathError, find_path, trusted
from meshtls.svid.presented import MAX_CHAIN, Presented, read_presented
from meshtls.svid.revoked import RevokedPathError, UnknownStatusError, path_check
from meshtls.svid.trust import NO_REVOCATIONS, Trust
from meshtls.svid.x509 import format_moment, format_serial, parse_chain, spiffe_id_of
from meshtls.x509_names import name_text

__all__ = ["MAX_CHAIN", "VerifiedPeer", "check_trust", "time_violation", "verify_peer"]


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """A peer that proved its SPIFFE ID. ``chain`` is what it presented of its path to a root, leaf first."""

    spiffe_id: SpiffeId
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def serial(self) -> str:
        return format_serial(self.leaf)

    @property
    def not_after(self) -> datetime:
        return self.leaf.not_valid_after_utc

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the leaf's DER."""
        return self.leaf.fingerprint(hashes.SHA256())

    def __reduce__(self) -> tuple[Callable[..., VerifiedPeer], tuple[SpiffeId, list[bytes]]]:
        # A certificate of cryptography's can't be pickled, and a NotAuthorizedError carries the peer to its caller.
        return _unpickled, (self.spiffe_id, [one.public_bytes(Encoding.DER) for one in self.chain])


def _unpickled(spiffe_id: SpiffeId, chain: Sequence[bytes]) -> VerifiedPeer:
    return VerifiedPeer(spiffe_id, parse_chain(chain))


def verify_peer(chain: Sequence[bytes], trust: Trust | BundleSet, now: datetime) -> VerifiedPeer:
    """Verify the DER chain that a peer presented, leaf first (X509-SVID, section 5; docs/certificates.md).

    ``trust`` is all that this side trusts: bundles, or a Trust with revocations beside them. Only the bundle of the
    leaf's own trust domain is used. ``now`` is aware.

    Raises a PeerError: InvalidSvidError, NoBundleError, UntrustedPeerError (RevocationUnknownError where a CRL is
    missing or stale), RevokedError, or ValidityError for a leaf that is good but for its time.
    """
    leaf, *others = read_presented(chain)
    try:
        spiffe_id = spiffe_id_of(leaf.certificate)
    except InvalidSvidError as error:
        raise InvalidSvidError(f"peer's {error}") from error
    out_of_time = time_violation(leaf, now)
    # Build the path of an expired leaf too, and ignore the issuers' times, which often end with the leaf's:
    # ValidityError means that only the time is wrong, so OpenSSL may refuse the chain with its own alert.
    path = _path(spiffe_id, leaf, others, trust, None if out_of_time else now, out_of_time)
    if out_of_time:
        raise ValidityError(f"peer {spiffe_id}: its certificate {out_of_time}")
    presented = [one.certificate for one in path if one in (leaf, *others)]
    return VerifiedPeer(spiffe_id, tuple(presented))


def check_trust(peer: VerifiedPeer, trust: Trust) -> None:
    """Check a peer that was verified before by another Trust: there must still be a path without a revoked certificate.

    No certificate's time is checked: a live connection may outlive its peer's certificate, and a CRL's next update.
    Raises a PeerError: NoBundleError, UntrustedPeerError or RevokedError.
    """
    leaf, *others = map(Presented.of, peer.chain)
    _path(peer.spiffe_id, leaf, others, trust, None)


def _path(
    spiffe_id: SpiffeId,
    leaf: Presented,
    others: Sequence[Presented],
    trust: Trust | BundleSet,
    now: datetime | None,
    out_of_time: str | None = None,
) -> tuple[Presented, ...]:
    bundles, revocations = (trust.bundles, trust.revocations) if isinstance(trust, Trust) else (trust, NO_REVOCATIONS)
    bundle = _bundle_of(spiffe_id, bundles)
    also = f"; and its certificate {out_of_time}" if out_of_time else ""
    check = path_check(revocations, spiffe_id, now) if revocations is not NO_REVOCATIONS else None
    try:
        return find_path(leaf, others, _authorities(spiffe_id, bundle), now, check)
    except RevokedPathError as error:
        raise RevokedError(f"peer {spiffe_id}: {error}{also}") from error
    except UnknownStatusError as error:
        raise RevocationUnknownError(f"peer {spiffe_id}: {error}{also}") from error
    except NoPathError as error:
        raise UntrustedPeerError(
            f"peer {spiffe_id}: no path to a root of the bundle of trust domain {bundle.trust_domain}"
            f" ({len(bundle.x509_authorities)} known, issuer {_issuer((leaf, *others)[-1])}): {error}{also}"
        ) from error


def _bundle_of(spiffe_id: SpiffeId, bundles: BundleSet) -> TrustBundle:
    bundle = bundles.get(spiffe_id.trust_domain)
    if bundle is None:
        raise NoBundleError(
            f"peer {spiffe_id}: no bundle for trust domain {spiffe_id.trust_domain};"
            f" known: {', '.join(str(b.trust_domain) for b in bundles) or 'none'}"
        )
    if not bundle.x509_authorities:
        raise NoBundleError(
            f"peer {spiffe_id}: the bundle of trust domain {bundle.trust_domain} has no X.509 authority"
        )
    return bundle


def _authorities(spiffe_id: SpiffeId, bundle: TrustBundle) -> tuple[Presented, ...]:
    authorities = trusted(bundle.x509_authorities)
    if not authorities:
        broken = "; ".join(signing_violations(bundle.x509_authorities[0]))
        raise UntrustedPeerError(
            f"peer {spiffe_id}: no authority in the bundle of trust domain {bundle.trust_domain} may sign: {broken}"
        )
    return authorities


def time_violation(leaf: Presented, now: datetime) -> str | None:
    """Why a leaf does not count at this time, in words with both clocks; None if it does."""
    serial = format_serial(leaf.certificate)
    if now > leaf.not_after:
        return f"{serial} expired at {format_moment(leaf.not_after)}; our clock says {format_moment(now)}"
    if now < leaf.not_before:
        return f"{serial} is not valid before {format_moment(leaf.not_before)}; our clock says {format_moment(now)}"
    return None


def _issuer(last: Presented) -> str:
    try:
        name = last.certificate.issuer
    except PARSE_ERRORS:
        return "(unreadable)"
    return name_text(name)
