"""Who makes an HTTP request, by its tokens: what a sidecar and an ASGI middleware call.

::

    async with RequestAuthenticator(policies.jwt_rules, own_id, bundles=lambda: jwt_source.bundles) as authenticator:
        answer = authenticator.authenticate_now(request) or await authenticator.authenticate(request)

An ``Authenticated`` has the request that the policy judges and the app gets; a ``Refuse`` is the answer to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.complaints import Complaints
from meshtls.errors import ConfigError, RequestError
from meshtls.logs import logger
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.authenticate import Authenticated, NeedsKeys, NoKeys, TokenAuthenticator
from meshtls.policy.jwt.key_set import read_key_set
from meshtls.policy.jwt.svids import svid_domain
from meshtls.request_auth.fetch import Fetcher
from meshtls.request_auth.settings import KeySetSettings
from meshtls.request_auth.sources import BundleKeys, FetchedKeys, FileKeys, FixedKeys, KeySource
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import HttpRequest, Refuse
from meshtls.workload.background import in_background
from meshtls.workload.under_way import UnderWay

__all__ = ["RequestAuthenticator", "check_key_sets", "is_fetched", "local_source"]

log = logger("meshtls.request_auth")


class RequestAuthenticator:
    """Verifies the tokens of requests by JWT rules. ``async with`` fetches key sets in the background; it does not wait
    for them. Its end waits for the requests that wait for a fetch.

    - ``rules``: the workload's, in order. With none every request is let through as it is.
    - ``own_id``: the audience of JWT-SVIDs under a rule without ``audiences``.
    - ``bundles``: the JWT bundles of the Workload API, for rules whose issuer is a trust domain.
    - ``older``: what this one replaces. The key sets that both fetch by the same settings are usable at once.

    Raises ConfigError with the problems of all rules: a key set that is none, an address that may not be fetched from.
    """

    def __init__(
        self,
        rules: Sequence[JwtRule],
        own_id: SpiffeId,
        *,
        settings: KeySetSettings = KeySetSettings(),  # noqa: B008  # a frozen value
        bundles: Callable[[], BundleSet] | None = None,
        clock: Clock | None = None,
        older: RequestAuthenticator | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._authenticator = TokenAuthenticator(rules, own_id)
        self._settings = settings
        self._sources = _sources(rules, settings, bundles, self._clock)
        if older is not None and older._settings == settings:
            _keep_fetched(older._sources, self._sources)
        self._complaints = Complaints(log)
        self._waiting = UnderWay()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> RequestAuthenticator:
        async with AsyncExitStack() as opening:
            for one in dict.fromkeys(self._sources):
                await opening.enter_async_context(in_background(one.follow(self._tell), "follow a key set"))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._waiting.over()
        finally:
            await self._open.aclose()

    def authenticate_now(self, request: HttpRequest) -> Authenticated | Refuse | None:
        """The answer, unless a key set has to be waited for: then None, and ``authenticate`` waits."""
        answer = self._answer(request)
        return None if isinstance(answer, NeedsKeys) else answer

    async def authenticate(self, request: HttpRequest) -> Authenticated | Refuse:
        """The answer, after at most the rule's ``timeout`` for the fetch of a key set that may have the token's key."""
        answer = self._answer(request)
        if isinstance(answer, NeedsKeys):
            with self._waiting:
                await asyncio.gather(*(self._sources[rule].newer() for rule in answer.rules))
            answer = self._answer(request)
        return answer.refusal if isinstance(answer, NeedsKeys) else answer

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong with the key sets now, for the details of ``/ready``; the log has it, too."""
        return tuple(one.complaint for one in dict.fromkeys(self._sources) if one.complaint)

    def _answer(self, request: HttpRequest) -> Authenticated | NeedsKeys | Refuse:
        return self._authenticator.authenticate(request, [one.keys for one in self._sources], self._clock.now())

    def _tell(self) -> None:
        self._complaints.update(self.complaints)

    def __repr__(self) -> str:
        return f"<RequestAuthenticator [{len(self._sources)} rules, {len(self.complaints)} complaints]>"


def check_key_sets(rules: Sequence[JwtRule], settings: KeySetSettings) -> None:
    """Raises ConfigError for rules whose key sets can't be used. None is fetched."""
    _sources(rules, settings, None, SystemClock())


def _sources(
    rules: Sequence[JwtRule], settings: KeySetSettings, bundles: Callable[[], BundleSet] | None, clock: Clock
) -> tuple[KeySource, ...]:
    fetcher = Fetcher(settings) if any(map(is_fetched, rules)) else None
    fetched: dict[str, FetchedKeys] = {}
    sources: list[KeySource] = []
    problems: list[str] = []
    for rule in rules:
        try:
            if fetcher and rule.jwks_uri and is_fetched(rule):
                timeout = rule.timeout.total_seconds()
                shared = fetched.get(rule.jwks_uri) or FetchedKeys(rule.jwks_uri, timeout, fetcher, clock)
                fetched[rule.jwks_uri] = shared
                sources.append(shared)
            else:
                sources.append(local_source(rule, bundles, clock))
        except (RequestError, ConfigError) as error:
            lines = error.problems if isinstance(error, ConfigError) else (str(error),)
            problems += (f"RequestAuthentication, issuer {shown(rule.issuer)}: {line}" for line in lines)
    if problems:
        raise ConfigError(*problems)
    return tuple(sources)


def _keep_fetched(older: Iterable[KeySource], newer: Iterable[KeySource]) -> None:
    known = {one.uri: one for one in older if isinstance(one, FetchedKeys)}
    for one in newer:
        if isinstance(one, FetchedKeys) and one.uri in known:
            one.keep(known[one.uri])


def is_fetched(rule: JwtRule) -> bool:
    """Whether the rule's keys come from a server."""
    return bool(rule.jwks_uri) and svid_domain(rule) is None


def local_source(rule: JwtRule, bundles: Callable[[], BundleSet] | None, clock: Clock) -> KeySource:
    """The keys of a rule that fetches none. Raises RequestError or ConfigError."""
    if rule.jwks:
        return FixedKeys(read_key_set(rule.jwks))
    if rule.jwks_file:
        return FileKeys(Path(rule.jwks_file), clock)
    if svid_domain(rule) is None:
        raise RequestError("wanted one of jwks, jwksUri and jwksFile, or spiffe:// and a trust domain as the issuer")
    if bundles is None:
        return FixedKeys(NoKeys("no Workload API is used here, whose JWT bundles would have the keys"))
    return BundleKeys(bundles)
