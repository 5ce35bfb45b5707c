"""Estimates of application bytes, of packets that tcpdump took between two sidecars, without keys."""

from __future__ import annotations

from pathlib import Path

from meshtls.capture.analysis.analyzing import Analysis
from tests.integration.sidecar.mesh import an_app, connected, echoed, side_a, side_b
from tests.support.capture import captured


async def test_a_short_echo_through_two_sidecars_is_estimated_exactly(tmp_path: Path) -> None:
    file = tmp_path / "mesh.pcap"
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, captured(b.inbound.port, file):
        async with connected(a.outbound) as streams:
            assert await echoed(streams, b"ping") == b"ping"
        await b.lines.next()
    with file.open("rb") as stream:
        (found,) = Analysis(stream)
    assert found.estimated
    assert (found.client.application_bytes, found.server.application_bytes) == (4, 4)
    assert found.overhead is not None
