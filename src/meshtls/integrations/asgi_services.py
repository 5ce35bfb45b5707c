"""The key sets of tokens and the providers of CUSTOM policies, kept open for one ASGI app while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple

from meshtls.bundle import BundleSet
from meshtls.policy.istio.model import JwtRule
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.request_auth.settings import KeySetSettings
from meshtls.spiffeid import SpiffeId

if TYPE_CHECKING:
    from meshtls.ext_authz.client import ExtAuthz
    from meshtls.ext_authz.settings import ExtAuthzProvider

__all__ = ["Services", "ServicesInUse"]


class ServicesInUse(NamedTuple):
    authenticator: RequestAuthenticator
    ext_authz: ExtAuthz


class Services:
    """Opened by the first request that needs them, in a task of their own; opened anew where the rules change."""

    def __init__(
        self, providers: Iterable[ExtAuthzProvider], settings: KeySetSettings, bundles: Callable[[], BundleSet] | None
    ) -> None:
        self._providers, self._settings, self._bundles = tuple(providers), settings, bundles
        self._key: tuple[tuple[JwtRule, ...], SpiffeId] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()
        self._made: ServicesInUse | None = None
        self._opened: asyncio.Future[ServicesInUse] | None = None

    async def for_rules(self, rules: tuple[JwtRule, ...], own_id: SpiffeId) -> ServicesInUse:
        """Raises ConfigError for rules or providers that can't be used."""
        if self._opened is None or self._key != (rules, own_id):
            from meshtls.ext_authz.client import ExtAuthz  # it needs gRPC

            older = self._made.authenticator if self._made is not None else None
            authenticator = RequestAuthenticator(
                rules, own_id, settings=self._settings, bundles=self._bundles, older=older
            )
            self._made = made = ServicesInUse(authenticator, ExtAuthz(self._providers))
            self._closed.set()
            self._key, self._closed = (rules, own_id), asyncio.Event()
            self._opened = asyncio.get_running_loop().create_future()
            self._keeper = asyncio.create_task(_keep(made, self._opened, self._closed), name="keys and providers")
        return await asyncio.shield(self._opened)

    async def close(self) -> None:
        self._closed.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper])


async def _keep(made: ServicesInUse, opened: asyncio.Future[ServicesInUse], closed: asyncio.Event) -> None:
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(made.authenticator)
            await stack.enter_async_context(made.ext_authz)
            opened.set_result(made)
            await closed.wait()
    finally:
        opened.cancel()  # where it never opened
