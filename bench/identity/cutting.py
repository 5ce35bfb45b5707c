"""From the command that revokes a stolen identity to the end of each of its live connections with many sidecars."""

from __future__ import annotations

import asyncio
import json
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path

from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError, latencies
from bench.identity.site import (
    OTHER,
    SERVED,
    STOLEN,
    Place,
    agent_of,
    allow_descriptors,
    entry,
    last_line,
    opened_server,
)
from bench.identity.waiting import within
from bench.processes import started
from meshtls import authorize_id, client_context
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.workload.x509_source import X509Source

__all__ = ["measure_cuts"]

_PART = "revocation"
_PROCESSES = 2
_DIALLING = 8
_PATIENCE_S = 120.0


async def measure_cuts(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """Server, agent and the sidecars' processes as in a mesh; who holds the stolen SVID is not told of anything."""
    allow_descriptors(2 * scale.live_connections + 1024)
    ends, answers = [], []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(opened_server(Place.make(directory / "cuts")))
        token = await server.admin.create_join_token()
        wanted = [entry(one.path, token.agent_id) for one in (SERVED, STOLEN, OTHER)]
        await server.admin.create_entries(wanted)
        agent = await stack.enter_async_context(agent_of(server, token, (await server.admin.bundle()).to_pem()))
        source = await stack.enter_async_context(X509Source(agent.address))
        ports: list[int] = []
        for number in range(_PROCESSES):
            log = directory / f"sidecars-{number}.out"
            argv = [sys.executable, "-m", "bench.identity.sidecar_crowd", agent.address]
            crowd = stack.enter_context(started([*argv, str(scale.sidecars // _PROCESSES)], log, piped=True))
            ports += await _ports(crowd, log)
        progress(f"{len(ports)} sidecars serve")
        subject = Subject(SubjectKind.SPIFFE_ID, str(STOLEN))
        for number in range(scale.revocations):
            spared = await _connected(await _held(source, OTHER), ports, len(ports))
            stolen = await _connected(await _held(source, STOLEN), ports, scale.live_connections)
            watching = asyncio.create_task(asyncio.to_thread(_ends, stolen))
            await asyncio.sleep(0.5)  # the thread watches, and the processes have done what they began
            began = time.perf_counter()
            await server.admin.revoke(subject, "key_compromise")
            answers.append(time.perf_counter() - began)
            cut = [end - began for end in await watching]
            if min(cut) < 0:
                raise UnmeasuredError("a connection ended before its identity was revoked")
            await asyncio.to_thread(_check_spared, spared)
            ends += cut
            progress(f"[{number + 1}/{scale.revocations}] {len(cut)} connections cut, the last after {max(cut):.2f} s")
            for one in (*stolen, *spared):
                one.close()
            await server.admin.readmit(subject)
    name = f"revoked to cut, {len(ports)} sidecars, {scale.live_connections:,} connections"
    return [
        *latencies(_PART, name, ends, "from the call to the end of each connection"),
        *latencies(_PART, "the call itself", answers)[:1],
    ]


async def _held(source: X509Source, spiffe_id: SpiffeId) -> X509Context:
    """A context with the SVID of this identity, as whoever has its files has it."""
    async with within(_PATIENCE_S, f"an SVID of {spiffe_id}"):
        context = source.snapshot()
        while not (found := [one for one in context.svids if one.spiffe_id == spiffe_id]):
            context = await source.changed(context.generation)
    return X509Context(1, (found[0],), context.bundles)


async def _connected(context: X509Context, ports: Sequence[int], count: int) -> list[ssl.SSLSocket]:
    """This many connections, of which the app has answered each."""
    tls = client_context(ConstantSource(context), authorize_id(str(SERVED)))

    def dial(port: int) -> ssl.SSLSocket:
        made = tls.wrap_socket(socket.create_connection(("127.0.0.1", port), _PATIENCE_S))
        made.sendall(b"x")
        if made.recv(1) != b"x":
            raise UnmeasuredError("wanted the app's echo, got the end of the connection")
        return made

    def dial_all() -> list[ssl.SSLSocket]:
        with ThreadPoolExecutor(_DIALLING) as pool:
            return list(pool.map(dial, islice(cycle(ports), count)))

    return await asyncio.to_thread(dial_all)


def _ends(connections: Sequence[ssl.SSLSocket]) -> list[float]:
    """When each ended. Nobody sends anything on them but the sidecar that ends them."""
    ends: list[float] = []
    with selectors.DefaultSelector() as watched:
        for one in connections:
            watched.register(one, selectors.EVENT_READ)
        while len(ends) < len(connections):
            ready = watched.select(_PATIENCE_S)
            if not ready:
                raise UnmeasuredError(f"{len(connections) - len(ends)} connections of a revoked identity live on")
            now = time.perf_counter()
            for key, _ in ready:
                watched.unregister(key.fileobj)
                ends.append(now)
    for one in connections:
        _check_ended(one)
    return ends


def _check_ended(one: ssl.SSLSocket) -> None:
    try:
        data = one.recv(1)
    except OSError:
        return
    if data:
        raise UnmeasuredError("a connection of a revoked identity got data")


def _check_spared(connections: Sequence[ssl.SSLSocket]) -> None:
    for one in connections:
        one.sendall(b"y")
        if one.recv(1) != b"y":
            raise UnmeasuredError("a connection of another identity was cut, too")


async def _ports(crowd: subprocess.Popen[str], log: Path) -> list[int]:
    async with within(_PATIENCE_S, "the ports of the sidecars"):
        line = await asyncio.to_thread(crowd.stdout.readline) if crowd.stdout is not None else ""
    if not line:
        raise UnmeasuredError(f"the sidecars ended: {last_line(log)}")
    ports: list[int] = json.loads(line)
    return ports
