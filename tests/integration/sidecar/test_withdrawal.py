"""A sidecar whose identity the Workload API withdraws: no new connections, and a grace period for live ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from grpclib import Status

from meshtls.sidecar.settings import Limits, Mode
from meshtls.workload.x509_source import X509Source
from tests.integration.sidecar.mesh import (
    App,
    Node,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    patient,
    rest,
    side_a,
    side_b,
)
from tests.support.agent import http_get
from tests.support.waiting import SECONDS, until
from tests.support.workload_api import WorkloadApi, workload_api

LONG, SHORT = patient(withdrawal_grace=600.0), patient(withdrawal_grace=0.2)


@dataclass(frozen=True)
class Pair:
    """``lost`` is the side whose identity comes from ``api``; ``a`` has a door for plaintext."""

    api: WorkloadApi
    source: X509Source
    app: App
    a: Node
    b: Node

    async def withdraw(self) -> str:
        self.api.refuse(Status.PERMISSION_DENIED)
        return str(await asyncio.wait_for(self.source.withdrawn(), SECONDS))

    async def give_again(self) -> None:
        self.api.push(self.api.context)
        await asyncio.wait_for(self.source.changed(), SECONDS)


@contextlib.asynccontextmanager
async def pair(
    tmp_path: Path, limits: Limits, *, tunnel: bool = False, mode: Mode = Mode.STRICT
) -> AsyncIterator[Pair]:
    """A reaches the app behind B, and it is B whose identity can be taken back."""
    async with (
        workload_api(tmp_path / "api.sock", as_b()) as api,
        X509Source(api.address) as source,
        an_app() as app,
        side_b(app.address, source=source, limits=limits, tunnel=tunnel, mode=mode) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        yield Pair(api, source, app, a, b)


async def no_answer(node: Node) -> bool:
    """Whether a new connection is ended without a byte of the app's."""
    try:
        async with connected(node.outbound) as streams:
            return await echoed(streams) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("tunnel", [False, True])
async def test_new_connections_are_refused_at_once_and_live_ones_go_on_in_the_grace_period(
    tmp_path: Path, tunnel: bool
) -> None:
    async with pair(tmp_path, LONG, tunnel=tunnel) as mesh, connected(mesh.a.outbound) as live:
        assert await echoed(live) == b"ping"
        before = mesh.app.connections
        why = await mesh.withdraw()
        assert await no_answer(mesh.a)
        line = await mesh.b.lines.the("LOCAL_IDENTITY")
        assert line["detail"].startswith(f"X509-SVID withdrawn: {why}")
        assert mesh.app.connections == before
        assert await echoed(live) == b"ping"
        assert mesh.b.sidecar.health
        status, body = await http_get(mesh.b.sidecar.health.address.port, "/ready")
        assert status == "HTTP/1.1 503 Service Unavailable"
        assert body == f"waiting for a valid SVID: X509-SVID withdrawn: {why}\n{mesh.b.sidecar.config.process}\n"

        await mesh.give_again()
        async with connected(mesh.a.outbound) as new:
            assert await echoed(new) == b"ping"
        assert await echoed(live) == b"ping"
        assert await http_get(mesh.b.sidecar.health.address.port, "/ready") == (
            "HTTP/1.1 200 OK",
            f"ready\n{mesh.b.sidecar.config.process}\n",
        )


@pytest.mark.parametrize("tunnel", [False, True])
async def test_live_connections_are_ended_after_the_grace_period(tmp_path: Path, tunnel: bool) -> None:
    async with pair(tmp_path, SHORT, tunnel=tunnel) as mesh, connected(mesh.a.outbound) as live:
        assert await echoed(live) == b"ping"
        why = await mesh.withdraw()
        with contextlib.suppress(ConnectionResetError):
            assert await rest(live) == b""
        line = await mesh.b.lines.the("LOCAL_IDENTITY")
        assert line["detail"] == f"our identity was withdrawn 0.2 s ago: {why}"
        await asyncio.wait_for(mesh.app.ended.get(), SECONDS)
        await asyncio.wait_for(mesh.b.sidecar.registry.emptied(), SECONDS)

        await mesh.give_again()
        async with connected(mesh.a.outbound) as new:
            assert await echoed(new) == b"ping"


async def test_plaintext_that_needs_no_identity_goes_on(tmp_path: Path) -> None:
    async with (
        pair(tmp_path, SHORT, mode=Mode.PERMISSIVE) as mesh,
        connected(mesh.a.outbound) as secured,
        connected(mesh.b.inbound) as plain,
    ):
        assert (await echoed(secured), await echoed(plain)) == (b"ping", b"ping")
        await mesh.withdraw()
        with contextlib.suppress(ConnectionResetError):
            assert await rest(secured) == b""
        assert await echoed(plain) == b"ping"


async def test_unavailable_ends_nothing(tmp_path: Path) -> None:
    async with pair(tmp_path, SHORT) as mesh, connected(mesh.a.outbound) as live:
        assert await echoed(live) == b"ping"
        await mesh.api.stop()
        await until(lambda: mesh.source.last_error is not None)
        async with connected(mesh.a.outbound) as new:
            assert await echoed(new) == b"ping"
        assert await echoed(live) == b"ping"
        assert mesh.b.sidecar.health
        status, body = await http_get(mesh.b.sidecar.health.address.port, "/ready")
        assert status == "HTTP/1.1 200 OK"
        assert "renewal failing since" in body


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_outbound_without_identity_dials_nobody_and_its_tunnels_end_after_the_grace_period(
    tmp_path: Path, tunnel: bool
) -> None:
    async with (
        workload_api(tmp_path / "api.sock", as_a()) as api,
        X509Source(api.address) as source,
        an_app() as app,
        side_b(app.address, tunnel=tunnel) as b,
        side_a(b.inbound, source, limits=SHORT, tunnel=tunnel) as a,
        connected(a.outbound) as live,
    ):
        assert await echoed(live) == b"ping"
        api.refuse(Status.PERMISSION_DENIED)
        why = str(await asyncio.wait_for(source.withdrawn(), SECONDS))
        assert await no_answer(a)
        with contextlib.suppress(ConnectionResetError):
            assert await rest(live) == b""
        details = {(await a.lines.the("LOCAL_IDENTITY"))["detail"] for _ in range(2)}
        assert details == {f"X509-SVID withdrawn: {why}", f"our identity was withdrawn 0.2 s ago: {why}"}
        await asyncio.wait_for(b.sidecar.registry.emptied(), SECONDS)
        assert app.connections == 1

        api.push(api.context)
        await asyncio.wait_for(source.changed(), SECONDS)
        async with connected(a.outbound) as new:
            assert await echoed(new) == b"ping"
