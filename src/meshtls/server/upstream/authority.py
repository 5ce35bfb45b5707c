"""The interface of what signs this server's CA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from meshtls.bundle import JwtAuthority
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey

__all__ = ["UpstreamAuthority"]


class UpstreamAuthority(Protocol):
    """Each method raises a MeshtlsError where the authority can't be reached, refuses, or can't be used."""

    @property
    def name(self) -> str:
        """Its name for messages."""

    async def sign_ca(self, csr: bytes, ttl: timedelta) -> UpstreamCa:
        """A CA for the key of this request, in DER, that lives at most ``ttl``."""

    async def bundle(self) -> UpstreamBundle:
        """The authorities above this server."""

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        """Publish a key that signs JWT-SVIDs, where ``bundle`` has such keys; returns all of them."""

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this when ``bundle`` may have changed, where the authority tells of that."""
