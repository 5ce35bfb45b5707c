"""``verify_peer`` with a cache: a chain that passed is not parsed and its signatures are not checked again.

A Trust is frozen, so the same chain under the same Trust can only fail later by the clock. A result is therefore cached
with the time at which the first certificate expires that may be in the path. Parsing and signatures are half the work
of a whole handshake; a mesh's peers are few and connect often.

For 65,536 leaves the intermediates are remembered as well: a resumed session presents only its leaf, and without them a
peer would be refused because others had connected since. They take about a hundred bytes a peer: most share their CA.

The cache belongs to a Trust, not to a generation of our own SVID: ``CurrentVerifier`` keeps it when only that rotates.

A verifier is thread-safe: a threading HTTP server uses that of its context from many threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.errors import LocalIdentityError, PeerError, UntrustedPeerError
from meshtls.memo import keep_newest
from meshtls.svid.context import WithdrawableSource, X509Context
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer, check_trust, verify_peer

__all__ = ["CurrentVerifier", "PeerVerifier", "trust_changes", "valid_until"]


_Chain = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Passed:
    peer: VerifiedPeer
    since: datetime
    until: datetime


class PeerVerifier:
    """Verifies by one Trust and remembers the ``size`` chains that passed most recently. Failures are not remembered.

    For the ``leaves`` that passed most recently the rest of their chain is kept, for ``verify_again``.
    """

    def __init__(self, trust: Trust, size: int = 1024, leaves: int = 1 << 16) -> None:
        self.trust = trust
        self._size, self._leaves = size, leaves
        self._lock = threading.Lock()
        self._passed: OrderedDict[_Chain, _Passed] = OrderedDict()
        #: The intermediates, by the leaf's digest.
        self._above: OrderedDict[bytes, _Chain] = OrderedDict()
        #: One copy of each sequence of intermediates, which many leaves share.
        self._shared: dict[_Chain, _Chain] = {}
        self._last_checked: tuple[VerifiedPeer, PeerError | None] | None = None

    def verify(self, chain: Sequence[bytes], now: datetime) -> VerifiedPeer:
        """The same result or error as ``verify_peer``."""
        key = tuple(chain)
        with self._lock:
            passed = self._passed.get(key)
            if passed is not None and passed.since <= now <= passed.until:
                self._remember(key, passed)
                return passed.peer
        # Without the lock: it takes a millisecond, and two threads may do it for the same peer without harm.
        peer = verify_peer(chain, self.trust, now)
        passed = _Passed(peer, now, valid_until(peer, self.trust, now))
        with self._lock:
            # By the path alone: what else the peer presented is its own choice, and could fill the cache.
            self._remember(_path_of(peer), passed)
        return peer

    def verify_again(self, leaf: bytes, now: datetime) -> VerifiedPeer:
        """As ``verify``, for a peer of which only the leaf is known, by the chain with which it passed before.

        Also raises UntrustedPeerError if it did not pass under this Trust, or too long ago to be remembered.
        """
        with self._lock:
            above = self._above.get(_digest(leaf))
        if above is None:
            raise UntrustedPeerError(
                "the peer resumed a session, and its certificate was not verified under the present trust;"
                " a full handshake is required"
            )
        return self.verify((leaf, *above), now)

    def distrust(self, peer: VerifiedPeer) -> PeerError | None:
        """Why ``svid.verify.check_trust`` refuses the peer of a live connection, who passed under an earlier Trust.

        The last answer is remembered: the connections of one peer, such as the streams of a tunnel, ask in a row.
        """
        last = self._last_checked
        if last is not None and last[0] is peer:
            return last[1]
        with self._lock:
            known = _path_of(peer) in self._passed
        refusal: PeerError | None = None
        if not known:
            try:
                check_trust(peer, self.trust)
            except PeerError as error:
                refusal = error
        self._last_checked = peer, refusal
        return refusal

    def _remember(self, key: _Chain, passed: _Passed) -> None:
        """Store as the most recent, and evict the least recent if there are too many. The caller holds the lock."""
        keep_newest(self._passed, key, passed, self._size)
        if len(self._shared) >= self._size:
            self._shared.clear()  # the copies in use are kept by ``_above``
        above = self._shared.setdefault(key[1:], key[1:])
        keep_newest(self._above, _digest(key[0]), above, self._leaves)

    def __repr__(self) -> str:
        return f"<PeerVerifier [{len(self._passed)} of {self._size} remembered]>"


class CurrentVerifier:
    """The PeerVerifier of the newest Trust: one for all that take their trust from the same source."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._verifier: PeerVerifier | None = None

    @property
    def newest(self) -> PeerVerifier | None:
        """None before the first ``follow``."""
        return self._verifier

    def follow(self, context: X509Context) -> PeerVerifier:
        """Take over this context's trust. Returns a new verifier if it has changed, else the present one."""
        with self._lock:
            verifier = self._verifier
            if verifier is None:
                verifier = PeerVerifier(Trust(1, context.bundles, context.revocations))
            else:
                trust = verifier.trust.followed_by(context.bundles, context.revocations)
                if trust is not verifier.trust:
                    verifier = PeerVerifier(trust)
            self._verifier = verifier
            return verifier

    def __repr__(self) -> str:
        return f"<CurrentVerifier [{self._verifier.trust if self._verifier else 'no trust yet'}]>"


async def trust_changes(source: WithdrawableSource, verifier: CurrentVerifier) -> AsyncGenerator[Trust]:
    """The present trust of ``source``, and each new one, once ``verifier`` has taken it over.

    Ends when the source is closed, or nothing can come from it any more.
    """
    generation, yielded = -1, None
    while True:
        try:
            context = await source.changed(generation)
        except LocalIdentityError:
            return
        generation = context.generation
        # A handshake may have taken the trust over before us, so ``verifier`` can't tell whether it is new.
        trust = verifier.follow(context).trust
        if trust is not yielded:
            yielded = trust
            yield trust


def valid_until(peer: VerifiedPeer, trust: Trust, now: datetime) -> datetime:
    """When the first certificate or CRL ends that may have counted for ``peer``, which was verified at ``now``.

    The result is valid until then: an intermediate, a root or a CRL may expire first. What had ended before ``now`` did
    not count.
    """
    authorities = trust.bundles[peer.spiffe_id.trust_domain].x509_authorities
    ends = (certificate.not_valid_after_utc for certificate in (*peer.chain, *authorities))
    lists = trust.revocations.lists
    changes = lists.next_change(now) if lists is not None else None
    return min((end for end in (*ends, *([changes] if changes else [])) if end >= now), default=now)


def _path_of(peer: VerifiedPeer) -> _Chain:
    return tuple(one.public_bytes(Encoding.DER) for one in peer.chain)


def _digest(leaf: bytes) -> bytes:
    return sha256(leaf).digest()
