"""X.509 messages of the Workload API <-> our own objects (SPIFFE Workload API, section 5). Pure.

A message comes from our own agent, so a fault in it is a LocalIdentityError. But one fault must not discard the rest of
an update, or a withdrawn key would stay in use. So an unusable authority is left out, and if a trust domain's bundle is
unreadable, no peer of that domain is trusted. An unusable SVID is left out, unless it is the default one: another
identity must not silently take its place. In that case the whole update is refused, and the previous state is used
until its SVID expires.

A CRL that can't be read is left out: nothing in it shows whose it is. If there are more than are taken, every issuer
needs a fresh one among those that were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.serialization import load_der_private_key

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import BundleError, InvalidSpiffeIdError, InvalidSvidError, LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.proto import workload_pb as pb
from meshtls.revocation.crl import MAX_CRL_BYTES, MAX_CRLS, Crl, CrlError, load_crl
from meshtls.revocation.lists import CrlLists
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS, Revocations, Trust
from meshtls.svid.x509 import PrivateKey, X509Svid, parse_chain
from meshtls.workload.der import split_der

__all__ = [
    "bundle_set",
    "first_of_each_hint",
    "spiffe_ids",
    "x509_bundles",
    "x509_bundles_message",
    "x509_context",
    "x509_context_message",
    "x509_trust",
    "x509_trust_message",
]

#: Of all CRLs of one message.
MAX_CRL_TOTAL = 2 * MAX_CRL_BYTES
_SHOWN = 8


class _Hinted(Protocol):
    @property
    def hint(self) -> str: ...


H = TypeVar("H", bound=_Hinted)


def x509_context(message: pb.X509SVIDResponse, generation: int) -> X509Context:
    """All SVIDs, the default first, and the bundles of their own and of federated trust domains.

    Raises LocalIdentityError.
    """
    svids, unusable = _svids(message.svids)
    # Our own last: no federated bundle may replace it, and the default SVID's bundle takes precedence for its domain.
    own = [(one.spiffe_id, one.bundle) for one in reversed(message.svids)]
    bundles = bundle_set([*message.federated_bundles.items(), *own], _bundle)
    missing = [
        f"X509-SVID {name!r} of the Workload API: it came without a bundle; no peer of its trust domain is trusted"
        for name, ders in own
        if not ders
    ]
    revocations, no_crls = _revocations(message.crl)
    return X509Context(
        generation,
        first_of_each_hint(svids),
        bundles,
        (*unusable, *missing, *bundles.unusable, *no_crls),
        revocations,
    )


def spiffe_ids(message: pb.X509SVIDResponse) -> Mapping[str, datetime | None]:
    """The IDs in the message, as it spells them, and when the SVID of each expires; None where that can't be read."""
    return {svid.spiffe_id: _not_after(svid.x509_svid) for svid in message.svids}


def _not_after(chain: bytes) -> datetime | None:
    try:
        return parse_chain(split_der(chain))[0].not_valid_after_utc
    except (InvalidSvidError, *PARSE_ERRORS):
        return None


def x509_context_message(context: X509Context) -> pb.X509SVIDResponse:
    """The inverse of ``x509_context``. Raises LocalIdentityError where an SVID has no bundle."""
    own = {svid.spiffe_id.trust_domain for svid in context.svids}
    federated = {str(b.trust_domain.id): b.to_der() for b in context.bundles if b.trust_domain not in own}
    return pb.X509SVIDResponse(
        svids=[_svid_message(svid, context.bundles) for svid in context.svids],
        federated_bundles=federated,
        crl=_crls(context.revocations),
    )


def x509_bundles(message: pb.X509BundlesResponse) -> BundleSet:
    """The bundle of each trust domain."""
    return bundle_set(message.bundles.items(), _bundle)


def x509_bundles_message(bundles: BundleSet) -> pb.X509BundlesResponse:
    return pb.X509BundlesResponse(bundles={str(b.trust_domain.id): b.to_der() for b in bundles})


def x509_trust(message: pb.X509BundlesResponse, generation: int) -> tuple[Trust, tuple[str, ...]]:
    """The bundles and CRLs of the response, and a line for everything that was left out."""
    bundles, (revocations, unusable) = x509_bundles(message), _revocations(message.crl)
    return Trust(generation, bundles, revocations), (*bundles.unusable, *unusable)


def x509_trust_message(trust: Trust) -> pb.X509BundlesResponse:
    """The inverse of ``x509_trust``."""
    message = x509_bundles_message(trust.bundles)
    message.crl.extend(_crls(trust.revocations))
    return message


def first_of_each_hint(svids: Iterable[H]) -> tuple[H, ...]:
    """The SVIDs without those that repeat a hint; an empty hint may repeat."""
    kept: list[H] = []
    for svid in svids:
        if not svid.hint or all(svid.hint != other.hint for other in kept):
            kept.append(svid)
    return tuple(kept)


def bundle_set(bundles: Iterable[tuple[str, bytes]], read: Callable[[TrustDomain, bytes], TrustBundle]) -> BundleSet:
    """A response's bundles, each read by itself: one for which ``read`` raises BundleError trusts no peer.

    The last of several names for one trust domain counts.
    """
    found, nameless = [], []
    for name, content in bundles:
        try:
            trust_domain = TrustDomain.parse(name)
        except InvalidSpiffeIdError as error:
            nameless.append(f"bundle of the Workload API: {error}")
            continue
        try:
            found.append(read(trust_domain, content))
        except BundleError as error:
            found.append(TrustBundle.unreadable(trust_domain, error))
    return BundleSet(found, nameless)


def _revocations(ders: Iterable[bytes]) -> tuple[Revocations, tuple[str, ...]]:
    """What the CRLs revoke, and a line for each that was left out."""
    received: list[Crl] = []
    unusable: list[str] = []
    incomplete, size = "", 0
    for der in ders:
        size += len(der)
        if len(received) >= MAX_CRLS or size > MAX_CRL_TOTAL:
            incomplete = f"the Workload API sent more than {MAX_CRLS} CRLs, or more than {MAX_CRL_TOTAL} bytes of them"
            unusable.append(f"{incomplete}; the others are left out")
            break
        try:
            received.append(load_crl(der))
        except CrlError as error:
            unusable.append(f"CRL of the Workload API: {error}; it is left out")
            continue
        if problem := received[-1].problem:
            unusable.append(f"CRL of the Workload API, of issuer {received[-1].issuer_text}: {problem}")
    if len(unusable) > _SHOWN:
        unusable[_SHOWN:] = [f"CRLs of the Workload API: {len(unusable) - _SHOWN} more can't be used"]
    if not received and not incomplete:
        return NO_REVOCATIONS, tuple(unusable)
    return Revocations(lists=CrlLists(tuple(received), incomplete=incomplete)), tuple(unusable)


def _crls(revocations: Revocations) -> tuple[bytes, ...]:
    return revocations.lists.to_der() if revocations.lists is not None else ()


def _svids(messages: Iterable[pb.X509SVID]) -> tuple[list[X509Svid], list[str]]:
    """The SVIDs, and a line for each that was left out."""
    svids: list[X509Svid] = []
    unusable = []
    for message in messages:
        try:
            svids.append(_svid(message))
        except LocalIdentityError as error:
            if not svids:
                raise
            unusable.append(f"{error}; it is left out")
    if not svids:
        raise LocalIdentityError("the Workload API sent no X509-SVID: no identity was issued to this process")
    return svids, unusable


def _svid(message: pb.X509SVID) -> X509Svid:
    where = f"X509-SVID {message.spiffe_id!r} of the Workload API"
    try:
        spiffe_id = SpiffeId.parse(message.spiffe_id)
        chain = parse_chain(split_der(message.x509_svid))
        key = load_der_private_key(message.x509_svid_key, None)
    except (InvalidSpiffeIdError, InvalidSvidError, *PARSE_ERRORS) as error:
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


def _bundle(trust_domain: TrustDomain, ders: bytes) -> TrustBundle:
    try:
        return TrustBundle.from_der(trust_domain, split_der(ders))
    except ValueError as error:
        raise BundleError(f"X.509 bundle of {trust_domain} of the Workload API: {error}") from error
