"""Verifies the chains of a capture by a bundle, at the time at which they were presented. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.capture.analysis.connection import Peer
from meshtls.errors import BundleError, InvalidSvidError, PeerError
from meshtls.observe.events import outcome_of
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import parse_chain, spiffe_id_of

__all__ = ["CaptureBundle", "peer_of"]

_SECOND = 1_000_000_000
_MOST_CACHED = 1024
#: The longest leaf, in bytes of its DER, whose ID is remembered: a workload presents the same one again and again.
_LONGEST_CACHED = 4096
#: The verifier's words for the time at which it verifies.
_OUR_CLOCK, _ITS_CLOCK = "our clock says", "the time of the capture is"


class CaptureBundle:
    """A file of authorities: PEM, or a SPIFFE bundle.

    Neither form says whose it is: it is taken for the bundle of any trust domain that a leaf names, unless
    ``trust_domain`` is given.
    """

    def __init__(self, content: bytes, trust_domain: TrustDomain | None = None) -> None:
        """Raises BundleError where the content is no bundle."""
        self._content, self._own = content, trust_domain
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
        domain = self._own or (spiffe_id.trust_domain if spiffe_id is not None else None)
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
