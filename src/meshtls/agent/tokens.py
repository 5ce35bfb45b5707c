"""JWT-SVIDs for workloads: cached until half-life, then signed again by the upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from meshtls.agent.upstream import Update, Upstream
from meshtls.clock import Clock
from meshtls.errors import InvalidSvidError, LocalIdentityError
from meshtls.logs import logger
from meshtls.registration import Entry
from meshtls.svid.jwt import JwtSvid, key_id_of_token, parse_unverified
from meshtls.workload.jwt_cache import JwtCache

__all__ = ["Tokens"]

_Wanted = tuple[frozenset[str], Entry]

log = logger("meshtls.agent")


class Tokens:
    """JWT-SVIDs of an agent's workloads. ``jitter`` returns a number in [-1, 1]. Callers are authorized elsewhere."""

    def __init__(self, upstream: Upstream, clock: Clock, jitter: Callable[[], float]) -> None:
        self._upstream = upstream
        self._clock = clock
        self._cache: JwtCache[_Wanted] = JwtCache(jitter)
        self._asking: WeakValueDictionary[_Wanted, asyncio.Lock] = WeakValueDictionary()
        #: A token that was requested before the latest update is not kept: that may be what it drops.
        self._updates = 0

    async def fetch(self, entry: Entry, audience: Sequence[str]) -> JwtSvid:
        """A token of this entry's ID for all of ``audience``.

        While the upstream fails, the present token is returned as long as it is valid. Raises LocalIdentityError,
        RequestError for an invalid audience.
        """
        # Keyed by the whole entry: a changed one may give another ID or life.
        wanted = (frozenset(audience), entry)
        # One request at a time for each kind of token: callers that wait for it take the token from the cache.
        async with self._asking.setdefault(wanted, asyncio.Lock()):
            return self._cache.fresh(wanted, self._clock.now()) or await self._renew(wanted)

    def apply(self, update: Update) -> None:
        """Drop the tokens that may not be served any more: of entries that are gone, and of tainted authorities."""
        self._updates += 1
        present = {entry.id for entry in update.entries}
        self._cache.forget(
            lambda wanted, svid: (
                bool(update.refused)
                or wanted[1].id in update.removed
                or (update.whole and wanted[1].id not in present)
                or (bool(update.tainted) and key_id_of_token(svid.token) in update.tainted)
            )
        )

    def __len__(self) -> int:
        """The number of tokens that are kept."""
        return len(self._cache)

    def __repr__(self) -> str:
        return f"<Tokens [{len(self._cache)} cached]>"

    async def _renew(self, wanted: _Wanted) -> JwtSvid:
        audience, entry = wanted
        updates = self._updates
        try:
            svid = self._read(entry, audience, await self._upstream.sign_jwt(entry.id, sorted(audience)))
        except LocalIdentityError as error:
            cached = self._cache.after_failure(wanted, self._clock.now())
            if cached is None:
                raise
            log.warning("JWT-SVID of %s: %s; the present one is served", entry.spiffe_id, error)
            return cached
        if updates == self._updates:
            self._cache.put(wanted, svid, self._clock.now())
        return svid

    def _read(self, entry: Entry, audience: frozenset[str], token: str) -> JwtSvid:
        try:
            svid = parse_unverified(token, entry.hint)
        except InvalidSvidError as error:
            raise LocalIdentityError(f"issued JWT-SVID is malformed: {error}") from error
        if svid.spiffe_id != entry.spiffe_id or not audience.issubset(svid.audience):
            raise LocalIdentityError(
                f"wanted a JWT-SVID of {entry.spiffe_id} for {', '.join(sorted(audience))}, the CA issued one"
                f" of {svid.spiffe_id} for {', '.join(svid.audience)}"
            )
        if svid.expiry <= self._clock.now():
            raise LocalIdentityError(f"the CA issued a JWT-SVID of {svid.spiffe_id} that has expired")
        return svid
