"""Verifies the chains of a capture by a bundle, at the time at which they were presented. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.x509 import Certificate

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.capture.analysis.connection import Peer
from meshtls.errors import BundleError, InvalidSpiffeIdError, InvalidSvidError, PeerError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import uri_names
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import parse_chain, spiffe_id_of
from meshtls.wire.side import Side

__all__ = ["CaptureBundle", "peer_of", "peers_of"]

_SECOND = 1_000_000_000
_MOST_CACHED = 1024
#: The longest leaf, in bytes of its DER, whose ID is remembered: a workload presents the same one again and again.
_LONGEST_CACHED = 4096
#: The verifier's words for the time at which it verifies.
_OUR_CLOCK, _ITS_CLOCK = "our clock says", "the time of the capture is"


class CaptureBundle:
    """A file of authorities: PEM, or a SPIFFE bundle.

    Neither form says whose it is. ``trust_domains``: those that the authorities name by SPIFFE IDs of their own, which
    they need not have (X509-SVID, section 3.2). The file is taken for the bundle of any trust domain that a leaf names;
    ``peers_of`` says when that proves something.
    """

    def __init__(self, content: bytes) -> None:
        """Raises BundleError where the content is no bundle."""
        self._content = content
        self._is_json = content.lstrip().startswith(b"{")
        self._bundles: dict[TrustDomain, TrustBundle] = {}
        authorities = self.of(TrustDomain.parse("any")).x509_authorities
        self.trust_domains = frozenset(name for one in authorities for name in _named(one))

    def of(self, domain: TrustDomain) -> TrustBundle:
        """The bundle, for this trust domain. Raises BundleError."""
        found = self._bundles.get(domain)
        if found is None:
            read = TrustBundle.from_jwks if self._is_json else TrustBundle.from_pem
            found = read(domain, self._content)
            if len(self._bundles) < _MOST_CACHED:
                self._bundles[domain] = found
        return found

    def refusal(self, chain: Sequence[bytes], spiffe_id: SpiffeId | None, time_ns: int) -> PeerError | None:
        """Why this chain, leaf first, is refused at this time; None where it is not."""
        try:
            bundles = BundleSet([self.of(spiffe_id.trust_domain)] if spiffe_id is not None else [])
            verify_peer(chain, bundles, datetime.fromtimestamp(time_ns // _SECOND, UTC))
        except PeerError as error:
            return error
        except BundleError as error:
            return InvalidSvidError(str(error))
        return None


def peer_of(chain: Sequence[bytes], bundle: CaptureBundle | None, time_ns: int) -> Peer | None:
    """The peer that presented this chain at this time. None where it is empty."""
    if not chain:
        return None
    spiffe_id = _remembered_id(chain[0]) if len(chain[0]) <= _LONGEST_CACHED else _id_of(chain[0])
    text = str(spiffe_id) if spiffe_id is not None else ""
    if bundle is None:
        return Peer(text, len(chain))
    error = bundle.refusal(chain, spiffe_id, time_ns)
    if error is None:
        return Peer(text, len(chain), True)
    why = printable(str(error)).replace(_OUR_CLOCK, _ITS_CLOCK)
    return Peer(text, len(chain), False, why, outcome_of(error))


def _id_of(leaf: bytes) -> SpiffeId | None:
    """The ID of a leaf that keeps the leaf rules, which depend on its bytes alone: not on a bundle or a time."""
    try:
        return spiffe_id_of(parse_chain([leaf])[0])
    except PeerError:
        return None


_remembered_id = lru_cache(maxsize=_MOST_CACHED)(_id_of)


def peers_of(
    chains: Mapping[Side, tuple[Sequence[bytes], int]], bundle: CaptureBundle | None
) -> dict[Side, Peer | None]:
    """The peers that presented these chains, each at its time.

    The bundle is that of the trust domains that its authorities name, or else of those of which it verifies a chain
    here. It says nothing of the roots of another trust domain, whose chains stay without a verdict.
    """
    peers = {side: peer_of(chain, bundle, time_ns) for side, (chain, time_ns) in chains.items()}
    if bundle is None:
        return peers
    known = bundle.trust_domains or {_domain(peer) for peer in peers.values() if peer is not None and peer.verified}
    for side, peer in peers.items():
        by_roots = peer is not None and (peer.verified or peer.refused_as is Outcome.PEER_UNTRUSTED)
        if peer is not None and by_roots and _domain(peer) not in known:
            why = _not_of(_domain(peer), known)
            peers[side] = Peer(peer.spiffe_id, peer.certificates, unverified_because=why)
    return peers


def _not_of(domain: str, known: Collection[str]) -> str:
    """Why the bundle says nothing of a chain of ``domain``."""
    if known:
        whose = f"the authorities of the one given are of {', '.join(sorted(known))}"
        return f"no bundle of trust domain {domain} was given: {whose}"
    nothing = "its authorities name no trust domain, and it verifies no chain of this connection"
    return f"the bundle given may not be that of trust domain {domain}: {nothing}"


def _domain(peer: Peer) -> str:
    return SpiffeId.parse(peer.spiffe_id).trust_domain.name if peer.spiffe_id else ""


def _named(authority: Certificate) -> Iterator[str]:
    for name in uri_names(authority):
        with suppress(InvalidSpiffeIdError):
            yield SpiffeId.parse(name).trust_domain.name
