"""Traces of real connections and requests through two real sidecars, as a receiver of OTLP gets them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
import httpx
import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, Protocol, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.trace_context import parsed
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    OTHER,
    A,
    B,
    Node,
    an_app,
    as_b,
    connected,
    echoed,
    rest,
    running,
    side_a,
    side_b,
)
from tests.integration.sidecar.test_policy_http2 import ALLOW_ECHO, an_echo, unary
from tests.support.otlp import Received, a_receiver
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

ALLOW_GET = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {methods: [GET], paths: [/ok]}}]
"""
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAID = f"00-{TRACE}-{CALLER}-01"


async def asked(a: Node, path: str = "/ok", headers: dict[str, str] | None = None) -> httpx.Response:
    """One request on a connection of its own, through the calling sidecar."""
    async with httpx.AsyncClient(timeout=SECONDS) as client:
        return await client.get(f"http://{a.outbound}{path}", headers=headers)


def app_s_context(answer: httpx.Response) -> tuple[str, str, bool]:
    """The IDs of the trace and of its parent that the app was told, and whether it is sampled."""
    context = parsed(answer.json()["headers"]["traceparent"])
    assert context is not None
    return context.trace_id.hex(), context.span_id.hex(), context.sampled


def identified(attributes: dict[str, Any]) -> tuple[str, str]:
    return attributes["meshtls.source.id"], attributes["meshtls.destination.id"]


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
async def test_the_spans_of_both_sidecars_of_a_connection_are_in_one_trace(tunnel: bool) -> None:
    kind = "stream" if tunnel else "connection"
    async with (
        a_receiver() as receiver,
        an_app() as app,
        side_b(app.address, tunnel=tunnel, tracing=receiver.keys()) as b,
        side_a(b.inbound, tunnel=tunnel, tracing=receiver.keys(service_name="web")) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            streams[1].write_eof()
            assert await rest(streams) == b""
        near, far = await receiver.span(f"outbound {kind}"), await receiver.span(f"inbound {kind}")
        # Children are sent after their parent, at the latest with the next post.
        await receiver.all("dial", 2)
        await receiver.all("authorize", 1 if tunnel else 2)
    assert (near.kind, far.kind) == ("client", "server")
    assert (near.parent, far.trace, far.parent) == ("", near.trace, near.span)
    assert near.attributes["meshtls.connection.id"] == far.attributes["meshtls.connection.id"]
    for span in (near, far):
        assert identified(span.attributes) == (str(A), str(B))
        assert span.error is None
        assert (span.attributes["meshtls.outcome"], span.attributes["meshtls.bytes_in"]) == ("OK", 4)
        assert (span.attributes["tls.protocol.name"], span.attributes["tls.protocol.version"]) == ("tls", "1.3")
        phases = [one for one in receiver.below(span).values() if one.kind == "internal"]
        assert all(span.began - 1_000_000 <= one.began <= one.ended <= span.ended for one in phases)
    assert set(receiver.below(near)) - {"authorize"} == {"dial", "handshake", far.name}
    assert set(receiver.below(far)) == {"dial", "authorize"} | (set() if tunnel else {"handshake"})
    assert (near.of["service.name"], far.of["service.name"]) == ("web", "b")
    assert near.of["service.instance.id"] != far.of["service.instance.id"]


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
async def test_a_request_continues_its_caller_s_trace_and_the_app_gets_the_request_s_span_as_its_parent(
    tunnel: bool,
) -> None:
    async with (
        a_receiver() as receiver,
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tunnel=tunnel, tracing=receiver.keys(sample=0)) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        answer = await asked(a, "/ok?token=secret", {"traceparent": SAID, "tracestate": "vendor=1, other=2"})
        span = await receiver.span("GET")
    assert answer.status_code == 200
    assert answer.json()["headers"]["tracestate"] == "vendor=1,other=2"
    assert app_s_context(answer) == (TRACE, span.span, True)
    assert (span.trace, span.parent, span.state, span.kind) == (TRACE, CALLER, "vendor=1,other=2", "server")
    assert len(span.links) == 1  # to its connection
    assert identified(span.attributes) == (str(A), str(B))
    told = {name: span.attributes[name] for name in ("http.request.method", "url.path", "http.response.status_code")}
    assert told == {"http.request.method": "GET", "url.path": "/ok", "http.response.status_code": 200}
    assert (span.attributes["meshtls.policy"], span.attributes["url.scheme"]) == ("ns[default]-policy[web]", "https")
    assert "secret" not in str(receiver.spans)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", f"00-{'0' * 32}-{CALLER}-01"), ("tracestate", "vendor=1")],
        [("traceparent", f"{SAID}-more"), ("tracestate", "vendor=1")],
        [("traceparent", SAID), ("traceparent", SAID)],
    ],
    ids=["none", "no trace", "too long", "two"],
)
async def test_a_request_without_a_valid_traceparent_begins_in_its_connection_s_trace(
    headers: list[tuple[str, str]],
) -> None:
    async with (
        a_receiver() as receiver,
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tracing=receiver.keys()) as b,
        side_a(b.inbound, tracing=receiver.keys()) as a,
    ):
        async with httpx.AsyncClient(timeout=SECONDS) as client:
            answer = await client.get(f"http://{a.outbound}/ok", headers=headers)
            second = await client.get(f"http://{a.outbound}/ok", headers=headers)
        one, two = await receiver.all("GET", 2)
        near, far = await receiver.span("outbound connection"), await receiver.span("inbound connection")
    assert one.trace == near.trace == far.trace
    assert (one.parent, far.parent, one.links) == (far.span, near.span, ())
    assert app_s_context(answer) == (one.trace, one.span, True)
    assert "tracestate" not in answer.json()["headers"]
    # The next request of the connection begins a trace of its own, which a link leads back from.
    assert (two.parent, two.links) == ("", ((far.trace, far.span),))
    assert two.trace not in (one.trace, TRACE)
    assert app_s_context(second) == (two.trace, two.span, True)
    assert far.attributes["meshtls.requests"] == 2


async def test_the_headers_pass_as_they_came_where_nothing_is_traced() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
    ):
        for traceparent in (SAID, "anything"):
            answer = await asked(a, headers={"traceparent": traceparent, "tracestate": "a=1, b=2"})
            told = answer.json()["headers"]
            assert (told["traceparent"], told["tracestate"]) == (traceparent, "a=1, b=2")
        assert "traceparent" not in (await asked(a)).json()["headers"]


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
async def test_a_grpc_call_has_its_method_and_the_app_its_context(tunnel: bool) -> None:
    async with (
        a_receiver() as receiver,
        an_echo() as (app, _),
        governed(app, ALLOW_ECHO, protocol=Protocol.HTTP, tunnel=tunnel, tracing=receiver.keys()) as b,
        side_a(b.inbound, tunnel=tunnel, tracing=receiver.keys()) as a,
        grpc.aio.insecure_channel(str(a.outbound)) as channel,
        asyncio.timeout(SECONDS),
    ):
        assert await unary(channel, "/echo.Echo/Unary")(b"x", metadata=(("traceparent", SAID),)) == b"x"
        allowed = await receiver.span("POST")
        with pytest.raises(grpc.aio.AioRpcError):
            await unary(channel, "/echo.Echo/Admin")(b"x", metadata=(("traceparent", SAID),))
        denied = await receiver.span("POST", 2)
    for span, method in ((allowed, "echo.Echo/Unary"), (denied, "echo.Echo/Admin")):
        assert (span.trace, span.parent) == (TRACE, CALLER)
        assert (span.attributes["rpc.system.name"], span.attributes["rpc.method"]) == ("grpc", method)
    assert (allowed.error, allowed.attributes["meshtls.outcome"]) == (None, "OK")
    assert denied.error is not None
    assert denied.error.startswith("POLICY_DENIED: ")


async def test_a_denied_request_has_the_policy_that_denied_it_and_an_allowed_one_no_error() -> None:
    deny = (
        ALLOW_GET.replace("name: web", "name: no-admin")
        .replace("spec:", "spec:\n  action: DENY")
        .replace("/ok", "/admin")
    )
    async with (
        a_receiver() as receiver,
        a_web_app() as app,
        governed(app.address, deny, protocol=Protocol.HTTP, tracing=receiver.keys()) as b,
        side_a(b.inbound) as a,
    ):
        assert (await asked(a, "/admin")).status_code == 403
        denied = await receiver.span("GET")
        assert (await asked(a, "/ok")).status_code == 200
        allowed = await receiver.span("GET", 2)
    assert denied.error is not None
    assert denied.error.startswith("POLICY_DENIED: ")
    said = {name: denied.attributes[name] for name in ("meshtls.verdict", "meshtls.policy", "error.type")}
    assert said == {
        "meshtls.verdict": "denied",
        "meshtls.policy": "ns[default]-policy[no-admin]",
        "error.type": "POLICY_DENIED",
    }
    assert "meshtls.rule" in denied.attributes
    assert denied.attributes["http.response.status_code"] == 403
    assert allowed.error is None
    assert "error.type" not in allowed.attributes


async def test_a_refused_connection_has_its_outcome_on_both_sides_in_one_trace() -> None:
    async with (
        a_receiver() as receiver,
        an_app() as app,
        side_b(app.address, allow=(OTHER,), tracing=receiver.keys()) as b,
        side_a(b.inbound, tracing=receiver.keys()) as a,
    ):
        async with connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionError):
                assert await rest(streams) == b""
        far, near = await receiver.span("inbound connection"), await receiver.span("outbound connection")
        judged = await _below(receiver.below, far, "authorize")
    assert (far.trace, far.parent) == (near.trace, near.span)
    assert far.attributes["meshtls.outcome"] == "POLICY_DENIED"
    assert far.error == judged.error
    assert far.error is not None
    assert far.error.startswith(f"POLICY_DENIED: peer {A} is not allowed to reach {B}")
    assert near.error is not None
    assert near.attributes["meshtls.alert.received"] == far.attributes["meshtls.alert.sent"]


async def _below(below: Any, parent: Received, name: str) -> Received:
    async with asyncio.timeout(SECONDS):
        while name not in below(parent):  # noqa: ASYNC110
            await asyncio.sleep(0)
    found: Received = below(parent)[name]
    return found


async def test_a_caller_decides_whether_its_trace_is_recorded_and_the_share_whether_one_that_begins_here_is() -> None:
    async with a_receiver() as receiver, a_web_app() as app:
        async with (
            governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tracing=receiver.keys(sample=0)) as b,
            side_a(b.inbound) as a,
        ):
            answers = [await asked(a), await asked(a, headers={"traceparent": SAID})]
        assert [app_s_context(one)[2] for one in answers] == [False, True]
        async with (
            governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tracing=receiver.keys(sample=1)) as b,
            side_a(b.inbound) as a,
        ):
            answers = [await asked(a, headers={"traceparent": SAID[:-2] + "00"}), await asked(a)]
        assert [app_s_context(one)[2] for one in answers] == [False, True]
    assert [one.trace == TRACE for one in receiver.named("GET")] == [True, False]


async def test_the_flag_of_a_caller_that_is_denied_is_not_honoured() -> None:
    async with (
        a_receiver() as receiver,
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tracing=receiver.keys(sample=0)) as b,
        side_a(b.inbound) as a,
    ):
        assert (await asked(a, "/admin", headers={"traceparent": SAID})).status_code == 403
        assert (await asked(a, "/ok", headers={"traceparent": SAID})).status_code == 200
        await receiver.span("GET")
    assert [one.attributes["url.path"] for one in receiver.named("GET")] == ["/ok"]


async def test_the_flag_of_a_caller_without_a_proven_identity_is_not_honoured() -> None:
    anybody = ALLOW_GET.replace("from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]\n    ", "")
    async with (
        a_receiver() as receiver,
        a_web_app() as app,
        governed(
            app.address, anybody, mode=Mode.PERMISSIVE, protocol=Protocol.HTTP, tracing=receiver.keys(sample=0)
        ) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient(timeout=SECONDS) as plaintext,
    ):
        strange = await plaintext.get(f"http://{b.inbound}/ok", headers={"traceparent": SAID})
        known = await asked(a, headers={"traceparent": SAID})
        await receiver.span("GET")
    assert (app_s_context(strange)[0], app_s_context(strange)[2]) == (TRACE, False)
    assert (app_s_context(known)[0], app_s_context(known)[2]) == (TRACE, True)
    assert [one.attributes.get("meshtls.source.id") for one in receiver.named("GET")] == [str(A)]


async def test_plaintext_has_a_trace_without_a_parent() -> None:
    async with (
        a_receiver() as receiver,
        an_app() as app,
        side_b(app.address, mode=Mode.DISABLE, allow=(), tracing=receiver.keys()) as b,
    ):
        async with connected(b.inbound) as streams:
            assert await echoed(streams) == b"ping"
        span = await receiver.span("inbound connection")
    assert (span.parent, span.attributes["meshtls.security"]) == ("", "plaintext")
    assert "meshtls.source.id" not in span.attributes


async def test_a_stream_that_a_sidecar_passes_on_is_one_trace_over_three_sidecars() -> None:
    async with (
        a_receiver() as receiver,
        an_app() as app,
        side_b(app.address, allow=(A, B), tunnel=True, tracing=receiver.keys()) as b,
    ):
        here = Address("127.0.0.1", free_ports(1)[0])
        config = SidecarConfig(
            name="gateway",
            spiffe_id=B,
            inbound=(InboundConfig(listen=ANYWHERE, app=here, allow=(A,), tunnel=True),),
            outbound=(OutboundConfig(listen=here, to=b.inbound, peer=B, tunnel=True),),
            limits=DEFAULTS,
            tracing=receiver.keys(),
        )
        async with (
            running(config, ConstantSource(as_b())) as gateway,
            side_a(gateway.inbound, tunnel=True, tracing=receiver.keys()) as a,
        ):
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
            spans = [*await receiver.all("outbound stream", 2), *await receiver.all("inbound stream", 2)]
    chain = [one for one in spans if not one.parent]
    while below := [one for one in spans if one.parent == chain[-1].span]:
        chain += below
    assert [one.name for one in chain] == ["outbound stream", "inbound stream"] * 2
    assert len({one.trace for one in spans}) == 1
