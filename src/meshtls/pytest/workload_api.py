"""A real Workload API for one identity, in a thread of its own, so that plain tests can use it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.errors import RequestError
from meshtls.registration import Entry, Selector, agent_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import PrivateKey

__all__ = ["MeshWorkloadApi"]

_ENTRY = "mesh"
_TTL = 3600


class MeshWorkloadApi:
    """A running Workload API. ``address`` is the value for SPIFFE_ENDPOINT_SOCKET, and ``environment`` sets it.

    ``Mesh.workload_api`` starts it in a thread with its own event loop. As a context manager it ends with the block,
    otherwise with the test. Call its methods from other threads; they return when their effect is visible.
    """

    def __init__(
        self, authority: Authority, jwt_key: PrivateKey, spiffe_id: SpiffeId, path: Path, dns_names: tuple[str, ...]
    ) -> None:
        self.spiffe_id = spiffe_id
        self.address = f"unix://{path}"
        self._entry = Entry(
            id=_ENTRY,
            spiffe_id=spiffe_id,
            parent_id=agent_id(spiffe_id.trust_domain, "join_token", "pytest"),
            selectors=(Selector("unix", f"uid:{os.getuid()}"),),
            x509_svid_ttl=_TTL,
            dns_names=dns_names,
        )
        self._authority, self._jwt_key, self._path = authority, jwt_key, path
        #: Ends the server. Set by its starter; a second call has no effect.
        self.stop: Callable[[], object] = lambda: None
        self._open = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop
        self._upstream: EmbeddedUpstream
        self._agent: Agent

    @property
    def environment(self) -> dict[str, str]:
        return {"SPIFFE_ENDPOINT_SOCKET": self.address}

    @property
    def serial(self) -> str:
        """The serial number of the served certificate, in hexadecimal. Raises RequestError after ``revoke``."""
        svid = self._agent.identities.cache.svid_of(_ENTRY)
        if svid is None:
            raise RequestError(f"{self.spiffe_id}: there is no certificate: the identity was revoked")
        return svid.serial

    def rotate(self) -> None:
        """Serve a new SVID, and push it to all watchers. Raises RequestError after ``revoke``."""
        before = self.serial
        # With another TTL the entry has changed, so the agent requests a new SVID immediately.
        self._entry = replace(self._entry, x509_svid_ttl=self._entry.x509_svid_ttl - 1)
        self._wait_for(lambda: self._upstream.put_entry(self._entry), lambda: self.serial != before)

    def revoke(self) -> None:
        """Withdraw the identity: callers and watchers get PermissionDenied, and sources withdraw it."""
        cache = self._agent.identities.cache
        self._wait_for(lambda: self._upstream.remove_entry(_ENTRY), lambda: cache.entries.get(_ENTRY) is None)

    def restore(self) -> None:
        """Restore the identity after ``revoke``, with a new SVID."""
        cache = self._agent.identities.cache
        self._wait_for(lambda: self._upstream.put_entry(self._entry), lambda: cache.svid_of(_ENTRY) is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        clock = SystemClock()
        self._upstream = EmbeddedUpstream(self._authority, clock, [self._entry], jwt_key=self._jwt_key)
        self._agent = await self._open.enter_async_context(Agent(Endpoint(self._path), self._upstream, clock))
        await self._agent.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()

    def __repr__(self) -> str:
        return f"<MeshWorkloadApi {self.spiffe_id} at {self.address}>"

    def _wait_for(self, change: Callable[[], object], effect: Callable[[], bool]) -> None:
        async def change_and_wait() -> None:
            with self._agent.identities.watching() as watcher:
                watcher.follow(frozenset(self._entry.selectors))
                change()
                while not effect():
                    await watcher.news.wait()
                    watcher.news.clear()

        asyncio.run_coroutine_threadsafe(change_and_wait(), self._loop).result()
