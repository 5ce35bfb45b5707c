"""The middleware judges the headers and the host that a sidecar judges, whatever its server makes of a request."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from meshtls import authorize_any, client_context
from meshtls.address import Address
from meshtls.pytest.mesh import Mesh
from meshtls.sidecar.settings import Mode, Protocol
from tests.integration.library.asgi_servers import SERVERS, answered, hypercorn
from tests.integration.library.test_asgi_policy import OWN, app, fine, loaded, policy, served
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import B

HOST = b"Host: a.test"
KEY = base64.b64encode(bytes(16))
WEBSOCKET = (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY)


def headers(action: str, name: str, value: str) -> str:
    """A policy on one header."""
    return policy(f"{{action: {action}, rules: [{{when: [{{key: 'request.headers[{name}]', values: ['{value}']}}]}}]}}")


def hosts(*values: str) -> str:
    return policy(f"{{action: DENY, rules: [{{to: [{{operation: {{hosts: [{', '.join(values)}]}}}}]}}]}}")


def get(*lines: bytes, host: bytes = HOST, start: bytes = b"GET / HTTP/1.1", body: bytes = b"") -> bytes:
    return b"\r\n".join((start, *([host] if host else []), *lines, b"", body))


GUEST = headers("DENY", "x-role", "guest")
NO_B = hosts("b")
NO_EXPECT = headers("DENY", "expect", "*")
POST = b"POST / HTTP/1.1"
HANDSHAKE = {"start": b"GET /ws HTTP/1.1"}
CASES = [
    # Blanks around a value are not part of it (RFC 9110, section 5.5).
    (GUEST, get(b"X-Role: guest\t"), 403),
    (GUEST, get(b"X-Role:  \t guest \t "), 403),
    (GUEST, get(b"X-Role: other\t"), 200),
    (NO_B, get(host=b"Host: b "), 403),
    (NO_B, get(host=b"Host: c "), 200),
    (NO_B, get(host=b"Host: B"), 403),
    *((NO_B, get(host=b"Host: " + host), 400) for host in (b"u@b", b"b,c", b"b/x", b"%62", b"", b"b:99999")),
    (NO_B, get(host=b""), 400),
    (NO_B, get(b"Host: c"), 400),
    # Fields that are only for the connection (RFC 9110, section 7.6.1).
    (headers("ALLOW", "authorization", "*"), get(b"Authorization: x", b"Connection: authorization"), 403),
    (headers("ALLOW", "authorization", "*"), get(b"Authorization: x", b"Connection: x-other"), 200),
    (NO_B, get(b"Connection: host"), 400),
    (NO_B, get(b"Connection: x-host"), 200),
    (headers("ALLOW", "upgrade", "*"), get(b"Connection: upgrade", b"Upgrade: foo"), 403),
    (headers("DENY", "upgrade", "foo"), get(b"Connection: upgrade", b"Upgrade: foo"), 200),
    (NO_EXPECT, get(b"Expect: 100-continue"), 200),
    (NO_EXPECT, get(b"Expect: 100-continue", b"Content-Length: 0", start=POST), 200),
    (NO_EXPECT, get(b"Expect: 100-Continue", b"Content-Length: 1", start=POST, body=b"x"), 403),
    (GUEST, get(b"Expect: 100-continue", b"Content-Length: 1", start=POST, body=b"x"), 200),
    (GUEST, get(b"Expect: else"), 417),
    (GUEST, get(b"Expect: 100-continue", b"Expect: 100-continue"), 400),
    # Values are compared as UTF-8.
    (headers("DENY", "x-team", "Köln"), get("X-Team: Köln".encode()), 403),
    (headers("DENY", "x-team", "Köln"), get("X-Team: Köln".encode("latin-1")), 200),
    # WSGI takes an underscore for a dash.
    (GUEST, get(b"x_role: guest"), 400),
    (GUEST, get(b"content_length: 1"), 400),
    (GUEST, get(b"Transfer-Encoding: chunked", start=POST, body=b"0\r\n\r\n"), 200),
    # The target names another host than Host (RFC 9112, section 3.2.2), or the same.
    (NO_B, get(start=b"GET http://a.test/ HTTP/1.1"), 200),
]
POLICIES = list(dict.fromkeys(text for text, _, _ in CASES))


@asynccontextmanager
async def a_sidecar(text: str) -> AsyncIterator[str]:
    """Before an app that allows all."""
    async with AsyncExitStack() as stack:
        app_at = Address.parse(await stack.enter_async_context(hypercorn(fine)))
        node = governed(app_at, text, mode=Mode.PERMISSIVE, protocol=Protocol.HTTP)
        yield str((await stack.enter_async_context(node)).inbound)


@asynccontextmanager
async def a_service(server: str, directory: Path, text: str) -> AsyncIterator[str]:
    """With the middleware, and requests of nobody, as a sidecar passes plaintext on."""
    policies = loaded(directory, text, spiffe_id=B)
    async with SERVERS[server](app(policies, trust_forwarded_client_cert=True)) as address:
        yield address


@pytest.mark.parametrize("kind", ["a sidecar", *SERVERS])
class TestHttp1:
    @asynccontextmanager
    async def judging(self, kind: str, directory: Path, text: str) -> AsyncIterator[str]:
        async with a_sidecar(text) if kind not in SERVERS else a_service(kind, directory, text) as address:
            yield address

    @pytest.mark.parametrize("text", POLICIES, ids=range(len(POLICIES)))
    async def test_a_request_is_judged_by_the_same_headers_and_host(self, tmp_path: Path, kind: str, text: str) -> None:
        cases = {request: status for policies, request, status in CASES if policies == text}
        async with self.judging(kind, tmp_path, text) as address:
            assert {request: (await answered(address, request))[0] for request in cases} == cases

    @pytest.mark.parametrize(("denied", "status"), [("websocket", 403), ("other", 101)])
    async def test_a_websocket_has_its_upgrade_in_lower_case(
        self, tmp_path: Path, kind: str, denied: str, status: int
    ) -> None:
        lines = (b"Connection: Upgrade", b"Upgrade: WebSocket", *WEBSOCKET)
        async with self.judging(kind, tmp_path, headers("DENY", "upgrade", denied)) as address:
            found, _ = await answered(address, get(*lines, **HANDSHAKE))
        # The app behind the sidecar has no WebSockets.
        assert found == status if kind in SERVERS or status == 403 else found != 403


@pytest.mark.parametrize("server", SERVERS)
class TestServersOwnRules:
    """What a sidecar would pass on as another request, and the server takes for a WebSocket."""

    @pytest.mark.parametrize("line", [b"Connection: close", b"Content-Length: 0"])
    async def test_a_request_that_the_server_takes_for_a_websocket_is_judged_as_a_websocket(
        self, tmp_path: Path, server: str, line: bytes
    ) -> None:
        lines = (line, b"Connection: Upgrade", b"Upgrade: websocket", *WEBSOCKET)
        for denied, status in (("websocket", 403), ("other", 101)):
            async with a_service(server, tmp_path, headers("DENY", "upgrade", denied)) as address:
                assert (await answered(address, get(*lines, **HANDSHAKE)))[0] == status

    async def test_names_with_underscores_are_let_in_if_asked_for(self, tmp_path: Path, server: str) -> None:
        policies = loaded(tmp_path, GUEST, spiffe_id=B)
        wrapped = app(policies, trust_forwarded_client_cert=True, underscore_names=True)
        async with SERVERS[server](wrapped) as address:
            for line, status in ((b"x_role: guest", 200), (b"x-role: guest", 403), (b"content_length: 1", 400)):
                assert (await answered(address, get(line)))[0] == status

    async def test_the_app_gets_the_headers_that_were_judged(self, tmp_path: Path, server: str) -> None:
        request = get(b"X-Role: guest", b"X-Blank: a\t", b"X-Other: b", b"Connection: x-role, close")
        async with a_service(server, tmp_path, GUEST) as address:
            status, body = await answered(address, request)
        assert status == 200
        assert '"headers":{"x-blank":"a","x-other":"b"}' in body


@pytest.mark.parametrize("line", [b"x-forwarded-client-cert", b"x_forwarded_client_cert", b"X_Forwarded-Client_Cert"])
async def test_no_spelling_of_a_forwarded_certificate_reaches_the_app(mesh: Mesh, tmp_path: Path, line: bytes) -> None:
    forged = b"%b: By=%b;Hash=00;URI=spiffe://example.org/web" % (line, str(OWN).encode())
    async with served(mesh, loaded(tmp_path, GUEST), underscore_names=True) as address:
        tls = client_context(mesh.source("batch"), authorize_any())
        status, body = await answered(address, get(forged, b"X-Kept: 1"), ssl=tls)
    assert (status, '"headers":{"x-kept":"1"}' in body) == (200, True)


class TestHttp2:
    @pytest.mark.parametrize(
        ("text", "fields", "status"),
        [
            (GUEST, {"x-role": "guest"}, 403),
            (GUEST, {"x-role": "other"}, 200),
            # A field like any other in HTTP/2, with a body or without.
            (NO_EXPECT, {"expect": "100-continue"}, 403),
            (headers("DENY", "expect", "else"), {"expect": "100-continue"}, 200),
            (headers("DENY", "te", "*"), {"te": "trailers"}, 200),
            (hosts("b"), {"host": "b"}, 403),
            (hosts("b"), {"host": "c"}, 200),
            (hosts("b"), {"host": "u@b"}, 400),
            (GUEST, {"x_role": "guest"}, 400),
        ],
    )
    @pytest.mark.parametrize("kind", ["a sidecar", "hypercorn"])
    async def test_a_request_is_judged_by_the_same_headers_and_host(
        self, tmp_path: Path, kind: str, text: str, fields: dict[str, str], status: int
    ) -> None:
        judging = a_sidecar(text) if kind not in SERVERS else a_service(kind, tmp_path, text)
        async with judging as address, httpx.AsyncClient(http1=False, http2=True) as client:
            try:
                found = (await client.get(f"http://{address}/", headers=fields)).status_code
            except httpx.RemoteProtocolError:  # the sidecar resets the stream
                found = 400
        assert found == status
