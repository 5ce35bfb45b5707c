"""An agent with a CA of its own on a temporary socket, and entries for the process that runs the test.

async with agent_at(path, entry("/web")) as mesh:
    async with WorkloadApiClient(mesh.agent.address) as client: ...
    mesh.upstream.put_entry(entry("/db"))   # pushed at once
    mesh.clock.advance(1800)                # half of an SVID's life: it is renewed
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.bundle import TrustBundle
from meshtls.ca.authority import Authority
from meshtls.registration import Entry, Selector, agent_id
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.waiting import SECONDS

__all__ = ["OURS", "SELF", "Mesh", "agent_at", "entry", "eventually", "http_get", "selectors", "short_directory"]

OURS = TrustDomain("example.org")
SELF = f"unix:uid:{os.getuid()}"
_PARENT = agent_id(OURS, "join_token", "test")


@dataclass(frozen=True, slots=True)
class Mesh:
    agent: Agent
    upstream: EmbeddedUpstream
    authority: Authority
    clock: ManualClock


def entry(
    path: str,
    *wanted: str,
    entry_id: str = "",
    hint: str = "",
    ttl: int = 0,
    jwt_ttl: int = 0,
    federates_with: Iterable[str] = (),
    dns_names: tuple[str, ...] = (),
    expires_at: datetime | None = None,
) -> Entry:
    """An entry for ``spiffe://example.org<path>``, by default with the selector of the user that runs the test."""
    return Entry(
        id=entry_id or path,
        spiffe_id=SpiffeId(OURS, path),
        parent_id=_PARENT,
        selectors=tuple(map(Selector.parse, wanted or (SELF,))),
        x509_svid_ttl=ttl,
        jwt_svid_ttl=jwt_ttl,
        federates_with=tuple(map(TrustDomain, federates_with)),
        dns_names=dns_names,
        hint=hint,
        expires_at=expires_at,
    )


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, texts))


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]], clock: ManualClock | None = None, seconds: float = SECONDS
) -> None:
    """Poll until this holds, for conditions without an event. ``clock`` is advanced a second each time."""
    async with asyncio.timeout(seconds):
        while not await _truth(holds()):
            if clock is not None:
                clock.advance(1)
            await asyncio.sleep(0.01)


async def _truth(said: bool | Awaitable[bool]) -> bool:
    return said if isinstance(said, bool) else await said


async def http_get(port: int | None, path: str) -> tuple[str, str]:
    """The status line and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return head.splitlines()[0], body


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory that every user can read, with a path short enough for a socket's, which has at most 107 bytes."""
    with TemporaryDirectory(prefix="meshtls-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@asynccontextmanager
async def agent_at(
    path: Path,
    *entries: Entry,
    federated: Iterable[TrustBundle] = (),
    clock: ManualClock | None = None,
    health: tuple[str, int] | None = None,
    jitter: float = 0.0,
) -> AsyncIterator[Mesh]:
    """An agent that is ready, over an embedded CA with SVIDs of an hour."""
    clock = clock or ManualClock()
    authority = make_authority(str(OURS), clock)
    upstream = EmbeddedUpstream(authority, clock, entries, federated=federated)
    async with Agent(Endpoint(path, health=health), upstream, clock, jitter=lambda: jitter) as agent:
        await agent.ready()
        yield Mesh(agent, upstream, authority, clock)
