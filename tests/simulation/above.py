"""An authority above the servers: its roots are theirs, and it signs their CAs.

It is a machine without faults of its own that may be out of reach. ``prepare``, ``activate``, ``taint`` and ``revoke``
are its operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from meshtls.bundle import JwtAuthority
from meshtls.ca.authority import Authority
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey
from meshtls.spiffeid import TrustDomain

__all__ = ["Above"]


class Above:
    """Implements UpstreamAuthority for every server. The last of ``roots`` that is activated signs.

    ``revoked``: the roots that it has revoked, by id, with the time in seconds; ``reachable_since`` is infinite while
    it is out of reach.
    """

    name = "the authority above"

    def __init__(self, trust_domain: TrustDomain, clock: Clock, now: Callable[[], float]) -> None:
        self._trust_domain = trust_domain
        self._clock = clock
        self._now = now
        self._signs = self._new()
        self._next: Authority | None = None
        self._old: list[Authority] = []
        self._tainted: list[Authority] = []
        self.revoked: dict[str, float] = {}
        self.reachable_since = 0.0

    @property
    def reachable(self) -> bool:
        return self.reachable_since != float("inf")

    @reachable.setter
    def reachable(self, reachable: bool) -> None:
        self.reachable_since = self._now() if reachable else float("inf")

    # Its operator

    def prepare(self) -> str:
        if self._next is None:
            self._next = self._new()
        return self._next.id

    def activate(self) -> str | None:
        """None where no root is prepared."""
        if self._next is None:
            return None
        self._old.append(self._signs)
        self._signs, self._next = self._next, None
        return self._signs.id

    def taint(self) -> str | None:
        """The oldest root that signs no more."""
        if not self._old:
            return None
        self._tainted.append(self._old.pop(0))
        return self._tainted[-1].id

    def revoke(self) -> str:
        """The oldest tainted root, or the oldest that signs no more; otherwise the one that signs is replaced at once,
        as after a theft.
        """
        if not self._tainted and not self._old:
            self.prepare()
            self.activate()
        key = (self._tainted or self._old).pop(0).id
        self.revoked[key] = self._now()
        return key

    # What a server asks

    async def sign_ca(self, csr: bytes, ttl: timedelta) -> UpstreamCa:
        self._check_reachable()
        return UpstreamCa(self._signs.sign_ca(csr, ttl).chain, tuple(one.root for one in self._present()))

    async def bundle(self) -> UpstreamBundle:
        self._check_reachable()
        return UpstreamBundle(
            roots=tuple(one.root for one in self._present()),
            tainted=frozenset(one.root for one in self._tainted),
            issuer=self._signs.id,
            complete=True,
        )

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        raise LocalIdentityError("the authority above has no JWT keys")

    def on_change(self, changed: Callable[[], None]) -> None:
        """It tells of nothing: the servers look at it."""

    def _present(self) -> list[Authority]:
        prepared = [] if self._next is None else [self._next]
        return [self._signs, *prepared, *self._old, *self._tainted]

    def _check_reachable(self) -> None:
        if not self.reachable:
            raise LocalIdentityError("the authority above is out of reach")

    def _new(self) -> Authority:
        return Authority.create(self._trust_domain, self._clock)
