"""How long a change of a policy file takes: from the replaced file to the first request that is judged by it."""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.cli.sidecar_reload import ConfigFile, keep_reloading
from meshtls.clock import SystemClock
from meshtls.sidecar.service import Sidecar
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.x509 import X509Svid
from meshtls.workload.background import in_background

__all__ = ["LiveFigures", "measure_live"]

_US = SpiffeId.parse("spiffe://bench.test/ns/shop/sa/web")
_SIDECAR = """
name: web
spiffe_id: {id}
inbound: [{{listen: "127.0.0.1:0", app: "127.0.0.1:{port}", protocol: http}}]
policies: [policies.yaml]
"""
_POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: paths, namespace: shop}}
spec: {{rules: [{{to: [{{operation: {{paths: ["{path}"]}}}}]}}]}}
"""
_REQUEST, _ANSWER = b"GET /a HTTP/1.1\r\nHost: web\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_END = b"\r\n\r\n"
#: Seconds between two requests, which is the error of a figure, and the longest pause between two changes.
_STEP, _PAUSE = 0.005, 0.6


class LiveFigures(msgspec.Struct, frozen=True):
    """Milliseconds over so many changes of one small policy file."""

    changes: int
    p50_ms: float
    p99_ms: float


def measure_live(changes: int) -> LiveFigures:
    """A sidecar in this process, which looks at its files as ``meshtls sidecar run`` does; at least two changes."""
    logging.disable(logging.WARNING)  # each change is told, with what is to be known of plaintext
    try:
        taken = asyncio.run(_measure(changes))
    finally:
        logging.disable(logging.NOTSET)
    return LiveFigures(changes, statistics.median(taken), statistics.quantiles(taken, n=100, method="inclusive")[-1])


async def _measure(changes: int) -> list[float]:
    async with _serving() as (file, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        taken: list[float] = []
        for at in range(changes):
            await asyncio.sleep(random.uniform(0, _PAUSE))  # noqa: S311  # any phase of the sidecar's looks
            before, new = await _status(reader, writer), file.with_suffix(".new")
            new.write_text(_POLICY.format(path="/b" if at % 2 == 0 else "/a"))
            began = time.perf_counter()
            new.rename(file)
            while await _status(reader, writer) == before:  # noqa: ASYNC110  # the answer itself is asked for
                await asyncio.sleep(_STEP)
            taken.append((time.perf_counter() - began) * 1000)
        writer.close()
        return taken


async def _status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(_REQUEST)
    head = await reader.readuntil(_END)
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.split()[1]


@asynccontextmanager
async def _serving() -> AsyncIterator[tuple[Path, int]]:
    """The policy file, and the port of the sidecar."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(_END):
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    app = await asyncio.start_server(answer, "127.0.0.1", 0)
    with TemporaryDirectory() as name:
        directory = Path(name)
        file = directory / "policies.yaml"
        file.write_text(_POLICY.format(path="/a"))
        (directory / "web.yaml").write_text(_SIDECAR.format(id=_US, port=app.sockets[0].getsockname()[1]))
        config, key = ConfigFile(directory / "web.yaml", None), ec.generate_private_key(ec.SECP256R1())
        authority = Authority.create(TrustDomain("bench.test"), SystemClock())
        svid = X509Svid.from_chain(authority.issue(_US, key.public_key()), key)
        source = ConstantSource(X509Context(1, (svid,), BundleSet([authority.bundle])))
        async with (
            app,
            Sidecar(config.running, source, on_result=lambda _: None) as sidecar,
            in_background(keep_reloading(sidecar, config, asyncio.Event()), "reload"),
        ):
            yield file, sidecar.inbound[0].address.port
