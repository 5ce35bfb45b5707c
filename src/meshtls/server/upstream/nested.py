"""An upstream authority that is a server, meshtls or SPIRE, over the mutual TLS of this server's own identity there.

That identity is an X509-SVID of an entry marked downstream; an agent of the upstream server gives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError

from meshtls.bundle import JwtAuthority
from meshtls.clock import Clock
from meshtls.errors import ConfigError, LocalIdentityError, MeshtlsError
from meshtls.registration import server_id, spire_server_id
from meshtls.server.settings import NestedUpstream
from meshtls.serverapi.channels import mutual_channel
from meshtls.serverapi.downstream import DownstreamClient
from meshtls.serverapi.tls_channel import TlsChannel
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.x509 import X509Svid
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source

__all__ = ["NestedAuthority", "opened_nested"]

T = TypeVar("T")

_RETRY_SECONDS = 1.0


class NestedAuthority:
    """Implements UpstreamAuthority. Raises LocalIdentityError as long as there is no SVID or no server."""

    def __init__(self, upstream: NestedUpstream, trust_domain: TrustDomain, own_id: str, clock: Clock) -> None:
        self._upstream = upstream
        self._trust_domain = trust_domain
        self._own_id = own_id
        self._clock = clock
        self._source: X509Source | None = None
        self._no_svid = LocalIdentityError("no answer yet")
        self._calling = asyncio.Lock()
        self._channel: TlsChannel | None = None
        self._svid: X509Svid | None = None
        self._changed: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        return f"{self._upstream.host}:{self._upstream.port}"

    async def sign_ca(self, csr: bytes, ttl: timedelta) -> UpstreamCa:
        return await self._call(lambda client: client.new_ca(csr, int(ttl.total_seconds()), self._own_id))

    async def bundle(self) -> UpstreamBundle:
        """The bundle, with the CRLs that the upstream server sends its agents, from the Workload API."""
        return replace(await self._call(lambda client: client.bundle()), crls=self._crls())

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        return await self._call(lambda client: client.publish(kid, key, ends_at))

    async def keep_svid(self) -> None:
        """Have an SVID from the Workload API, forever: while there is none, calls fail."""
        while True:
            try:
                async with X509Source(self._upstream.workload_api, clock=self._clock) as source:
                    self._source = source
                    generation = 0
                    while True:
                        generation = (await source.changed(generation)).generation
                        self._changed()
            except LocalIdentityError as error:
                self._no_svid = error
            finally:
                self._source = None
            await self._clock.sleep(_RETRY_SECONDS)

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    async def aclose(self) -> None:
        """Close the connection, and wait for that: the event loop may end afterwards."""
        if self._channel is not None:
            await self._channel.aclose()
        self._channel = None

    async def _call(self, call: Callable[[DownstreamClient], Awaitable[T]]) -> T:
        async with self._calling:
            try:
                return await call(DownstreamClient(self._connected()))
            except MeshtlsError as error:
                self.close()  # whatever failed, perhaps the connection
                if isinstance(error.__cause__, ConnectionError | StreamTerminatedError) and self._svid is not None:
                    raise LocalIdentityError(f"{error}; {self._advice(self._svid.spiffe_id)}") from error
                raise

    def _advice(self, own: SpiffeId) -> str:
        """A refusal at the end of a TLS 1.3 handshake looks like a broken connection; the log there has the reason."""
        command = "spire-server" if self._upstream.is_spire else "meshtls"
        return (
            f"is the server there running, and is the entry of {own} there marked downstream? If not, mark it:"
            f" `{command} entry update ... --downstream`"
        )

    def _crls(self) -> tuple[bytes, ...] | None:
        if self._source is None:
            return None
        try:
            lists = self._source.snapshot().revocations.lists
        except LocalIdentityError:
            return None
        return () if lists is None else lists.to_der()

    def _connected(self) -> Channel:
        """A channel with the present SVID: the server refuses calls over one whose certificate has expired."""
        if self._source is None:
            raise LocalIdentityError(
                f"upstream authority {self.name}: no SVID from the Workload API {self._upstream.workload_api}:"
                f" {self._no_svid}; it has to come from an entry marked downstream"
            )
        svid = self._source.snapshot().svid
        if not svid.spiffe_id.member_of(self._trust_domain):
            raise ConfigError(
                f"upstream authority {self.name}: our SVID there is {svid.spiffe_id};"
                f" wanted one of trust domain {self._trust_domain}"
            )
        if self._channel is None or svid != self._svid:
            self.close()
            wanted = spire_server_id if self._upstream.is_spire else server_id
            self._channel = mutual_channel(
                self._upstream.host,
                self._upstream.port,
                self._source,
                self._trust_domain,
                self._clock,
                server=wanted(self._trust_domain),
            )
            self._svid = svid
        return self._channel


@asynccontextmanager
async def opened_nested(
    upstream: NestedUpstream, trust_domain: TrustDomain, own_id: str, clock: Clock
) -> AsyncIterator[NestedAuthority]:
    """Enters at once, before there is an SVID. ``own_id`` is the ID of this server in its store."""
    authority = NestedAuthority(upstream, trust_domain, own_id, clock)
    async with in_background(authority.keep_svid(), "have an SVID of the upstream authority"):
        try:
            yield authority
        finally:
            await authority.aclose()
