"""The bundle endpoint: our own bundle over HTTPS, for everybody (SPIFFE Federation, sections 4 and 5).

Clients are anonymous and present no certificate. A bundle is public, so a client need not be trusted.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from meshtls.bundle import TrustBundle
from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.reloading import FileWatch, reload_on_change
from meshtls.rpc.small_http import Answer, Request, serve_http
from meshtls.server.core import Core
from meshtls.server.own_svid import ServerIdentity
from meshtls.tls.bootstrap import AnonymousClientsServerContext
from meshtls.workload.background import in_background

__all__ = ["PublishedBundle", "serving_bundle"]

_NAME = "bundle endpoint"
_TYPE = "application/json"

log = logger("meshtls.server")


@asynccontextmanager
async def serving_bundle(core: Core, identity: ServerIdentity) -> AsyncIterator[int | None]:
    """Serve our bundle while the body runs, if configured. Yields the port. Raises ConfigError."""
    endpoint = core.config.bundle_endpoint
    if endpoint is None:
        yield None
        return
    published = PublishedBundle(lambda: core.hub.bundle, endpoint.refresh_hint)
    listen = endpoint.listen
    async with AsyncExitStack() as opened:
        if endpoint.certificate and endpoint.key:
            files = _CertificateFiles(endpoint.certificate, endpoint.key, core.clock)
            await opened.enter_async_context(in_background(files.follow(), "follow the bundle endpoint's files"))
            tls, profile = files.context, "https_web"
        else:
            own = AnonymousClientsServerContext.over(identity, ("http/1.1",))
            tls, profile = lambda: own, "https_spiffe"
        serving = serve_http(_NAME, listen.host, listen.port, published.answer, tls=tls)
        port = await opened.enter_async_context(serving)
        log.info("our bundle is served on https://%s:%d (%s)", listen.host, port, profile)
        yield port


class PublishedBundle:
    """Answers requests with the present bundle, whose refresh hint becomes ``refresh_hint``, in seconds. The document
    and its ETag are made once for each bundle.
    """

    def __init__(self, bundle: Callable[[], TrustBundle], refresh_hint: int) -> None:
        self._bundle, self._refresh_hint = bundle, refresh_hint
        self._made: tuple[TrustBundle, bytes, str] | None = None

    async def answer(self, request: Request) -> Answer:
        if request.path.partition("?")[0] != "/":
            return Answer(404, b"wanted /\n")
        if request.method not in ("GET", "HEAD"):
            return Answer(405, b"wanted GET\n", fields=(("Allow", "GET, HEAD"),))
        document, etag = self._newest()
        fields = (("ETag", etag),)
        known = [one.strip().removeprefix("W/") for one in request.fields.get("if-none-match", "").split(",")]
        if etag in known or "*" in known:
            return Answer(304, b"", _TYPE, fields=fields)
        return Answer(200, document, _TYPE, fields=fields)

    def _newest(self) -> tuple[bytes, str]:
        bundle = self._bundle()
        if self._made is None or self._made[0] is not bundle:
            document = replace(bundle, refresh_hint=self._refresh_hint).to_jwks().encode()
            self._made = bundle, document, f'"{hashlib.sha256(document).hexdigest()[:32]}"'
        return self._made[1:]


class _CertificateFiles:
    """The context of a certificate in files, made anew when one of these changes. Raises ConfigError."""

    def __init__(self, certificate: Path, key: Path, clock: Clock) -> None:
        self._certificate, self._key, self._clock = certificate, key, clock
        self._watch = FileWatch((certificate, key), clock)
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        return self._context

    async def follow(self) -> None:
        """Replace the context with each change of the files, forever; one that can't be used is not taken."""
        await reload_on_change(self._watch, self._reload, asyncio.Event(), self._clock)

    async def _reload(self) -> None:
        self._context = self._load()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        context.set_alpn_protocols(["http/1.1"])
        try:
            # An encrypted key would otherwise have OpenSSL ask for its passphrase on the terminal.
            context.load_cert_chain(self._certificate, self._key, password=lambda: b"")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else str(error)
            raise ConfigError(
                f"{self._certificate}, {self._key}: wanted a certificate and its key in PEM for the {_NAME}: {why}"
            ) from error
        return context
