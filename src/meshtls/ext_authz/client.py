"""Asks the providers of external authorization: what a sidecar and an ASGI middleware call for a CUSTOM policy.

::

    async with ExtAuthz(providers) as ext_authz:
        answer = await ext_authz.check(request, policy.provider)
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType

from grpclib.client import Channel

from meshtls.complaints import Complaints
from meshtls.errors import ConfigError
from meshtls.ext_authz.answer import ExtAuthzAnswer, ProviderError, UnaskableError
from meshtls.ext_authz.grpc_check import check_by_grpc
from meshtls.ext_authz.http_check import MAX_BODY, check_by_http
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind, exposure
from meshtls.http_client import HttpClient
from meshtls.logs import logger
from meshtls.policy.decision import DENIED_TEXT, provider_missing
from meshtls.policy.request import Request
from meshtls.scalars import shown
from meshtls.workload.under_way import UnderWay

__all__ = ["ExtAuthz"]

log = logger("meshtls.ext_authz")

#: Checks of one provider that may wait for a free slot.
_MAX_WAITING = 1024
_FORBIDDEN = 403

_NO_REQUEST = (
    "it is asked by HTTP, which can't describe a connection without an HTTP request; use kind: grpc, or protocol: http"
    " for the port"
)

Ask = Callable[[Request], Awaitable[ExtAuthzAnswer]]


class ExtAuthz:
    """Asks the providers of CUSTOM policies. ``async with`` keeps the connections to the providers; each is dialled at
    its first check.

    Its end waits for the checks under way, each of which has its timeout; a later one is denied.

    Raises ConfigError for two providers of one name, for one on another host that is asked in plaintext without its
    loud permission, and for a ``ca_file`` that can't be read.
    """

    def __init__(self, providers: Iterable[ExtAuthzProvider]) -> None:
        self._providers: dict[str, _Provider] = {}
        self._complaints = Complaints(log)
        self._checks = UnderWay()
        self._open = AsyncExitStack()
        for one in providers:
            if one.name in self._providers:
                raise ConfigError(f"ext_authz provider {shown(one.name)}: wanted a name that no other provider has")
            self._providers[one.name] = _Provider(one)

    async def __aenter__(self) -> ExtAuthz:
        async with AsyncExitStack() as opening:
            for one in self._providers.values():
                one.ask = await _asking(one, opening)
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._checks.over()
        finally:
            for one in self._providers.values():
                one.ask = None
            await self._open.aclose()

    async def check(self, request: Request, provider: str) -> ExtAuthzAnswer:
        """The provider's decision on an HTTP request, or on a connection (``request.http`` is None).

        Takes at most the provider's ``timeout``. Without a decision the answer denies, unless the provider's
        ``fail_open_allow_unauthorized_requests`` allows.
        """
        asked = self._providers.get(provider)
        if asked is None:
            return _denial(provider_missing(provider, self._providers), body=DENIED_TEXT)
        try:
            with self._checks:
                answer = await asked.check(request)
        except UnaskableError as error:
            return _denial(f"ext_authz provider {provider!r} can't be asked: {error}")
        except ProviderError as error:
            asked.failure = f"ext_authz provider {provider!r} can't be asked: {error}"
            answer = asked.answer_of_failure(asked.failure)
        else:
            asked.failure = None
        self._complaints.update(self.complaints)
        return answer

    @property
    def complaints(self) -> tuple[str, ...]:
        """The providers whose last check failed, in words, for the details of ``/ready``; the log has it, too."""
        return tuple(one.failure for one in self._providers.values() if one.failure)

    def __repr__(self) -> str:
        return f"<ExtAuthz {', '.join(self._providers) or 'no providers'}>"


class _Provider:
    """One provider, with the checks under way."""

    def __init__(self, settings: ExtAuthzProvider) -> None:
        exposed = exposure(settings.address, settings.ca_file, settings.insecure_plaintext_to_another_host)
        if exposed:
            raise ConfigError(f"ext_authz provider {shown(settings.name)}: {exposed}")
        self.settings = settings
        self.tls = _tls(settings)
        self.failure: str | None = None
        self.ask: Ask | None = None
        self._slots = asyncio.Semaphore(settings.concurrent_checks)
        self._waiting = 0

    async def check(self, request: Request) -> ExtAuthzAnswer:
        """Raises ProviderError or UnaskableError."""
        if self.ask is None:
            raise UnaskableError("its client is not open")
        if self._slots.locked() and self._waiting >= _MAX_WAITING:
            raise UnaskableError(f"{_MAX_WAITING} checks wait for it")
        # Clients can fill the queue, so a wait in it must not open what stands open only to a provider that fails.
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise UnaskableError(f"no check was free within {self.settings.timeout:g} s") from error
        finally:
            self._waiting -= 1
        try:
            async with asyncio.timeout(self.settings.timeout):
                return await self.ask(request)
        except TimeoutError as error:
            raise ProviderError(f"{self.settings.address} gave no answer within {self.settings.timeout:g} s") from error
        finally:
            self._slots.release()

    def answer_of_failure(self, failure: str) -> ExtAuthzAnswer:
        if self.settings.fail_open_allow_unauthorized_requests:
            return ExtAuthzAnswer(
                allowed=True,
                reason=f"{failure}; allowed unauthorized, by fail_open_allow_unauthorized_requests",
                failed=True,
            )
        return _denial(failure, self.settings.status_on_error)


async def _asking(provider: _Provider, opening: AsyncExitStack) -> Ask:
    settings, tls = provider.settings, provider.tls
    if settings.kind is ProviderKind.GRPC:
        channel = Channel(settings.address.host, settings.address.port, ssl=tls)
        opening.callback(channel.close)
        return lambda request: check_by_grpc(settings, channel, request)
    client = await opening.enter_async_context(
        HttpClient(settings.address, tls=tls, connections=settings.concurrent_checks, largest=MAX_BODY)
    )

    async def ask(request: Request) -> ExtAuthzAnswer:
        if request.http is None:
            raise UnaskableError(_NO_REQUEST)
        return await check_by_http(settings, client, request.http)

    return ask


def _tls(settings: ExtAuthzProvider) -> ssl.SSLContext | None:
    if settings.ca_file is None:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise ConfigError(
            f"ext_authz provider {shown(settings.name)}: ca_file {settings.ca_file}: wanted certificates in PEM:"
            f" {error}"
        ) from error
    context.set_alpn_protocols(["h2"] if settings.kind is ProviderKind.GRPC else ["http/1.1"])
    return context


def _denial(
    reason: str, status: int = _FORBIDDEN, body: str = "external authorization is not available\n"
) -> ExtAuthzAnswer:
    """The client is not told the details."""
    return ExtAuthzAnswer(allowed=False, reason=reason, status=status, body=body, failed=True)
