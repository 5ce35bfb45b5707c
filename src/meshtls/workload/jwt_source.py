"""A source of JWT-SVIDs over any Workload API: tokens from a cache, and local validation of peers' tokens.

While the Workload API is unreachable, tokens and bundles are used as long as they are valid. When it withdraws an
identity, that identity's tokens are no longer used; when it answers PERMISSION_DENIED, neither are the bundles (SPIFFE
Workload API, sections 5.2 and 6.2). The JWT profile has no message for the withdrawal of one identity of several, but
every message of FetchX509SVID names all identities: one that was named there and no longer is has been withdrawn,
unless its X509-SVID has expired. That was not renewed, so its tokens are used only if the Workload API can't be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from functools import partial
from types import TracebackType
from weakref import WeakValueDictionary

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.observe.readiness import Readiness
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import JwtSvid, key_id_of_token, parse_and_validate
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.calls import any_jitter
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from meshtls.workload.jwt_cache import JwtCache
from meshtls.workload.latest import Latest

__all__ = ["JwtSource"]

Wanted = tuple[frozenset[str], SpiffeId | None]
"""The audiences and the identity."""

log = logger("meshtls.workload")


class JwtSource:
    """JWT-SVIDs and JWT bundles of the Workload API. ``async with`` waits for the first JWT bundles or raises
    LocalIdentityError; they then follow the stream.

    - The address is SPIFFE_ENDPOINT_SOCKET's unless given (ConfigError if it is invalid).
    - ``timeout``: seconds to wait for the first bundles, None for no limit.
    - ``jitter`` returns a number in [-1, 1].
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
        self._latest: Latest[BundleSet] = Latest("JWT bundles", self._clock)
        self._outage = Outage(log, self._clock)
        #: The identities that have an X509-SVID and its end; and those whose was not renewed.
        self._named: Mapping[str, datetime | None] = {}
        self._not_renewed: frozenset[str] = frozenset()
        #: The number of withdrawals: a token requested before the latest one is not cached.
        self._withdrawals = 0
        self._open = AsyncExitStack()

    async def __aenter__(self) -> JwtSource:
        self._latest.begin()
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._client)
            bundles = self._client.watch_jwt_bundles(self._note_failure, lambda: not self._latest.known)
            followed = self._latest.follow(self._each_taken(bundles))
            await opening.enter_async_context(in_background(followed, "follow JWT bundles"))
            await opening.enter_async_context(in_background(self._follow_identities(), "follow our identities"))
            await self._latest.first(self._timeout)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._latest.close("this source of JWT-SVIDs")
        await self._open.aclose()

    async def fetch(self, *audience: str, spiffe_id: SpiffeId | None = None) -> JwtSvid:
        """Our own token for these audiences, of the default identity or of ``spiffe_id``.

        From the cache until half-life; after that the cached token is still returned, as long as it is valid, if the
        Workload API is unreachable. Raises LocalIdentityError, also once the source is closed or if this process does
        not have the identity (any more), and RequestError for an invalid audience.
        """
        wanted = (frozenset(audience), spiffe_id)
        # One request at a time for each kind of token: waiting callers then take the token from the cache.
        async with self._asking.setdefault(wanted, asyncio.Lock()):
            self._latest.check_open()
            return self._cache.fresh(wanted, self._clock.now()) or await self._renew(wanted, audience)

    def validate(self, token: str, audience: str) -> JwtSvid:
        """Validate a peer's token locally, against the newest bundles. ``audience`` is our own name.

        Raises InvalidSvidError, NoBundleError, UntrustedPeerError or ValidityError; LocalIdentityError unless open, and
        its subclass IdentityWithdrawnError if the bundles were withdrawn.
        """
        return parse_and_validate(token, self._latest.value, audience, self._clock.now())

    @property
    def bundles(self) -> BundleSet:
        """The newest bundles. Raises LocalIdentityError unless open; IdentityWithdrawnError if they were withdrawn."""
        return self._latest.value

    async def bundles_changed(self) -> BundleSet:
        """Wait for the next bundles and return them. Raises LocalIdentityError if there can be no more."""
        return await self._latest.after(self._latest.generation)

    def readiness(self) -> Readiness:
        """Whether peers' tokens can be validated and own ones requested; why not, or what endangers it."""
        try:
            _ = self._latest.value
        except LocalIdentityError as error:
            return Readiness(False, f"JWT bundles: {error}")
        if self._latest.failing_since is None:
            return Readiness(True)
        since = f"{self._latest.failing_since:%Y-%m-%dT%H:%M:%SZ}"
        return Readiness(True, f"JWT bundles are not followed since {since}: {self._latest.last_error}")

    def __repr__(self) -> str:
        held = f"{len(self._cache)} tokens, bundles gen {self._latest.generation}"
        held += f", {len(self._not_renewed)} not renewed" if self._not_renewed else ""
        return f"<JwtSource {self._client.address} [{held}{self._latest.trouble}]>"

    async def _renew(self, wanted: Wanted, audience: tuple[str, ...]) -> JwtSvid:
        withdrawals = self._withdrawals
        try:
            svid = await self._fetched(wanted, audience)
        except LocalIdentityError as error:
            self._latest.check_open()
            return self._cached_despite(wanted, error)
        self._outage.ended("JWT-SVIDs: the Workload API sends them again")
        if withdrawals == self._withdrawals:
            self._cache.put(wanted, svid, self._clock.now())
        return svid

    async def _fetched(self, wanted: Wanted, audience: tuple[str, ...]) -> JwtSvid:
        svid = (await self._client.fetch_jwt_svids(audience, wanted[1]))[0]
        if svid.expiry <= self._clock.now():
            raise LocalIdentityError(f"JWT-SVID of {svid.spiffe_id}: the Workload API sent one that has expired")
        return svid

    def _cached_despite(self, wanted: Wanted, error: LocalIdentityError) -> JwtSvid:
        """The cached token. Raises ``error`` if there is none, or if the Workload API refused."""
        if isinstance(error, WorkloadApiError) and (error.withdraws or not error.temporary):
            self._cache.drop(wanted)
            raise error
        cached = self._cache.after_failure(wanted, self._clock.now())
        if cached is None:
            raise error
        status = error.status if isinstance(error, WorkloadApiError) else None
        self._outage.failed(status, f"JWT-SVID of {cached.spiffe_id}: {error}; the present one is served")
        return cached

    # -- withdrawals --

    async def _each_taken(self, all_bundles: AsyncGenerator[BundleSet]) -> AsyncGenerator[BundleSet]:
        """Drop the tokens of authorities that have left their bundle: every peer refuses those."""
        async with aclosing(all_bundles):
            async for bundles in all_bundles:
                self._withdraw(partial(_has_no_authority, bundles))
                yield bundles

    def _note_failure(self, error: LocalIdentityError) -> None:
        self._latest.note_failure(error)
        if isinstance(error, WorkloadApiError) and error.withdraws:
            self._withdraw(lambda wanted, svid: True)

    async def _follow_identities(self) -> None:
        try:
            async with aclosing(self._client.watch_spiffe_ids(self._note_no_identities)) as sets:
                async for named in sets:
                    self._take_named(named)
        except LocalIdentityError as error:
            log.info(
                "our identities can't be watched; tokens of a withdrawn identity are used until they expire: %s", error
            )

    def _note_no_identities(self, error: LocalIdentityError) -> None:
        if isinstance(error, WorkloadApiError) and error.withdraws:
            gone = self._named.keys() | self._not_renewed
            self._named, self._not_renewed = {}, frozenset()
            if gone:
                self._withdraw(lambda wanted, svid: str(svid.spiffe_id) in gone)

    def _take_named(self, named: Mapping[str, datetime | None]) -> None:
        before, self._named = self._named, named
        now = self._clock.now()
        gone = before.keys() - named.keys()
        expired = {one for one in gone if (end := before[one]) is not None and now > end}
        self._not_renewed = (self._not_renewed | expired) - named.keys()
        if expired:
            self._cache.renew(lambda wanted, svid: str(svid.spiffe_id) in expired, now)
        if withdrawn := gone - expired:
            self._withdraw(lambda wanted, svid: str(svid.spiffe_id) in withdrawn)

    def _withdraw(self, gone: Callable[[Wanted, JwtSvid], bool]) -> None:
        self._withdrawals += 1
        self._cache.forget(gone)


def _has_no_authority(bundles: BundleSet, _wanted: Wanted, svid: JwtSvid) -> bool:
    """Whether the bundle of the token's trust domain is there, and lacks the key that it names."""
    bundle, key_id = bundles.get(svid.spiffe_id.trust_domain), key_id_of_token(svid.token)
    return bundle is not None and key_id is not None and key_id not in bundle.jwt_authorities
