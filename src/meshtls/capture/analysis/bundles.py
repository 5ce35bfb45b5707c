"""Verifies the chains of a capture by a bundle, at the time at which they were presented. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.capture.analysis.connection import Peer
from meshtls.errors import BundleError, InvalidSvidError, PeerError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId, TrustDomain
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

    Neither form says whose it is: it is taken for the bundle of any trust domain that a leaf names, unless
    ``trust_domain`` is given. ``peers_of`` says when it is not.
    """

    def __init__(self, content: bytes, trust_domain: TrustDomain | None = None) -> None:
        """Raises BundleError where the content is no bundle."""
        self._content, self.trust_domain = content, trust_domain
        self._is_json = content.lstrip().startswith(b"{")
        self._bundles: dict[TrustDomain, TrustBundle] = {}
        self.of(trust_domain or TrustDomain.parse("any"))

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
        domain = self.trust_domain or (spiffe_id.trust_domain if spiffe_id is not None else None)
        try:
            bundles = BundleSet([self.of(domain)] if domain is not None else [])
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

    A bundle whose trust domain is not known, and which verifies the chain of one side, is the bundle of that side's
    trust domain. It says nothing of a chain of another one with another root, which stays without a verdict.
    """
    peers = {side: peer_of(chain, bundle, time_ns) for side, (chain, time_ns) in chains.items()}
    if bundle is None or bundle.trust_domain is not None:
        return peers
    of_bundle = {_domain(peer) for peer in peers.values() if peer is not None and peer.verified}
    for side, peer in peers.items():
        untrusted = peer is not None and peer.refused_as is Outcome.PEER_UNTRUSTED
        if peer is not None and untrusted and of_bundle and _domain(peer) not in of_bundle:
            peers[side] = Peer(peer.spiffe_id, peer.certificates)
    return peers


def _domain(peer: Peer) -> str:
    return SpiffeId.parse(peer.spiffe_id).trust_domain.name if peer.spiffe_id else ""
