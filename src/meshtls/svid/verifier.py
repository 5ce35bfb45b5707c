"""``verify_peer`` with a memory: a chain that passed is not parsed and its signatures are not checked again.

Bundles are frozen, so the same chain under the same bundles can only fail later by the clock. What is remembered is
therefore kept with the time at which the first certificate that could have had a part in the path ends. The parse and
the signatures are half the work of a whole handshake; a mesh's peers are few and come back often.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from meshtls.bundle import BundleSet
from meshtls.errors import UntrustedPeerError
from meshtls.svid.verify import VerifiedPeer, verify_peer

__all__ = ["PeerVerifier"]


@dataclass(frozen=True, slots=True)
class _Passed:
    peer: VerifiedPeer
    since: datetime
    until: datetime


class PeerVerifier:
    """Verifies by one set of bundles and remembers the ``size`` chains that passed most recently. Failures are not."""

    def __init__(self, bundles: BundleSet, size: int = 1024) -> None:
        self._bundles = bundles
        self._size = size
        self._passed: OrderedDict[tuple[bytes, ...], _Passed] = OrderedDict()
        self._chains: dict[bytes, tuple[bytes, ...]] = {}

    def verify(self, chain: Sequence[bytes], now: datetime) -> VerifiedPeer:
        """The same answers as ``verify_peer``, for the same reasons."""
        key = tuple(chain)
        passed = self._passed.get(key)
        if passed is not None and passed.since <= now <= passed.until:
            self._passed.move_to_end(key)
            return passed.peer
        peer = verify_peer(chain, self._bundles, now)
        self._passed[key] = _Passed(peer, now, self._until(peer, now))
        self._chains[key[0]] = key
        if len(self._passed) > self._size:
            oldest, _ = self._passed.popitem(last=False)
            self._chains.pop(oldest[0], None)
        return peer

    def verify_again(self, leaf: bytes, now: datetime) -> VerifiedPeer:
        """The same for a peer of whom only the leaf is known, by the chain that it passed with before.

        Also raises UntrustedPeerError where it did not pass here, or too long ago to be remembered.
        """
        chain = self._chains.get(leaf)
        if chain is None:
            raise UntrustedPeerError(
                "the peer resumed a session, and its certificate was not verified under this generation;"
                " it has to shake hands in full"
            )
        return self.verify(chain, now)

    def _until(self, peer: VerifiedPeer, now: datetime) -> datetime:
        """The first end among all that may be in the path, so that none of it is ever used beyond its time."""
        authorities = self._bundles[peer.spiffe_id.trust_domain].x509_authorities
        ends = [certificate.not_valid_after_utc for certificate in (*peer.chain, *authorities)]
        return min(end for end in ends if end >= now)

    def __repr__(self) -> str:
        return f"<PeerVerifier [{len(self._passed)} of {self._size} remembered]>"
