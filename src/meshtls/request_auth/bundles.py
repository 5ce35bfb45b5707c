"""The JWT bundles of the Workload API, asked for from when a rule first needs them: most sidecars never do."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.jwt_source import JwtSource

__all__ = ["JwtBundles"]

log = logger("meshtls.request_auth")

#: Seconds for which a request with a token waits for the first bundles, and between two tries to open their source.
_LONGEST_WAIT, _RETRY = 5.0, 5.0


class JwtBundles:
    """While entered, it follows the bundles from the first ``answered`` on. A call gives the newest ones.

    ``address`` is SPIFFE_ENDPOINT_SOCKET's unless given.
    """

    def __init__(self, address: Address | None = None, *, clock: Clock | None = None) -> None:
        self._address, self._clock = address, clock or SystemClock()
        self._source: JwtSource | None = None
        self._wanted, self._answered = asyncio.Event(), asyncio.Event()
        self._failure = LocalIdentityError("the Workload API was not asked for JWT bundles yet")
        self._open = AsyncExitStack()

    def __call__(self) -> BundleSet:
        """Raises LocalIdentityError where there are none."""
        if self._source is None:
            raise self._failure.with_traceback(None)
        return self._source.bundles

    async def answered(self, seconds: float | None = _LONGEST_WAIT) -> None:
        """Follow them from now on, and return once the first are there, have failed to come, or the time is over."""
        self._wanted.set()
        try:
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        except TimeoutError:
            return

    async def __aenter__(self) -> JwtBundles:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(in_background(self._follow(), "follow JWT bundles"))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def _follow(self) -> None:
        await self._wanted.wait()
        while True:
            try:
                async with JwtSource(self._address, clock=self._clock) as self._source:
                    self._answered.set()
                    await asyncio.Event().wait()
            except LocalIdentityError as error:
                self._source, self._failure = None, error
                self._answered.set()
                log.warning("no JWT-SVID is accepted: %s; next try in %g s", error, _RETRY)
            await self._clock.sleep(_RETRY)

    def __repr__(self) -> str:
        state = "open" if self._source is not None else "wanted" if self._wanted.is_set() else "not wanted"
        return f"<JwtBundles [{state}]>"
