"""Hostile load: attempts that cost the mesh work and must not be served. Each kind has its own rate."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding

from bench.hostile_chains import HostileChain, hostile_chains
from bench.raw_client import certificate_message, present
from bench.raw_http2 import anonymous_tls, raw_http2
from meshtls.errors import AccessError, MeshtlsError
from meshtls.serverapi.channels import attest_channel
from meshtls.serverapi.node import AttestationClient
from meshtls.svid.x509 import X509Svid
from tests.soak.mesh import ALLOWED, Mesh, id_of
from tests.soak.stopping import Load
from tests.soak.violations import Violations
from tests.support.server import new_csr
from tests.support.tls import SlowClient

__all__ = ["HostileLoad", "chains_of"]

_BUNDLE_CALL = "/meshtls.server.v1.Attestation/GetBundle"
_RESETS = 300
#: Longer than the listeners' handshake timeout: they have to close the connection.
_HELD_S = 8.0
_MOST_HELD = 64


def chains_of(mesh: Mesh, captured: X509Svid) -> list[HostileChain]:
    """All hostile chains against the mesh's own authorities; making them takes a second or two."""
    chain = [one.public_bytes(Encoding.DER) for one in captured.chain]
    authorities = [*mesh.bundle.x509_authorities, *captured.chain[1:]]
    return list(hostile_chains(str(id_of("web")), authorities, chain))


@dataclass(slots=True)
class HostileLoad:
    """``done`` counts by kind. The response to an attempt does not matter, except an accepted token."""

    mesh: Mesh
    chains: list[HostileChain]
    violations: Violations
    load: Load
    done: Counter[str] = field(default_factory=Counter)
    _held: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def kinds(self) -> dict[str, tuple[float, Callable[[random.Random], Awaitable[None]]]]:
        """Seconds between two attempts, and the attempt."""
        return {
            "half-open TCP": (0.15, self._half_open),
            "half handshake": (0.15, self._half_handshake),
            "garbage bytes": (0.15, self._garbage),
            "hostile chain": (0.2, self._hostile_chain),
            "rapid reset": (1.0, self._rapid_reset),
            "token guess": (0.3, self._guess_token),
        }

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        for kind, (pause, attempt) in self.kinds.items():
            tasks.create_task(self._again_and_again(kind, pause, attempt))

    async def _again_and_again(
        self, kind: str, pause: float, attempt: Callable[[random.Random], Awaitable[None]]
    ) -> None:
        chances = self.load.chances(kind)
        while self.load.going:
            try:
                await attempt(chances)
            except (OSError, EOFError, MeshtlsError, ValueError):
                # Refused, reset, or the server is down at the moment: each is acceptable.
                self.done[f"{kind}, refused early"] += 1
            self.done[kind] += 1
            await self.load.pause(chances.uniform(0.5, 1.5) * pause)
        for task in self._held:
            task.cancel()

    def _listener(self, chances: random.Random) -> tuple[str, int]:
        listeners = [self.mesh.inbound(one) for one in ALLOWED]
        return chances.choice([*listeners, self.mesh.server_port, self.mesh.attest_port])

    async def _half_open(self, chances: random.Random) -> None:
        await self._hold(self._listener(chances), b"")

    async def _half_handshake(self, chances: random.Random) -> None:
        hello = SlowClient().hello
        await self._hold(self._listener(chances), hello[: chances.choice((3, len(hello) // 2, len(hello)))])

    async def _hold(self, address: tuple[str, int], said: bytes) -> None:
        """Send this and no more, until the other side closes the connection."""
        if len(self._held) < _MOST_HELD:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            task = asyncio.create_task(self._wait_for_end(reader, writer))
            self._held.add(task)
            task.add_done_callback(self._held.discard)

    async def _wait_for_end(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HELD_S):
                await reader.read()
        except OSError:
            return
        finally:
            writer.transport.abort()

    async def _garbage(self, chances: random.Random) -> None:
        if chances.random() < 0.2:
            reader, writer = await asyncio.open_unix_connection(str(self.mesh.workload_socket))
        else:
            reader, writer = await asyncio.open_connection(*self._listener(chances))
        head = chances.choice((b"", b"\x16\x03\x01", b"\x17\x03\x03", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\n"))
        try:
            writer.write(head + chances.randbytes(chances.choice((1, 40, 1_500, 60_000))))
            writer.write_eof()
            async with asyncio.timeout(_HELD_S):
                await reader.read()
        finally:
            writer.transport.abort()

    async def _hostile_chain(self, chances: random.Random) -> None:
        chain = chances.choice(self.chains)
        listener = self.mesh.inbound(chances.choice(list(ALLOWED)))
        await asyncio.to_thread(present, listener, certificate_message(chain.certificates))

    async def _rapid_reset(self, chances: random.Random) -> None:
        async with raw_http2(self.mesh.attest_port, anonymous_tls()) as client:
            streams = range(1, 2 * _RESETS, 2)
            await client.send(b"".join(client.reset_call(stream, _BUNDLE_CALL) for stream in streams))
            while await client.next() is not None:
                pass

    async def _guess_token(self, chances: random.Random) -> None:
        guess = f"{chances.getrandbits(128):032x}"
        with closing(attest_channel(*self.mesh.attest_port, self.mesh.bundle)) as channel:
            try:
                attested = await AttestationClient(channel).with_token(guess, new_csr())
            except AccessError:
                return
        subject = attested.chain[0].subject.rfc4514_string()
        self.violations.add("wrong admission", f"the server took the join token {guess}, and issued {subject}")
