"""``meshtls.metrics`` in a service: its identity, and the handshakes of ``dial`` and ``listen``."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import meshtls
from meshtls.errors import HandshakeError, PeerError
from meshtls.svid.context import ConstantSource
from tests.support.authority import context_for, make_authority
from tests.support.ports import free_ports
from tests.support.scraping import OPENMETRICS, samples, value
from tests.support.waiting import until

OURS = make_authority("example.org")
WEB, DB = "spiffe://example.org/web", "spiffe://example.org/db"


def source(spiffe_id: str) -> ConstantSource:
    return ConstantSource(context_for(OURS, spiffe_id))


def now(name: str, **labels: str) -> float:
    return value(samples(meshtls.metrics(accept=OPENMETRICS).content.decode()), name, **labels) or 0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(10))


@pytest.mark.parametrize(("allowed", "outcome"), [(WEB, "OK"), (DB, "POLICY_DENIED")])
async def test_handshakes_are_counted_by_their_outcome(allowed: str, outcome: str) -> None:
    dialled, listened = (f"meshtls_{name}_connections_total" for name in ("dialled", "listened"))
    before = now(dialled, outcome="OK"), now(listened, outcome=outcome)
    async with await meshtls.listen("127.0.0.1", 0, source(DB), meshtls.authorize_id(allowed), echo, timeout=60) as far:
        reader, writer = await meshtls.dial(*far.address, source(WEB), meshtls.authorize_id(DB), timeout=60)
        writer.write(b"ping")
        try:
            assert await reader.read() == b"ping"
        except (HandshakeError, PeerError, ConnectionError):
            assert outcome == "POLICY_DENIED"
        await until(lambda: now(listened, outcome=outcome) == before[1] + 1)
        writer.close()
    assert now(dialled, outcome="OK") == before[0] + 1


async def test_a_dial_that_reaches_nobody_is_counted() -> None:
    before = now("meshtls_dialled_connections_total", outcome="CONNECT_FAILED")
    [port] = free_ports(1)
    with pytest.raises(OSError):
        await meshtls.dial("127.0.0.1", port, source(WEB), meshtls.authorize_id(DB))
    assert now("meshtls_dialled_connections_total", outcome="CONNECT_FAILED") == before + 1


async def test_an_asgi_route_serves_the_metrics_of_a_source() -> None:
    own = source(WEB)

    async def metrics(request: Request) -> Response:
        scrape = meshtls.metrics(own, accept=request.headers.get("accept", ""))
        return Response(scrape.content, media_type=scrape.content_type)

    app = httpx.ASGITransport(Starlette(routes=[Route("/metrics", metrics)]))
    async with httpx.AsyncClient(transport=app, base_url="http://service") as client:
        answer = await client.get("/metrics", headers={"accept": OPENMETRICS})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    expiry = own.snapshot().svid.not_after.timestamp()
    found = samples(answer.text)
    assert value(found, "meshtls_svid_expiry_timestamp_seconds", spiffe_id=WEB) == pytest.approx(expiry, abs=1000)
    assert value(found, "meshtls_svid_valid") == 1
    assert value(found, "meshtls_build_info", component="library") == 1
