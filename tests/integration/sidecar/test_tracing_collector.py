"""OpenTelemetry's Collector takes the spans of two real sidecars, and reads in them what was meant."""

from __future__ import annotations

from pathlib import Path

from meshtls.sidecar.settings import Protocol
from meshtls.sidecar.tracing.keys import TracingKeys
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import A, B, side_a
from tests.integration.sidecar.test_tracing import ALLOW_GET, CALLER, TRACE, app_s_context, asked
from tests.support.otelcol import running_collector
from tests.support.waiting import until


async def test_a_collector_reads_the_spans_of_a_request_and_of_its_connection(tmp_path: Path) -> None:
    with running_collector(tmp_path) as collector:
        keys = TracingKeys(otlp=collector.endpoint, sample=1)
        async with (
            a_web_app() as app,
            governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tracing=keys) as b,
            side_a(b.inbound, tracing=keys) as a,
        ):
            first, second = await asked(a), await asked(a, "/no", {"traceparent": f"00-{TRACE}-{CALLER}-01"})
        assert (first.status_code, second.status_code) == (200, 403)
        # Both sidecars have stopped, and sent what they had.
        names = [one["Name"] for one in collector.spans()]
        await until(lambda: len([one for one in collector.spans() if one["Name"].endswith(" connection")]) == 4)
        spans = collector.spans()
    assert names.count("GET") == 2
    allowed, denied = (one for one in spans if one["Name"] == "GET")
    assert app_s_context(first)[:2] == (allowed["Trace ID"], allowed["ID"])
    connections = {one["ID"]: one for one in spans if one["Name"].endswith(" connection")}
    inbound = connections[allowed["Parent ID"]]
    outbound = connections[inbound["Parent ID"]]
    assert (outbound["Parent ID"], outbound["Kind"], inbound["Kind"]) == ("", "Client", "Server")
    assert allowed["Trace ID"] == inbound["Trace ID"] == outbound["Trace ID"]
    assert (allowed["meshtls.source.id"], allowed["meshtls.destination.id"]) == (f"Str({A})", f"Str({B})")
    assert allowed["http.response.status_code"] == "Int(200)"
    assert (denied["Trace ID"], denied["Parent ID"], denied["Status code"]) == (TRACE, CALLER, "Error")
    assert denied["Status message"].startswith("POLICY_DENIED: ")
