"""Istio's policies on the requests of an ASGI app: behind uvicorn with our TLS, and behind a sidecar."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import meshtls
from meshtls import ConfigError, RequestError, authorize_any, client_context, server_context
from meshtls.address import Address
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.integrations.asgi import CONNECTION, Connection
from meshtls.integrations.asgi_policy import CALLER, LINES_PER_SECOND, DenialLines, PolicyMiddleware
from meshtls.integrations.uvicorn import SidecarProtocol, peer_config
from meshtls.policy.istio import explain
from meshtls.policy.library import Policies
from meshtls.pytest.mesh import Mesh
from meshtls.spiffeid import SpiffeId
from tests.integration.library.test_asgi import call, peer_for, running
from tests.support.clock import ManualClock
from tests.support.ext_authz_server import authorization_server, message
from tests.support.jwts import Issuer
from tests.support.waiting import until

OWN = SpiffeId.parse("spiffe://example.org/db")
DENIED = (403, "access denied by policy\n")


def policy(spec: str, *, name: str = "db", kind: str = "AuthorizationPolicy", annotations: str = "{}") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: default, annotations: {annotations}}}
spec: {spec}
---
"""


WEB_MAY_GET = policy(
    "{rules: [{from: [{source: {principals: [example.org/web]}}], to: [{operation: {methods: [GET]}}]}]}"
)
NO_ADMIN = policy("{action: DENY, rules: [{to: [{operation: {paths: ['/admin', '/admin/*']}}]}]}", name="no-admin")


def loaded(directory: Path, text: str, **arguments: Any) -> Policies:
    file = directory / "policies.yaml"
    file.write_text(text)
    return meshtls.policy.load(file, **arguments)


async def show(request: Request) -> JSONResponse:
    caller = request.scope["state"][CALLER]
    return JSONResponse(
        {
            "caller": str(caller) if caller else None,
            "path": request.scope["path"],
            "raw_path": request.scope["raw_path"].decode(),
            "query": request.scope["query_string"].decode(),
            "headers": {name: value for name, value in request.headers.items() if name.startswith("x-")},
            "body": (await request.body()).decode(),
        }
    )


class Count:
    """Answers each part of the body with its length as it comes."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (message := await receive())["type"] == "http.request":
            body = b"%d\n" % len(message["body"]) if message["body"] else b""
            await send({"type": "http.response.body", "body": body, "more_body": message["more_body"]})
            if not message["more_body"]:
                break


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


def app(policies: Policies, **arguments: Any) -> Starlette:
    methods = ["GET", "POST", "PUT"]
    return Starlette(
        routes=[
            WebSocketRoute("/ws", echo),
            Route("/count", Count(), methods=methods),
            Route("/{path:path}", show, methods=methods),
        ],
        middleware=[Middleware(PolicyMiddleware, policies=policies, **arguments)],
    )


@asynccontextmanager
async def served(mesh: Mesh, policies: Policies, **arguments: Any) -> AsyncIterator[str]:
    """The address of the app over our TLS, which every verified peer may connect to."""
    context = server_context(mesh.source("db"), authorize_any())
    async with running(peer_config(app(policies, **arguments), context, log_config=None)) as address:
        yield address


def client(mesh: Mesh, name: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=client_context(mesh.source(name), authorize_any()))


class TestOverTls:
    async def test_each_request_is_judged_by_the_verified_peer(
        self, mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "meshtls.policy")
        policies = loaded(tmp_path, WEB_MAY_GET)
        async with served(mesh, policies) as address, client(mesh, "web") as web, client(mesh, "batch") as batch:
            good = await web.get(f"https://{address}/a?b=c")
            assert (good.status_code, good.json()["caller"]) == (200, "spiffe://example.org/web")
            assert (good.json()["path"], good.json()["query"]) == ("/a", "b=c")
            for answer in (await web.post(f"https://{address}/a"), await batch.get(f"https://{address}/a")):
                assert (answer.status_code, answer.text) == DENIED
                assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            port = address.rpartition(":")[2]
        assert [one.getMessage() for one in caplog.records if one.getMessage().startswith("refused")] == [
            "refused: POST /a: denied: no ALLOW rule matches. The peer is example.org/web; the request is POST /a, on"
            f" port {port}. The nearest is ns[default]-policy[db]-rule[0] ({tmp_path}/policies.yaml, line 5:"
            " spec.rules[0]), which fails in operation.methods: wanted GET, got POST. Send what the rule wants, or"
            " add a rule that allows this.",
            "refused: GET /a: denied: no ALLOW rule matches. The peer is example.org/batch; the request is GET /a, on"
            f" port {port}. The nearest is ns[default]-policy[db]-rule[0] ({tmp_path}/policies.yaml, line 5:"
            " spec.rules[0]), which fails in source.principals: wanted example.org/web, got example.org/batch. Send"
            " what the rule wants, or add a rule that allows this.",
        ]

    @pytest.mark.parametrize(
        ("sent", "status", "read"),
        [
            ("/ok", 200, "/ok"),
            ("/x/../ok", 200, "/ok"),
            ("/%6fk", 200, "/ok"),
            ("/a%2Fb", 200, "/a/b"),
            ("/caf%C3%A9", 200, "/café"),
            ("/administrators", 200, "/administrators"),
            ("/admin", 403, None),
            ("/%61dmin", 403, None),
            ("/x/../admin", 403, None),
            ("/x/%2e%2e/admin", 403, None),
            ("/admin%2Fusers", 403, None),
            ("/x/..%2Fadmin", 403, None),
            ("/a%00", 400, None),
        ],
    )
    async def test_a_path_is_judged_as_the_app_reads_it(
        self, mesh: Mesh, tmp_path: Path, sent: str, status: int, read: str | None
    ) -> None:
        async with served(mesh, loaded(tmp_path, NO_ADMIN)) as address:
            context = client_context(mesh.source("web"), authorize_any())
            got, body = await raw_get(context, address, sent)
        assert got == status
        if read is not None:
            assert f'"path":"{read}"' in body
        elif status == 400:
            assert body == "path '/a%00': wanted no NUL (%00)\n"
        else:
            assert body == DENIED[1]

    async def test_a_body_streams_both_ways(self, mesh: Mesh, tmp_path: Path) -> None:
        async with served(mesh, loaded(tmp_path, NO_ADMIN)) as address:
            host, port = address.split(":")
            context = client_context(mesh.source("web"), authorize_any())
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            writer.write(f"POST /count HTTP/1.1\r\nhost: {address}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
            for part in (b"one", b"three"):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                await reader.readuntil(b"\r\n%d\n\r\n" % len(part))
            writer.write(b"0\r\n\r\n")
            await reader.readuntil(b"0\r\n\r\n")
            writer.close()
            await writer.wait_closed()

    async def test_a_refused_request_with_a_body_gets_its_answer(self, mesh: Mesh, tmp_path: Path) -> None:
        async with served(mesh, loaded(tmp_path, NO_ADMIN)) as address, client(mesh, "web") as web:
            for path, status in (("/admin", 403), ("/other", 200)):
                answer = await web.post(f"https://{address}{path}", content=b"x" * 100_000)
                assert answer.status_code == status

    async def test_addresses_are_those_of_the_socket_whatever_a_header_says(self, mesh: Mesh, tmp_path: Path) -> None:
        not_local = policy("{action: DENY, rules: [{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}]}")
        for text, status in ((not_local, 403), (not_local.replace("127", "10"), 200)):
            async with served(mesh, loaded(tmp_path, text)) as address, client(mesh, "web") as web:
                answer = await web.get(f"https://{address}/", headers={"x-forwarded-for": "192.0.2.1"})
                assert answer.status_code == status

    async def test_a_forwarded_certificate_of_a_client_neither_counts_nor_reaches_the_app(
        self, mesh: Mesh, tmp_path: Path
    ) -> None:
        headers = {"x-forwarded-client-cert": f"By={OWN};Hash=00;URI=spiffe://example.org/web", "x-kept": "1"}
        async with served(mesh, loaded(tmp_path, WEB_MAY_GET)) as address:
            async with client(mesh, "batch") as batch:
                assert (await batch.get(f"https://{address}/", headers=headers)).status_code == 403
            async with client(mesh, "web") as web:
                answer = await web.get(f"https://{address}/", headers=headers)
                assert answer.json()["headers"] == {"x-kept": "1"}

    async def test_a_change_of_the_files_counts_for_the_next_request(self, mesh: Mesh, tmp_path: Path) -> None:
        with loaded(tmp_path, WEB_MAY_GET, watch=True) as policies:
            async with served(mesh, policies) as address, client(mesh, "web") as web:
                assert (await web.get(f"https://{address}/")).status_code == 200
                (tmp_path / "policies.yaml").write_text(policy("{}"))
                await until(lambda: not policies.documents.authorization_policies[0].rules)
                assert (await web.get(f"https://{address}/")).status_code == 403

    async def test_a_dry_run_is_logged_and_refuses_nothing(
        self, mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "meshtls.policy")
        dry = policy("{}", annotations="{istio.io/dry-run: 'true'}")
        async with served(mesh, loaded(tmp_path, dry)) as address, client(mesh, "web") as web:
            assert (await web.get(f"https://{address}/")).status_code == 200
        (line,) = [one.getMessage() for one in caplog.records if one.getMessage().startswith("dry run")]
        assert line.startswith("dry run: denied: denied: no ALLOW rule matches. ns[default]-policy[db] has no rules")

    async def test_an_unknown_provider_denies_what_a_custom_policy_matches(self, mesh: Mesh, tmp_path: Path) -> None:
        custom = policy(
            "{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/asked, /asked/*]}}]}]}"
        )
        async with served(mesh, loaded(tmp_path, custom)) as address, client(mesh, "web") as web:
            for path, status in (("/asked", 403), ("/asked%2Fx", 403), ("/other", 200)):
                answer = await web.get(f"https://{address}{path}")
                assert answer.status_code == status
                if status == 403:
                    assert answer.text == "access denied by policy\n"

    async def test_a_provider_is_asked_about_each_path_that_a_request_may_have(
        self, mesh: Mesh, tmp_path: Path
    ) -> None:
        asked: list[str] = []

        async def decide(request: Any) -> Any:
            path = request.attributes.request.http.path
            asked.append(path)
            if path.startswith("/admin/"):
                return message("CheckResponse", status={"code": 7})
            added = [{"header": {"key": "x-seen", "value": path}}, {"header": {"key": "x-by", "value": "opa"}}]
            return message("CheckResponse", status={"code": 0}, ok_response={"response_headers_to_add": added})

        custom = policy("{action: CUSTOM, provider: {name: opa}, rules: [{}]}")
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(authorization_server(decide))
            opa = ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port))
            address = await stack.enter_async_context(served(mesh, loaded(tmp_path, custom), ext_authz=[opa]))
            web = await stack.enter_async_context(client(mesh, "web"))
            for path, status, forms in (
                ("/users", 200, ["/users"]),
                ("/admin/users", 403, ["/admin/users"]),
                ("/admin%2Fusers", 403, ["/admin%2Fusers", "/admin/users"]),
                ("/my%2Fusers", 200, ["/my%2Fusers", "/my/users"]),
            ):
                asked.clear()
                answer = await web.get(f"https://{address}{path}")
                assert (answer.status_code, asked) == (status, forms)
                if status == 200:
                    assert answer.headers.get_list("x-seen") == forms
                    assert answer.headers.get_list("x-by") == ["opa"]


async def raw_get(context: ssl.SSLContext, address: str, path: str) -> tuple[int, str]:
    """With the path as it is: httpx would normalize it."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


class TestWebSocket:
    async def test_a_websocket_is_judged_by_its_request(self, mesh: Mesh, tmp_path: Path) -> None:
        async with served(mesh, loaded(tmp_path, WEB_MAY_GET)) as address, aiohttp.ClientSession() as session:
            web = client_context(mesh.source("web"), authorize_any())
            async with session.ws_connect(f"https://{address}/ws", ssl=web) as socket:
                await socket.send_str("hello")
                assert await socket.receive_str() == "hello"
            batch = client_context(mesh.source("batch"), authorize_any())
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"https://{address}/ws", ssl=batch)
            assert refused.value.status == 403

    async def test_a_change_of_policy_ends_a_websocket_at_its_next_message(self, mesh: Mesh, tmp_path: Path) -> None:
        policies = loaded(tmp_path, WEB_MAY_GET)
        async with served(mesh, policies) as address, aiohttp.ClientSession() as session:
            web = client_context(mesh.source("web"), authorize_any())
            async with session.ws_connect(f"https://{address}/ws", ssl=web) as socket:
                (tmp_path / "policies.yaml").write_text(WEB_MAY_GET + NO_ADMIN)
                policies.reload()
                await socket.send_str("still allowed")
                assert await socket.receive_str() == "still allowed"
                (tmp_path / "policies.yaml").write_text(policy("{}"))
                policies.reload()
                await socket.send_str("denied")
                message = await socket.receive()
                assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1008)

    async def test_a_newer_custom_policy_ends_a_websocket_whose_provider_was_not_asked(
        self, mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def decide(request: Any) -> Any:
            return message("CheckResponse", status={"code": 0}, ok_response={})

        caplog.set_level(logging.INFO, "meshtls.policy")
        policies = loaded(tmp_path, WEB_MAY_GET)
        web = client_context(mesh.source("web"), authorize_any())
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(authorization_server(decide))
            opa = ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port))
            address = await stack.enter_async_context(served(mesh, policies, ext_authz=[opa]))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            older = await stack.enter_async_context(session.ws_connect(f"https://{address}/ws", ssl=web))
            custom = policy("{action: CUSTOM, provider: {name: opa}, rules: [{}]}", name="ask")
            (tmp_path / "policies.yaml").write_text(WEB_MAY_GET + custom)
            policies.reload()
            await older.send_str("denied")
            closed = await older.receive()
            assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1008)
            denied = "denied: ns[default]-policy[ask] is newer than the request, and its provider was not asked"
            assert f"closed: WebSocket /ws: {denied}" in [one.getMessage() for one in caplog.records]
            newer = await stack.enter_async_context(session.ws_connect(f"https://{address}/ws", ssl=web))
            await newer.send_str("allowed")
            assert await newer.receive_str() == "allowed"


class TestTokens:
    async def test_a_bad_token_is_401_and_a_good_one_names_the_caller(self, mesh: Mesh, tmp_path: Path) -> None:
        issuer = Issuer("https://issuer.test", datetime.now(UTC))
        text = policy(
            f"{{jwtRules: [{{issuer: {issuer.name!r}, jwks: {issuer.jwks()!r}}}]}}", kind="RequestAuthentication"
        ) + policy("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}")
        async with served(mesh, loaded(tmp_path, text)) as address, client(mesh, "web") as web:
            url = f"https://{address}/"
            assert (await web.get(url)).status_code == 403
            good = await web.get(url, headers={"authorization": f"Bearer {issuer.token(sub='ann')}"})
            assert good.status_code == 200
            bad = await web.get(url, headers={"authorization": "Bearer x.y.z"})
            assert bad.status_code == 401
            assert bad.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            assert bad.text == "the request's token is refused\n"

    async def test_a_provider_is_asked_about_a_request_whose_token_was_taken_out(
        self, mesh: Mesh, tmp_path: Path
    ) -> None:
        issuer = Issuer("https://issuer.test", datetime.now(UTC))
        rule = f"{{issuer: {issuer.name!r}, jwks: {issuer.jwks()!r}, fromParams: [access_token]}}"
        text = policy(f"{{jwtRules: [{rule}]}}", kind="RequestAuthentication")
        asked: list[str] = []

        async def decide(request: Any) -> Any:
            asked.append(request.attributes.request.http.path)
            return message("CheckResponse", status={"code": 0}, ok_response={})

        text += policy("{action: CUSTOM, provider: {name: opa}, rules: [{}]}")
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(authorization_server(decide))
            opa = ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port))
            address = await stack.enter_async_context(served(mesh, loaded(tmp_path, text), ext_authz=[opa]))
            web = await stack.enter_async_context(client(mesh, "web"))
            for token, status, paths in (
                (issuer.token(), 200, ["/my%2Fusers?a=1", "/my/users?a=1"]),
                ("x.y.z", 401, []),
            ):
                asked.clear()
                answer = await web.get(f"https://{address}/my%2Fusers?access_token={token}&a=1")
                assert (answer.status_code, asked) == (status, paths)


class TestBehindASidecar:
    """What the sidecar sends is imitated here."""

    @asynccontextmanager
    async def plain(self, policies: Policies, **settings: Any) -> AsyncIterator[str]:
        served = app(policies, trust_forwarded_client_cert=True)
        async with running(uvicorn.Config(served, log_config=None, **settings)) as address:
            yield address

    @pytest.mark.parametrize(
        ("forwarded", "status", "caller"),
        [
            (f"By={OWN};Hash=00;URI=spiffe://example.org/web", 200, "spiffe://example.org/web"),
            (f"By={OWN};Hash=00;URI=spiffe://example.org/batch", 403, None),
            (
                f'By=spiffe://a.test/x;Hash=00;URI=spiffe://example.org/batch,By={OWN};Hash=00;Cert="a,b;c";'
                "URI=spiffe://example.org/web",
                200,
                "spiffe://example.org/web",
            ),
            (
                f"By={OWN};Hash=00;URI=spiffe://example.org/web,By={OWN};Hash=0;URI=spiffe://example.org/batch",
                403,
                None,
            ),
            ("By=spiffe://example.org/other;Hash=00;URI=spiffe://example.org/web", 403, None),
            (f"By={OWN};Hash=00;URI=spiffe://example.org/web;URI=spiffe://example.org/web", 403, None),
            ("URI=spiffe://example.org/web", 403, None),
            ("", 403, None),
            (None, 403, None),
        ],
    )
    async def test_the_last_element_names_the_caller_if_it_is_the_own_sidecar_s(
        self, tmp_path: Path, forwarded: str | None, status: int, caller: str | None
    ) -> None:
        policies = loaded(tmp_path, WEB_MAY_GET, spiffe_id=OWN)
        headers = {} if forwarded is None else {"x-forwarded-client-cert": forwarded}
        async with self.plain(policies) as address, httpx.AsyncClient() as one:
            answer = await one.get(f"http://{address}/", headers=headers)
        assert answer.status_code == status
        assert caller is None or answer.json()["caller"] == caller

    async def test_plaintext_is_judged_too_and_strict_refuses_it(self, tmp_path: Path) -> None:
        strict = policy("{mtls: {mode: STRICT}}", kind="PeerAuthentication")
        for text, status in ((NO_ADMIN, 200), (NO_ADMIN + strict, 403)):
            policies = loaded(tmp_path, text, spiffe_id=OWN)
            async with self.plain(policies) as address, httpx.AsyncClient() as one:
                answer = await one.get(f"http://{address}/")
            assert answer.status_code == status
            assert status != 200 or answer.json()["caller"] is None

    @pytest.mark.parametrize(
        ("claim", "status"),
        [
            ({"x-forwarded-for": "127.0.0.1"}, 403),
            ({"x-forwarded-for": "127.0.0.1", "connection": "x-forwarded-for"}, 403),
            ({"forwarded": "for=127.0.0.1"}, 403),
            ({"x-forwarded-proto": "https"}, 200),
        ],
    )
    async def test_a_claimed_address_needs_a_protocol_that_knows_the_socket(
        self, tmp_path: Path, claim: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """uvicorn puts what X-Forwarded-For says into ``scope["client"]``: anybody could claim to be on loopback."""
        caplog.set_level(logging.INFO, "meshtls.policy")
        policies = loaded(tmp_path, WEB_MAY_GET, spiffe_id=OWN)
        headers = {"x-forwarded-client-cert": f"By={OWN};Hash=00;URI=spiffe://example.org/web", **claim}
        for settings, wanted in (({}, status), ({"http": SidecarProtocol}, 200)):
            async with self.plain(policies, **settings) as address, httpx.AsyncClient() as one:
                assert (await one.get(f"http://{address}/", headers=headers)).status_code == wanted
        assert [one for one in caplog.messages if one.startswith("refused")] == [
            f"refused: GET /: {next(iter(claim))} may have changed the address of the client; serve the application"
            " with http='meshtls.integrations.uvicorn:SidecarProtocol'"
        ] * (status == 403)

    @pytest.mark.parametrize(("source", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.1", 403), (None, 403)])
    async def test_a_forwarded_certificate_counts_from_loopback_only(
        self, tmp_path: Path, source: str | None, status: int
    ) -> None:
        policies = loaded(tmp_path, WEB_MAY_GET, spiffe_id=OWN)
        scope = http_scope([(b"x-forwarded-client-cert", f"By={OWN};Hash=00;URI=spiffe://example.org/web".encode())])
        scope["state"] = {CONNECTION: Connection(source, "127.0.0.1", 8080)}
        sent = await call(PolicyMiddleware(fine, policies, trust_forwarded_client_cert=True), scope)
        assert sent[0]["status"] == status

    async def test_a_forwarded_certificate_is_ignored_without_the_loud_argument(self, tmp_path: Path) -> None:
        policies = loaded(tmp_path, WEB_MAY_GET, spiffe_id=OWN)
        scope = http_scope([(b"x-forwarded-client-cert", f"By={OWN};Hash=00;URI=spiffe://example.org/web".encode())])
        scope["state"] = {CONNECTION: Connection("127.0.0.1", "127.0.0.1", 8080)}
        sent = await call(PolicyMiddleware(fine, policies), scope)
        assert [sent[0]["status"], sent[1]["body"]] == [403, DENIED[1].encode()]

    async def test_a_condition_on_the_server_name_denies_all(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "meshtls.policy")
        sni = policy("{action: DENY, rules: [{when: [{key: connection.sni, values: [a.test]}]}]}")
        policies = loaded(tmp_path, sni, spiffe_id=OWN)
        async with self.plain(policies) as address, httpx.AsyncClient() as one:
            assert (await one.get(f"http://{address}/")).status_code == 403
        assert (
            "refused: GET /: ns[default]-policy[db] asks for connection.sni, which a sidecar does not tell; enforce it"
            " in the sidecar"
        ) in caplog.text

    def test_trust_in_a_sidecar_without_its_id_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as refused:
            PolicyMiddleware(fine, loaded(tmp_path, WEB_MAY_GET), trust_forwarded_client_cert=True)
        assert str(refused.value) == (
            "trust_forwarded_client_cert: wanted the ID whose sidecar is trusted, got none; give it as"
            " policy.load(..., spiffe_id=...)"
        )


def http_scope(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    headers = headers if any(name == b"host" for name, _ in headers) else [(b"host", b"a.test"), *headers]
    return {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": headers}


async def fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


class TestFailsClosed:
    async def test_a_server_that_verifies_nobody_gets_403_for_each_request(self, tmp_path: Path) -> None:
        config = uvicorn.Config(app(loaded(tmp_path, NO_ADMIN)), log_config=None)
        async with running(config) as address, httpx.AsyncClient() as one:
            answer = await one.get(f"http://{address}/")
        assert (answer.status_code, answer.text) == DENIED

    async def test_policies_that_raise_deny(self, mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        policies = loaded(tmp_path, WEB_MAY_GET)
        scope = http_scope([])
        scope["state"] = {"spiffe_peer": peer_for(mesh, "web"), CONNECTION: Connection("::1", "::1", 1, OWN)}
        assert (await call(PolicyMiddleware(fine, policies), dict(scope)))[0]["status"] == 200
        broken = PolicyMiddleware(fine, policies)
        scope["headers"] = None
        sent = await call(broken, scope)
        assert [sent[0]["status"], sent[1]["body"]] == [403, DENIED[1].encode()]
        assert "the policies failed; denying" in caplog.text

    async def test_two_hosts_are_400(self, mesh: Mesh, tmp_path: Path) -> None:
        scope = http_scope([(b"host", b"a.test"), (b"host", b"b.test")])
        sent = await call(PolicyMiddleware(fine, loaded(tmp_path, NO_ADMIN)), scope)
        assert [sent[0]["status"], sent[1]["body"]] == [400, b"wanted one host at most, got several\n"]

    @pytest.mark.parametrize(("method", "status"), [("POST", 200), ("post", 400), ("Post", 400), ("PO ST", 400)])
    async def test_a_method_in_small_letters_is_400(self, mesh: Mesh, tmp_path: Path, method: str, status: int) -> None:
        scope = http_scope([])
        scope["method"] = method
        scope["state"] = {"spiffe_peer": peer_for(mesh, "web"), CONNECTION: Connection("::1", "::1", 1, OWN)}
        sent = await call(PolicyMiddleware(fine, loaded(tmp_path, NO_ADMIN)), scope)
        assert sent[0]["status"] == status
        if status == 400:
            body = f"method: wanted one in capital letters, got {method!r}\n"
            assert sent[1]["body"].decode() == body

    async def test_an_unknown_kind_of_scope_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError) as refused:
            await call(PolicyMiddleware(fine, loaded(tmp_path, NO_ADMIN)), {"type": "radio"})
        assert str(refused.value) == "ASGI scope: wanted http, websocket or lifespan, got 'radio'"

    def test_an_argument_that_is_not_policies_is_refused(self) -> None:
        with pytest.raises(TypeError) as refused:
            PolicyMiddleware(fine, lambda peer, target: True)  # type: ignore[arg-type]  # that is the fault
        assert str(refused.value) == "PolicyMiddleware: wanted what meshtls.policy.load gives, got function"


class TestLog:
    """Denials, which anyone can cause, are put into words only for lines that are written."""

    RULES = 20
    SPEC = f"{{rules: [{', '.join(['{from: [{source: {principals: [example.org/else]}}]}'] * RULES)}]}}"

    @pytest.fixture
    def compared(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """The rules that were compared with a request, to find the nearest."""
        rules: list[object] = []
        compare = explain._compare_rule

        def counted(rule: Any, judged: Any) -> Any:
            rules.append(rule)
            return compare(rule, judged)

        monkeypatch.setattr(explain, "_compare_rule", counted)
        return rules

    def middleware(self, directory: Path, text: str) -> PolicyMiddleware:
        return PolicyMiddleware(fine, loaded(directory, text))

    def scope(self, mesh: Mesh) -> dict[str, Any]:
        peer = peer_for(mesh, "web")
        return http_scope([]) | {"state": {"spiffe_peer": peer, CONNECTION: Connection("::1", "::1", 1, OWN)}}

    @pytest.mark.parametrize(
        ("annotations", "status", "begin", "left_out"),
        [
            ("{}", 403, "refused: GET /: denied: no ALLOW rule matches", "a line of a denied request"),
            (
                "{istio.io/dry-run: 'true'}",
                200,
                "dry run: denied: denied: no ALLOW rule matches",
                "what dry-run policies say of a request",
            ),
        ],
        ids=["enforced", "dry run"],
    )
    async def test_above_the_rate_a_denial_is_counted_and_not_explained(
        self,
        mesh: Mesh,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        compared: list[object],
        annotations: str,
        status: int,
        begin: str,
        left_out: str,
    ) -> None:
        caplog.set_level(logging.INFO, "meshtls.policy")
        asgi, scope = self.middleware(tmp_path, policy(self.SPEC, annotations=annotations)), self.scope(mesh)
        clock = ManualClock()
        asgi._lines = DenialLines(clock.monotonic)
        most = int(10 * LINES_PER_SECOND)
        for _ in range(most + 5):
            assert (await call(asgi, dict(scope)))[0]["status"] == status
        messages = caplog.messages
        assert [one.startswith(begin) for one in messages] == [True] * most + [False]
        assert messages[-1] == f"{left_out} left out, above 100 a second"
        assert len(compared) == most * self.RULES
        clock.advance(10)
        await call(asgi, dict(scope))
        assert caplog.messages[most + 1] == f"{left_out} left out, above 100 a second (3 more like it)"
        assert caplog.messages[most + 2].startswith(begin)

    @pytest.mark.parametrize(("annotations", "status"), [("{}", 403), ("{istio.io/dry-run: 'true'}", 200)])
    async def test_a_denial_is_not_explained_where_nobody_logs_it(
        self,
        mesh: Mesh,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        compared: list[object],
        annotations: str,
        status: int,
    ) -> None:
        caplog.set_level(logging.WARNING, "meshtls.policy")
        asgi = self.middleware(tmp_path, policy(self.SPEC, annotations=annotations))
        assert (await call(asgi, self.scope(mesh)))[0]["status"] == status
        assert compared == []

    async def test_a_long_path_is_cut(self, mesh: Mesh, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "meshtls.policy")
        scope = self.scope(mesh) | {"path": "/" + "x" * 9000, "raw_path": b"/" + b"x" * 9000}
        await call(self.middleware(tmp_path, policy(self.SPEC)), scope)
        assert caplog.messages[0].startswith(f"refused: GET /{'x' * 2047}...: denied: no ALLOW rule matches")


async def test_the_lifespan_passes_untouched(mesh: Mesh, tmp_path: Path) -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("startup", "shutdown"):
                seen.append((await receive())["type"])
                await send({"type": f"lifespan.{answer}.complete"})
            return
        await PlainTextResponse("fine")(scope, receive, send)

    wrapped = PolicyMiddleware(inner, loaded(tmp_path, WEB_MAY_GET))
    context = server_context(mesh.source("db"), authorize_any())
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(running(peer_config(wrapped, context, log_config=None)))
        web = await stack.enter_async_context(client(mesh, "web"))
        assert (await web.get(f"https://{address}/")).text == "fine"
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


async def test_an_unchanged_request_has_the_very_scope_values_of_the_server(mesh: Mesh, tmp_path: Path) -> None:
    got: list[MutableMapping[str, Any]] = []

    async def keep(scope: Any, receive: Any, send: Any) -> None:
        got.append(scope)
        await fine(scope, receive, send)

    scope = http_scope([(b"host", b"a.test"), (b"content-length", b"0"), (b"accept", b"*/*")])
    scope["state"] = {"spiffe_peer": peer_for(mesh, "web"), CONNECTION: Connection("::1", "::1", 1, OWN)}
    await call(PolicyMiddleware(keep, loaded(tmp_path, WEB_MAY_GET)), scope)
    (seen,) = got
    assert seen["state"].pop(CALLER) == SpiffeId.parse("spiffe://example.org/web")
    assert seen == scope
