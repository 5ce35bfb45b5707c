"""What is asked beside the policies: the key sets of tokens, and the providers of CUSTOM policies.

Each of the two is replaced where its own configuration changes, and closed when the newer one is open and no request
waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.ext_authz.answer import ExtAuthzAnswer
from meshtls.ext_authz.client import ExtAuthz
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.istio.scope import jwt_rules_of
from meshtls.policy.request import Request
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.request_auth.settings import KeySetSettings
from meshtls.sidecar.settings import SidecarConfig
from meshtls.spiffeid import SpiffeId

__all__ = ["Services", "ServicesInUse", "check_services"]

Bundles = Callable[[], BundleSet]


class ServicesInUse(NamedTuple):
    """The services that policies ask. ``authenticator`` is None where no RequestAuthentication applies."""

    authenticator: RequestAuthenticator | None
    ext_authz: ExtAuthz


class _TokenConfig(NamedTuple):
    """What an authenticator is made from."""

    rules: tuple[JwtRule, ...]
    own_id: SpiffeId | None
    settings: KeySetSettings | None


class Services:
    """The services that policies ask, and their replacement. ``use`` takes what ``prepare`` made. ``bundles`` are the
    JWT bundles of the Workload API, where there is one.
    """

    def __init__(self, clock: Clock, bundles: Bundles | None = None) -> None:
        self._clock = clock
        self._bundles = bundles
        self.now = ServicesInUse(None, ExtAuthz(()))
        #: What was last given to ``use``, which is opened at once, and what it was made from.
        self._newest = self.now
        self._made_from: tuple[_TokenConfig, object] = (_TokenConfig((), None, None), ())
        self._no_tokens_more: asyncio.Event | None = None
        self._no_checks_more: asyncio.Event | None = None

    def prepare(self, config: SidecarConfig) -> ServicesInUse | None:
        """The services for this configuration; None if those in use are for it, too. Raises ConfigError."""
        tokens, providers = _token_config(config), config.ext_authz
        if (tokens, providers) == self._made_from:
            return None
        authenticator, ext_authz = self._newest
        if tokens != self._made_from[0]:
            authenticator = self._authenticator(tokens, config) if tokens.rules else None
        if providers != self._made_from[1]:
            ext_authz = ExtAuthz(providers)
        return ServicesInUse(authenticator, ext_authz)

    def use(self, prepared: ServicesInUse | None, config: SidecarConfig, tasks: asyncio.TaskGroup) -> None:
        """Use these from now on. Until its providers can be dialled, the older ones answer."""
        if prepared is None:
            return
        older, self._newest = self._newest, prepared
        self._made_from = (_token_config(config), config.ext_authz)
        if prepared.authenticator is not older.authenticator:
            # A request may wait for its keys at once: they are fetched as soon as the task below runs.
            self.now = self.now._replace(authenticator=prepared.authenticator)
            end, self._no_tokens_more = self._no_tokens_more, None
            if prepared.authenticator is not None:
                self._no_tokens_more = asyncio.Event()
                tasks.create_task(self._keep(prepared.authenticator, self._no_tokens_more, end))
            elif end is not None:
                end.set()
        if prepared.ext_authz is not older.ext_authz:
            end, self._no_checks_more = self._no_checks_more, asyncio.Event()
            tasks.create_task(self._keep(prepared.ext_authz, self._no_checks_more, end))

    async def check(self, request: Request, provider: str) -> ExtAuthzAnswer:
        """As ``ExtAuthz.check``, by the providers in use now."""
        return await self.now.ext_authz.check(request, provider)

    def close(self) -> None:
        """End those in use."""
        for end in (self._no_tokens_more, self._no_checks_more):
            if end is not None:
                end.set()

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong with them now, in words."""
        authenticator, ext_authz = self.now
        return (*(authenticator.complaints if authenticator is not None else ()), *ext_authz.complaints)

    async def _keep(
        self, service: AbstractAsyncContextManager[Any], closed: asyncio.Event, older: asyncio.Event | None
    ) -> None:
        """Keep it open until ``closed``; once it is open, end the ``older`` one."""
        async with service:
            if isinstance(service, ExtAuthz) and not closed.is_set():
                self.now = self.now._replace(ext_authz=service)
            if older is not None:
                older.set()
            await closed.wait()

    def _authenticator(self, tokens: _TokenConfig, config: SidecarConfig) -> RequestAuthenticator:
        return RequestAuthenticator(
            tokens.rules,
            config.spiffe_id,
            settings=config.request_auth,
            bundles=self._bundles,
            clock=self._clock,
            older=self._newest.authenticator,
        )

    def __repr__(self) -> str:
        return f"<Services {self.now.authenticator!r} {self.now.ext_authz!r}>"


def check_services(config: SidecarConfig) -> None:
    """Raises ConfigError where a sidecar could not use this configuration's key sets or providers."""
    Services(SystemClock()).prepare(config)


def _token_config(config: SidecarConfig) -> _TokenConfig:
    given = config.policies
    rules = jwt_rules_of(given.documents, given.workload, given.mesh) if given is not None else ()
    return _TokenConfig(rules, config.spiffe_id, config.request_auth) if rules else _TokenConfig((), None, None)
