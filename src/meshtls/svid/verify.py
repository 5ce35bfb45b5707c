"""Is this peer who its certificate says, at this time, by the bundle of its own trust domain?

OpenSSL's trust store is one flat set of roots and so can't answer that: with a federated domain's root beside ours it
accepts an ID of ours signed by them. Path building and signatures are cryptography's; ours is which roots may count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import InvalidSvidError, NoBundleError, UntrustedPeerError, ValidityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.leaf_rules import signing_violations
from meshtls.svid.x509 import format_serial, parse_chain, spiffe_id_of

__all__ = ["MAX_CHAIN", "VerifiedPeer", "verify_peer"]

MAX_CHAIN = 8
_NO_CANDIDATE = "all candidates exhausted with no interior errors"  # cryptography's words where no issuer's name fits
# The leaf's extensions are judged by leaf_rules; what signs it has to be a CA by RFC 5280.
_LEAF_EXTENSIONS = ExtensionPolicy.permit_all()
_CA_EXTENSIONS = ExtensionPolicy.webpki_defaults_ca()


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """A peer that proved its SPIFFE ID. ``chain`` is what it presented, leaf first."""

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


def verify_peer(chain: Sequence[bytes], bundles: BundleSet, now: datetime) -> VerifiedPeer:
    """Verify the DER chain that a peer presented, leaf first (X509-SVID, section 5).

    ``bundles`` are all that this side trusts; only the one of the leaf's own trust domain is used. ``now`` is aware.
    Raises a PeerError: InvalidSvidError, NoBundleError, ValidityError or UntrustedPeerError.
    """
    if not 0 < len(chain) <= MAX_CHAIN:
        raise InvalidSvidError(f"peer's chain: wanted 1 to {MAX_CHAIN} certificates, got {len(chain)}")
    certificates = parse_chain(chain)
    spiffe_id = _named(certificates)
    bundle = _bundle_of(spiffe_id, bundles)
    _check_validity(spiffe_id, certificates[0], now)
    _check_path(spiffe_id, certificates, bundle, now)
    return VerifiedPeer(spiffe_id, certificates)


def _named(certificates: tuple[x509.Certificate, ...]) -> SpiffeId:
    try:
        return spiffe_id_of(certificates[0])
    except InvalidSvidError as error:
        raise InvalidSvidError(f"peer's {error}") from error


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


def _check_validity(spiffe_id: SpiffeId, leaf: x509.Certificate, now: datetime) -> None:
    if now > leaf.not_valid_after_utc:
        raise ValidityError(
            f"peer {spiffe_id}: its certificate {format_serial(leaf)} expired at"
            f" {_clock(leaf.not_valid_after_utc)}; our clock says {_clock(now)}"
        )
    if now < leaf.not_valid_before_utc:
        raise ValidityError(
            f"peer {spiffe_id}: its certificate {format_serial(leaf)} is not valid before"
            f" {_clock(leaf.not_valid_before_utc)}; our clock says {_clock(now)}"
        )


def _check_path(
    spiffe_id: SpiffeId, certificates: tuple[x509.Certificate, ...], bundle: TrustBundle, now: datetime
) -> None:
    _check_signers(spiffe_id, certificates[1:])
    store = _anchors(bundle.x509_authorities)
    if store is None:
        broken = "; ".join(signing_violations(bundle.x509_authorities[0]))
        raise UntrustedPeerError(
            f"peer {spiffe_id}: no authority in the bundle of trust domain {bundle.trust_domain} may sign: {broken}"
        )
    verifier = (
        PolicyBuilder()
        .store(store)
        .time(now)
        .extension_policies(ca_policy=_CA_EXTENSIONS, ee_policy=_LEAF_EXTENSIONS)
        .build_client_verifier()
    )
    try:
        verifier.verify(certificates[0], list(certificates[1:]))
    except VerificationError as error:
        raise UntrustedPeerError(
            f"peer {spiffe_id}: no path to a root of the bundle of trust domain {bundle.trust_domain}"
            f" ({len(bundle.x509_authorities)} known, issuer {_name(certificates[-1].issuer)}): {_why(error)}"
        ) from error


@lru_cache(maxsize=64)
def _anchors(authorities: tuple[x509.Certificate, ...]) -> Store | None:
    # Without this filter a leaf in a bundle would vouch for itself. Kept per bundle: a Store keeps its keys loaded.
    signers = [authority for authority in authorities if not signing_violations(authority)]
    return Store(signers) if signers else None


def _check_signers(spiffe_id: SpiffeId, signers: tuple[x509.Certificate, ...]) -> None:
    for signer in signers:
        broken = signing_violations(signer)
        if broken:
            raise UntrustedPeerError(
                f"peer {spiffe_id}: its intermediate {format_serial(signer)} may not sign: {'; '.join(broken)}"
            )


def _why(error: VerificationError) -> str:
    """The verifier's reason without its bookkeeping."""
    reason = str(error).split(" (encountered processing")[0]
    reason = reason.removeprefix("validation failed: ").removeprefix("candidates exhausted: ")
    return "none of them is its issuer" if reason == _NO_CANDIDATE else reason


def _name(name: x509.Name) -> str:
    return name.rfc4514_string({NameOID.SERIAL_NUMBER: "serialNumber"}) or "(empty)"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
