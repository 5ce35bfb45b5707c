"""Streams that a client resets: no work goes on for them, and none of it reaches the app."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ResponseReceived

from meshtls.address import Address
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.sidecar.settings import Mode, Protocol
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import an_app, connected, patient
from tests.integration.sidecar.tunnel.test_tunnel_peers import H2Peer, context
from tests.support.ext_authz_server import authorization_server, message
from tests.support.waiting import SECONDS, until

ANYBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
ASK = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: opa}, rules: [{}]}
"""
LIMITS = patient(detect_timeout=SECONDS)
REQUEST = [(":method", "GET"), (":scheme", "http"), (":authority", "b")]


class Provider:
    """Decides on nothing below /slow, and denies the rest. ``asked`` counts all checks, ``live`` those under way."""

    def __init__(self) -> None:
        self.asked = self.live = 0

    async def __call__(self, check: Any) -> Any:
        self.asked += 1
        self.live += 1
        try:
            if check.attributes.request.http.path.startswith("/slow"):
                await asyncio.Event().wait()
            return message("CheckResponse", status={"code": 7})
        finally:
            self.live -= 1


async def test_a_check_of_a_stream_that_is_reset_is_cancelled_and_the_others_go_on() -> None:
    provider = Provider()
    async with (
        an_app() as app,
        authorization_server(provider) as port,
        governed(
            app.address,
            ANYBODY + ASK,
            mode=Mode.DISABLE,
            protocol=Protocol.HTTP,
            limits=LIMITS,
            ext_authz=(
                ExtAuthzProvider(
                    name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port), timeout=10 * SECONDS
                ),
            ),
        ) as b,
        connected(b.inbound) as (reader, writer),
    ):
        client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        client.initiate_connection()
        numbers = range(1, 41, 2)
        for number in numbers:
            client.send_headers(number, [*REQUEST, (":path", "/slow")], end_stream=True)
        writer.write(client.data_to_send())
        await until(lambda: provider.live == len(numbers))
        for number in numbers[1:]:
            client.reset_stream(number, ErrorCodes.CANCEL)
        writer.write(client.data_to_send())
        await until(lambda: provider.live == 1)
        client.send_headers(101, [*REQUEST, (":path", "/other")], end_stream=True)
        writer.write(client.data_to_send())
        async with asyncio.timeout(SECONDS):
            answered: list[int | None] = []
            while not answered:
                found = client.receive_data(await reader.read(1 << 16))
                answered = [one.stream_id for one in found if isinstance(one, ResponseReceived)]
        assert answered == [101]
        assert (provider.asked, provider.live) == (len(numbers) + 1, 1)
        writer.close()
        await until(lambda: provider.live == 0)
    assert app.connections == 0


@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_a_tunnels_stream_that_is_reset_right_after_its_request_ends_at_once(protocol: Protocol) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ANYBODY, protocol=protocol, tunnel=True, limits=LIMITS) as b,
        connected(b.inbound, context(server_side=False)) as streams,
    ):
        peer = H2Peer(streams, client=True)
        peer.h2.send_headers(1, [(":method", "CONNECT"), (":authority", str(app.address))])
        async with asyncio.timeout(SECONDS):
            async with contextlib.aclosing(peer.events()) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, ResponseReceived):
                        break
            peer.h2.send_data(1, b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\n")
            peer.h2.reset_stream(1, ErrorCodes.CANCEL)
            await peer.flush()
            line = await b.lines.next()
        assert (line["outcome"], line["detail"]) == ("RESET", "the peer reset the stream: CANCEL")
    assert app.seen == []
