"""X.509 messages of the Workload API <-> our own objects (SPIFFE Workload API, section 5). Pure.

What comes in was made by our own agent, so what is wrong with it is a LocalIdentityError; none of it is used in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import InvalidSpiffeIdError, InvalidSvidError, LocalIdentityError
from meshtls.proto import workload_pb as pb
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import PrivateKey, X509Svid, parse_chain
from meshtls.workload.der import split_der

__all__ = [
    "first_of_each_hint",
    "trust_domain_of",
    "x509_bundles",
    "x509_bundles_message",
    "x509_context",
    "x509_context_message",
]


class _Hinted(Protocol):
    @property
    def hint(self) -> str: ...


H = TypeVar("H", bound=_Hinted)


def x509_context(message: pb.X509SVIDResponse, generation: int) -> X509Context:
    """All SVIDs, the default first, and the bundles of their own and of federated trust domains.

    Raises LocalIdentityError.
    """
    svids = first_of_each_hint(_svid(one) for one in message.svids)
    if not svids:
        raise LocalIdentityError("the Workload API sent no X509-SVID: no identity was issued to this process")
    own = [_own_bundle(one) for one in reversed(message.svids)]
    # Our own last: no federated bundle may take its place, and of two for one domain the default SVID's counts.
    return X509Context(generation, svids, BundleSet([*_bundles(message.federated_bundles), *own]))


def x509_context_message(context: X509Context) -> pb.X509SVIDResponse:
    """The other way round: what a Workload API sends for this context. Raises LocalIdentityError without a bundle."""
    own = {svid.spiffe_id.trust_domain for svid in context.svids}
    federated = {str(b.trust_domain.id): b.to_der() for b in context.bundles if b.trust_domain not in own}
    return pb.X509SVIDResponse(
        svids=[_svid_message(svid, context.bundles) for svid in context.svids], federated_bundles=federated
    )


def x509_bundles(message: pb.X509BundlesResponse) -> BundleSet:
    """Raises LocalIdentityError."""
    return BundleSet(_bundles(message.bundles))


def x509_bundles_message(bundles: BundleSet) -> pb.X509BundlesResponse:
    return pb.X509BundlesResponse(bundles={str(b.trust_domain.id): b.to_der() for b in bundles})


def first_of_each_hint(svids: Iterable[H]) -> tuple[H, ...]:
    """All, but of several with one hint only the first; an empty hint says nothing and may repeat."""
    kept: list[H] = []
    for svid in svids:
        if not svid.hint or all(svid.hint != other.hint for other in kept):
            kept.append(svid)
    return tuple(kept)


def trust_domain_of(name: str) -> TrustDomain:
    """The trust domain that a bundle of a response is for. Raises LocalIdentityError."""
    try:
        return TrustDomain.parse(name)
    except InvalidSpiffeIdError as error:
        raise LocalIdentityError(f"bundle of the Workload API: {error}") from error


def _svid(message: pb.X509SVID) -> X509Svid:
    where = f"X509-SVID {message.spiffe_id!r} of the Workload API"
    try:
        spiffe_id = SpiffeId.parse(message.spiffe_id)
        chain = parse_chain(split_der(message.x509_svid))
        key = load_der_private_key(message.x509_svid_key, None)
    except (InvalidSpiffeIdError, InvalidSvidError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalIdentityError(f"{where}: {error}") from error
    if not isinstance(key, PrivateKey):
        raise LocalIdentityError(f"{where}: wanted an EC or RSA key, got {type(key).__name__}")
    svid = X509Svid.from_chain(chain, key, message.hint)
    if svid.spiffe_id != spiffe_id:
        raise LocalIdentityError(f"{where}: its certificate says {svid.spiffe_id}")
    return svid


def _svid_message(svid: X509Svid, bundles: BundleSet) -> pb.X509SVID:
    bundle = bundles.get(svid.spiffe_id.trust_domain)
    if bundle is None:
        raise LocalIdentityError(f"X509-SVID {svid.spiffe_id}: no bundle of its own trust domain to send with it")
    return pb.X509SVID(
        spiffe_id=str(svid.spiffe_id),
        x509_svid=svid.chain_der(),
        x509_svid_key=svid.key_der(),
        bundle=bundle.to_der(),
        hint=svid.hint,
    )


def _own_bundle(message: pb.X509SVID) -> TrustBundle:
    bundle = _bundle(SpiffeId.parse(message.spiffe_id).trust_domain, message.bundle)
    if not bundle.x509_authorities:
        raise LocalIdentityError(f"X509-SVID {message.spiffe_id!r} of the Workload API: it came without a bundle")
    return bundle


def _bundles(bundles: Mapping[str, bytes]) -> Iterator[TrustBundle]:
    for name, ders in bundles.items():
        yield _bundle(trust_domain_of(name), ders)


def _bundle(trust_domain: TrustDomain, ders: bytes) -> TrustBundle:
    try:
        return TrustBundle(trust_domain, tuple(map(x509.load_der_x509_certificate, split_der(ders))))
    except (ValueError, x509.InvalidVersion) as error:
        raise LocalIdentityError(f"X.509 bundle of {trust_domain} of the Workload API: {error}") from error
