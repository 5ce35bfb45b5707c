"""A source of JWT-SVIDs over any Workload API: tokens from a cache, and peers' tokens validated on the spot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from weakref import WeakValueDictionary

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import JwtSvid, parse_and_validate
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.jwt_cache import JwtCache
from meshtls.workload.latest import Latest

__all__ = ["JwtSource"]

Wanted = tuple[frozenset[str], SpiffeId | None]
"""The audiences and the identity."""

log = logging.getLogger("meshtls.workload")


class JwtSource:
    """``async with`` waits for the first JWT bundles or raises LocalIdentityError; they then follow the stream.

    The address is SPIFFE_ENDPOINT_SOCKET's unless given (ConfigError where it is none). ``timeout`` is how many seconds
    to wait for the first bundles, None for ever. ``jitter`` gives a number in [-1, 1].
    """

    def __init__(
        self,
        address: Address | str | None = None,
        *,
        clock: Clock | None = None,
        timeout: float | None = 30.0,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._client = WorkloadApiClient(address, clock=self._clock, jitter=jitter)
        self._timeout = timeout
        self._cache: JwtCache[Wanted] = JwtCache(jitter or any_jitter)
        self._asking: WeakValueDictionary[Wanted, asyncio.Lock] = WeakValueDictionary()
        self._latest: Latest[BundleSet] = Latest("JWT bundles")
        self._open = AsyncExitStack()

    async def __aenter__(self) -> JwtSource:
        self._latest.begin()
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._client)
            bundles = self._client.watch_jwt_bundles(self._latest.note_failure)
            await opening.enter_async_context(in_background(self._latest.follow(bundles), "follow JWT bundles"))
            await self._latest.first(self._clock, self._timeout)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._latest.close("this source of JWT-SVIDs")
        await self._open.aclose()

    async def fetch(self, *audience: str, spiffe_id: SpiffeId | None = None) -> JwtSvid:
        """A token of ours for these audiences, of the default identity or of ``spiffe_id``.

        From the cache until half of its life is over; after that the cached one still serves, as long as it is valid,
        where the Workload API does not answer. Raises LocalIdentityError, also once the source is closed, and
        RequestError without an audience.
        """
        wanted = (frozenset(audience), spiffe_id)
        # One question at a time for each kind of token: who comes meanwhile takes the answer from the cache.
        async with self._asking.setdefault(wanted, asyncio.Lock()):
            self._latest.check_open()
            return self._cache.fresh(wanted, self._clock.now()) or await self._renew(wanted, audience)

    def validate(self, token: str, audience: str) -> JwtSvid:
        """Check a peer's token here and now, by the newest bundles. ``audience`` is who we are.

        Raises InvalidSvidError, NoBundleError, UntrustedPeerError or ValidityError; LocalIdentityError unless open.
        """
        return parse_and_validate(token, self._latest.value, audience, self._clock.now())

    async def bundles_changed(self) -> BundleSet:
        """Wait for the next bundles and give them. Raises LocalIdentityError when none can come any more."""
        return await self._latest.after(self._latest.generation)

    def __repr__(self) -> str:
        held = f"{len(self._cache)} tokens, bundles gen {self._latest.generation}"
        return f"<JwtSource {self._client.address} [{held}{self._latest.trouble}]>"

    async def _renew(self, wanted: Wanted, audience: tuple[str, ...]) -> JwtSvid:
        try:
            svid = (await self._client.fetch_jwt_svids(audience, wanted[1]))[0]
        except LocalIdentityError as error:
            self._latest.check_open()
            cached = self._cache.after_failure(wanted, self._clock.now())
            if cached is None:
                raise
            log.warning("JWT-SVID of %s: %s; the present one is served", cached.spiffe_id, error)
            return cached
        if svid.expiry <= self._clock.now():
            raise LocalIdentityError(f"JWT-SVID of {svid.spiffe_id}: the Workload API sent one that has expired")
        self._cache.put(wanted, svid, self._clock.now())
        return svid
