"""A web app that speaks HTTP/1.1 and HTTP/2 in plaintext, and records the requests that it got."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from meshtls.address import Address
from tests.support.hypercorn_serving import hypercorn_serving

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

__all__ = ["POLICY", "WebApp", "web_app"]

#: Service A may GET and POST below /ok, and open a WebSocket at /ws.
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {methods: [GET, POST], paths: [/ok, /ok/*, /ws]}}]
"""


@dataclass
class WebApp:
    """Answers a POST with its body and a GET with "hello", and echoes a WebSocket's messages.

    ``seen`` has method, path and version of each request.
    """

    address: Address
    seen: list[tuple[str, str, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            self.seen.append((scope["method"], scope["path"], scope["http_version"]))
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet")]}
            )
            if scope["method"] == "GET":
                await send({"type": "http.response.body", "body": b"hello", "more_body": False})
            more = scope["method"] != "GET"
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return
                more = message["more_body"]
                await send({"type": "http.response.body", "body": message["body"], "more_body": more})
        elif scope["type"] == "websocket":
            self.seen.append(("WEBSOCKET", scope["path"], scope["http_version"]))
            await receive()
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
            while (event := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": None, "text": event["text"]})


@contextlib.asynccontextmanager
async def web_app() -> AsyncIterator[WebApp]:
    """Hypercorn, on loopback."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    app = WebApp(Address(*listening.getsockname()[:2]))
    async with hypercorn_serving(app, listening, h2_max_concurrent_streams=1000):
        yield app
