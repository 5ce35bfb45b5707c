"""Real sidecars are scraped over HTTP, and what they say is read by the parsers of Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from meshtls.address import Address
from meshtls.observe.access_log import AccessLog
from meshtls.sidecar.metrics.families import FAMILIES
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig, Workload
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    OTHER,
    A,
    B,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    rest,
)
from tests.support.scraping import OPENMETRICS, Found, get, value
from tests.support.scraping import scraped as scraped_at
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def scraped(config: SidecarConfig, source: ConstantSource) -> AsyncIterator[Sidecar]:
    config = msgspec.structs.replace(config, metrics=ANYWHERE, limits=DEFAULTS)
    async with Sidecar(config, source, on_result=AccessLog(io.StringIO())) as sidecar:
        yield sidecar


def inward(app: Address, *, allow: tuple[Any, ...] = (A,), tunnel: bool = False) -> SidecarConfig:
    inbound = InboundConfig(listen=ANYWHERE, app=app, allow=allow, tunnel=tunnel)
    return SidecarConfig(
        name="b", spiffe_id=B, inbound=(inbound,), workload=Workload(deployment="b-v1", service="stock")
    )


def outward(to: Address, *, tunnel: bool = False) -> SidecarConfig:
    return SidecarConfig(
        name="a", spiffe_id=A, outbound=(OutboundConfig(listen=ANYWHERE, to=to, peer=B, tunnel=tunnel),)
    )


async def found_in(sidecar: Sidecar, accept: str = "") -> Found:
    assert sidecar.scrapes is not None
    return await scraped_at(sidecar.scrapes.address, accept)


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_scrape_tells_of_a_live_connection_and_of_its_end(tunnel: bool, accept: str) -> None:
    async with (
        an_app() as app,
        scraped(inward(app.address, tunnel=tunnel), ConstantSource(as_b())) as b,
        scraped(outward(b.inbound[0].address, tunnel=tunnel), ConstantSource(as_a())) as a,
    ):
        async with connected(a.outbound[0].address) as streams:
            assert await echoed(streams) == b"ping"
            for sidecar, direction in ((a, "outbound"), (b, "inbound")):
                found = await found_in(sidecar, accept)
                pair = {"direction": direction, "source": str(A), "destination": str(B)}
                assert value(found, "meshtls_connections_opened_total", security="mutual_tls", **pair) == 1
                assert value(found, "meshtls_connections_closed_total", **pair) is None
                assert value(found, "meshtls_received_bytes_total", **pair) == 4
                assert value(found, "meshtls_sent_bytes_total", **pair) == 4
                kind = "stream" if tunnel else "connection"
                assert value(found, "meshtls_open_connections", direction=direction, kind=kind) == 1
                assert value(found, "meshtls_handshake_duration_seconds_count", direction=direction) == 1
                assert value(found, "meshtls_tls_sessions_total", resumed="false") == 1
                reporter = "source" if direction == "outbound" else "destination"
                names = {"reporter": reporter, "source_principal": str(A), "destination_principal": str(B)}
                mutual = {"connection_security_policy": "mutual_tls", "request_protocol": "tcp"}
                assert value(found, "istio_tcp_connections_opened_total", **names, **mutual) == 1
                assert value(found, "istio_tcp_sent_bytes_total", **names, **mutual) == 4
            assert value(found, "istio_tcp_connections_opened_total", destination_workload="b-v1") == 1
            assert value(found, "istio_tcp_connections_opened_total", destination_service_name="stock") == 1
            assert value(found, "istio_tcp_connections_opened_total", source_workload="service-a") == 1
            streams[1].write_eof()
            assert await rest(streams) == b""
        for sidecar in (a, b):
            assert sidecar.metrics is not None
            metrics = sidecar.metrics.metrics
            direction = "outbound" if sidecar is a else "inbound"
            closed = direction, str(A), str(B), "OK"
            await until(lambda: metrics.snapshot().value("meshtls_connections_closed_total", *closed) == 1)  # noqa: B023
            assert metrics.snapshot().value("meshtls_received_bytes_total", direction, str(A), str(B)) == 4


async def test_a_refusal_is_counted_with_the_identity_in_the_certificate_and_the_outcome() -> None:
    async with (
        an_app() as app,
        scraped(inward(app.address, allow=(OTHER,)), ConstantSource(as_b())) as b,
        scraped(outward(b.inbound[0].address), ConstantSource(as_a())) as a,
    ):
        async with connected(a.outbound[0].address) as streams:
            with contextlib.suppress(ConnectionError):
                assert await rest(streams) == b""
        assert b.metrics is not None
        metrics = b.metrics.metrics
        refused = "inbound", str(A), str(B), "POLICY_DENIED"
        await until(lambda: metrics.snapshot().value("meshtls_connections_refused_total", *refused) == 1)
        found = await found_in(b)
        assert value(found, "meshtls_connections_refused_total") == 1
        assert value(found, "meshtls_connections_opened_total") is None
        assert value(found, "meshtls_policy_decisions_total", verdict="denied") == 1


async def test_a_scrape_tells_of_the_identity_the_bundles_and_the_build() -> None:
    async with an_app() as app, scraped(inward(app.address), ConstantSource(as_b())) as b:
        found, svid = await found_in(b, OPENMETRICS), as_b().svid
        assert value(found, "meshtls_svid_expiry_timestamp_seconds", spiffe_id=str(B)) == pytest.approx(
            svid.not_after.timestamp(), abs=1000
        )
        assert value(found, "meshtls_svid_valid") == 1
        assert value(found, "meshtls_bundle_age_seconds", trust_domain="example.org") is not None
        assert value(found, "meshtls_ready") == 1
        assert value(found, "meshtls_processes") == 1
        assert value(found, "meshtls_config_outdated") == 0
        assert value(found, "meshtls_build_info", component="sidecar") == 1


async def test_a_rejected_configuration_is_told() -> None:
    async with an_app() as app, scraped(inward(app.address), ConstantSource(as_b())) as b:
        assert b.metrics is not None
        b.note_reload("sidecar.yaml:3: wrong")
        snapshot = b.metrics.snapshot()
        assert [snapshot.value(f"meshtls_config_{name}") for name in ("rejected_total", "outdated")] == [1, 1]
        b.note_reload("")
        snapshot = b.metrics.snapshot()
        assert [snapshot.value(f"meshtls_config_{name}") for name in ("rejected_total", "outdated")] == [1, 0]


@pytest.mark.parametrize(
    ("path", "accept", "status", "content_type"),
    [
        ("/metrics", "", "200 OK", "text/plain; version=0.0.4; charset=utf-8"),
        ("/stats/prometheus?usedonly", "*/*", "200 OK", "text/plain; version=0.0.4; charset=utf-8"),
        ("/metrics", OPENMETRICS, "200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("/stats", "", "404 Not Found", "text/plain; charset=utf-8"),
    ],
)
async def test_a_scrape_has_its_paths_and_its_formats(path: str, accept: str, status: str, content_type: str) -> None:
    async with an_app() as app, scraped(inward(app.address), ConstantSource(as_b())) as b:
        assert b.scrapes is not None
        head, content = await get(b.scrapes.address, path, accept)
        assert head.split("\r\n")[:3] == [
            f"HTTP/1.1 {status}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(content)}",
        ]


async def test_scrapers_that_send_nothing_keep_no_other_out() -> None:
    async with an_app() as app, scraped(inward(app.address), ConstantSource(as_b())) as b:
        assert b.scrapes is not None
        address = b.scrapes.address
        async with contextlib.AsyncExitStack() as silent:
            for _ in range(80):
                _, writer = await asyncio.open_connection(address.host, address.port)
                silent.callback(writer.close)
            assert value(await found_in(b), "meshtls_processes") == 1


async def test_every_metric_in_a_scrape_is_declared_for_the_reference() -> None:
    declared = {name for family in FAMILIES for name in family.sample_names} | {"meshtls_metrics_other_total"}
    async with an_app() as app, scraped(inward(app.address), ConstantSource(as_b())) as b:
        found = await found_in(b)
    assert {name for name, _ in found} <= declared


async def test_without_the_key_nothing_is_counted() -> None:
    async with (
        an_app() as app,
        Sidecar(inward(app.address), ConstantSource(as_b()), on_result=AccessLog(io.StringIO())) as b,
    ):
        assert (b.metrics, b.scrapes, b.runtime.reporter.observed) == (None, None, False)
