"""Tokens and external authorization through a listener: what is asked, what the app gets, what is refused."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from meshtls.address import Address
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.sidecar.settings import Mode, Protocol
from tests.integration.sidecar.governed import a_web_app, governed, with_policies
from tests.integration.sidecar.mesh import A, Node, an_app, connected, echoed, patient, side_a
from tests.support.ext_authz_server import authorization_server, message
from tests.support.jwts import Issuer
from tests.support.waiting import SECONDS, until

ANYBODY = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
ALICE = ANYBODY.replace("rules: [{}]", "rules: [{from: [{source: {requestPrincipals: [https://issuer.test/alice]}}]}]")
CUSTOM = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: opa}, rules: [RULE]}
"""
PATIENT = patient(detect_timeout=SECONDS)


def url(node: Node, path: str) -> str:
    return f"http://{node.outbound}{path}"


def tokens_of(issuer: Issuer) -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: default}}
spec:
  jwtRules: [{{issuer: "{issuer.name}", jwks: '{issuer.jwks()}', outputPayloadToHeader: x-payload}}]
"""


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_token_is_verified_and_names_the_caller_for_policies_and_the_app(tunnel: bool) -> None:
    issuer = Issuer("https://issuer.test", datetime.now(UTC))
    forged = Issuer("https://issuer.test", datetime.now(UTC), key=Issuer("x", issuer.now, key_id="two").key)
    async with (
        a_web_app() as app,
        governed(app.address, tokens_of(issuer) + ALICE, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        httpx.AsyncClient() as client,
    ):
        for token, status in (
            (issuer.token(), 200),
            (issuer.token(sub="bob"), 403),
            (issuer.token(exp=1), 401),
            (forged.token() + "x", 401),
            (None, 403),
        ):
            headers = {"x-payload": "forged"} | ({"authorization": f"Bearer {token}"} if token else {})
            answer = await client.get(url(a, "/ok"), headers=headers)
            line = await b.lines.next()
            assert (answer.status_code, line["status"]) == (status, status)
            if status == 200:
                told = answer.json()["headers"]
                assert "authorization" not in told
                assert told["x-payload"] == issuer.token().split(".")[1]
            if status == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer ")
                assert line["detail"].startswith("the request's token is refused: ")
                assert (line["outcome"], line["reason"]) == ("TOKEN_REFUSED", "a token in the HTTP request was refused")
    assert app.seen == ["GET /ok HTTP/1.1"]


def provider(port: int, **changes: Any) -> ExtAuthzProvider:
    given = ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", port), timeout=30.0)
    return msgspec.structs.replace(given, **changes)


async def allow_slash_ok(asked: Any) -> Any:
    """An authorization service that allows what begins with /ok, and tells the app so."""
    http = asked.attributes.request.http
    if not http.path.startswith("/ok"):
        denied = {"status": {"code": 402}, "body": "pay first\n"}
        return message("CheckResponse", status={"code": 7}, denied_response=denied)
    header = {"header": {"key": "x-paid", "value": asked.attributes.source.principal}}
    seen = {"header": {"key": "X-Seen", "value": http.path}}
    allowed = {"headers": [header], "response_headers_to_add": [seen]}
    return message("CheckResponse", status={"code": 0}, ok_response=allowed)


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_provider_decides_on_what_a_custom_policy_matches(tunnel: bool) -> None:
    rule = "{to: [{operation: {notPaths: [/free]}}]}"
    async with (
        a_web_app() as app,
        authorization_server(allow_slash_ok) as port,
        governed(
            app.address,
            ANYBODY + CUSTOM.replace("RULE", rule),
            protocol=Protocol.HTTP,
            tunnel=tunnel,
            ext_authz=(provider(port),),
        ) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        httpx.AsyncClient() as client,
    ):
        for path, status in (("/ok", 200), ("/dear", 402), ("/free", 200), ("/ok/2", 200)):
            answer = await client.get(url(a, path))
            assert answer.status_code == status
            line = await b.lines.next()
            assert (line["path"], line["status"]) == (path, status)
            if status == 402:
                assert (answer.text, line["policy"]) == ("pay first\n", "ns[default]-policy[ask]")
            elif path != "/free":
                assert answer.json()["headers"]["x-paid"] == str(A)
                assert answer.headers["x-seen"] == path
    assert [first.split()[1] for first in app.seen] == ["/ok", "/free", "/ok/2"]


async def test_a_header_that_a_provider_sets_is_judged_in_place_of_the_client_s() -> None:
    rules = "rules: [{when: [{key: 'request.headers[x-paid]', values: ['spiffe://*']}]}]"
    async with (
        a_web_app() as app,
        authorization_server(allow_slash_ok) as port,
        governed(
            app.address,
            ANYBODY.replace("rules: [{}]", rules) + CUSTOM.replace("RULE", "{to: [{operation: {paths: [/ok]}}]}"),
            protocol=Protocol.HTTP,
            ext_authz=(provider(port),),
        ) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        # The provider is asked about /ok alone.
        for path, said, status in (("/ok", "no", 200), ("/free", "no", 403), ("/free", "spiffe://x", 200)):
            answer = await client.get(url(a, path), headers={"x-paid": said})
            assert (answer.status_code, path, said) == (status, path, said)


async def test_requests_wait_for_a_slow_provider_each_by_itself_and_are_answered_in_order() -> None:
    turn = asyncio.Event()

    async def slow(asked: Any) -> Any:
        await turn.wait()
        return await allow_slash_ok(asked)

    async with (
        a_web_app() as app,
        authorization_server(slow) as port,
        governed(
            app.address, ANYBODY + CUSTOM.replace("RULE", "{}"), protocol=Protocol.HTTP, ext_authz=(provider(port),)
        ) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        streams[1].write(b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\nGET /dear HTTP/1.1\r\nHost: b\r\n\r\n")
        await streams[1].drain()
        assert app.connections == 0
        turn.set()
        assert (await streams[0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        await streams[0].readuntil(b"HTTP/1.1 402 ")


async def test_a_check_under_way_when_the_providers_change_is_answered_by_the_old_one() -> None:
    asked_for, turn = asyncio.Event(), asyncio.Event()

    async def slow(asked: Any) -> Any:
        asked_for.set()
        await turn.wait()
        return await allow_slash_ok(asked)

    async with (
        a_web_app() as app,
        authorization_server(slow) as port,
        governed(
            app.address,
            ANYBODY + CUSTOM.replace("RULE", "{}"),
            protocol=Protocol.HTTP,
            ext_authz=(provider(port, fail_open_allow_unauthorized_requests=True),),
        ) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient(timeout=SECONDS) as client,
        authorization_server(allow_slash_ok) as newer,
    ):
        answering = asyncio.create_task(client.get(url(a, "/dear")))
        await asyncio.wait_for(asked_for.wait(), SECONDS)
        services = b.sidecar.runtime.services
        before = services.now.ext_authz
        b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, ext_authz=(provider(newer),)))
        await until(lambda: services.now.ext_authz is not before)
        assert (await client.get(url(a, "/ok"))).status_code == 200  # by the new one: the old one waits
        turn.set()
        assert (await answering).status_code == 402


async def test_a_key_set_stays_in_use_while_what_else_a_reload_changes_does() -> None:
    issuer = Issuer("https://issuer.test", datetime.now(UTC))
    fetched = tokens_of(issuer).replace(f"jwks: '{issuer.jwks()}'", "jwksUri: JWKS, timeout: 1s")
    second = ANYBODY.replace("AuthorizationPolicy", "RequestAuthentication").replace("name: all", "name: more")
    second = second.replace("rules: [{}]", f"jwtRules: [{{issuer: second, jwks: '{issuer.jwks()}'}}]")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        app = await enter(a_web_app())
        jwks = issuer.jwks().encode()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(jwks), jwks))
            writer.close()

        keys = await asyncio.start_server(serve, "127.0.0.1", 0)
        text = fetched.replace("JWKS", f'"http://127.0.0.1:{keys.sockets[0].getsockname()[1]}/keys"') + ALICE
        b = await enter(governed(app.address, text, protocol=Protocol.HTTP))
        a = await enter(side_a(b.inbound))
        client = await enter(httpx.AsyncClient(timeout=SECONDS))
        headers = {"authorization": f"Bearer {issuer.token()}"}
        assert (await client.get(url(a, "/ok"), headers=headers)).status_code == 200
        keys.close()
        await keys.wait_closed()
        in_use = b.sidecar.runtime.services.now.authenticator
        b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, ext_authz=(provider(1),)))
        assert b.sidecar.runtime.services.now.authenticator is in_use
        b.sidecar.reload(with_policies(b.sidecar.config, text + second))
        assert b.sidecar.runtime.services.now.authenticator is not in_use
        assert (await client.get(url(a, "/ok"), headers=headers)).status_code == 200


async def test_a_client_that_leaves_while_a_provider_is_asked_leaves_nothing_behind() -> None:
    asked_for = asyncio.Event()

    async def never(asked: Any) -> Any:
        asked_for.set()
        await asyncio.Event().wait()

    async with (
        a_web_app() as app,
        authorization_server(never) as port,
        governed(
            app.address, ANYBODY + CUSTOM.replace("RULE", "{}"), protocol=Protocol.HTTP, ext_authz=(provider(port),)
        ) as b,
        side_a(b.inbound) as a,
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\n")
            await asyncio.wait_for(asked_for.wait(), SECONDS)
            sock = streams[1].get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, and no half-close
        assert (await b.lines.the("RESET"))["source_id"] == str(A)
        await until(lambda: len(b.sidecar.registry) == 0)
    assert app.connections == 0


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.HTTP])
@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_provider_that_is_not_configured_denies_and_the_log_says_so(protocol: Protocol, tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, ANYBODY + CUSTOM.replace("RULE", "{}"), protocol=protocol, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        async with connected(a.outbound) as streams:
            if protocol is Protocol.TCP:
                with pytest.raises(ConnectionResetError):
                    await echoed(streams)
            else:
                assert (await echoed(streams, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")).startswith(b"HTTP/1.1 403 ")
        detail = (await b.lines.the("POLICY_DENIED"))["detail"]
    assert detail == ("denied by ns[default]-policy[ask]: no ext_authz provider 'opa' is configured; configured: none")
    assert app.connections == 0


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize(("code", "allowed"), [(0, True), (7, False)])
async def test_a_connection_is_asked_about_before_the_app_is_dialled(code: int, allowed: bool, tunnel: bool) -> None:
    principals: list[str] = []

    async def decide(asked: Any) -> Any:
        principals.append(asked.attributes.source.principal)
        extra: dict[str, Any] = {"ok_response": {}} if allowed else {"denied_response": {}}
        return message("CheckResponse", status={"code": code}, **extra)

    async with (
        an_app() as app,
        authorization_server(decide) as port,
        governed(app.address, ANYBODY + CUSTOM.replace("RULE", "{}"), tunnel=tunnel, ext_authz=(provider(port),)) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        async with connected(a.outbound) as streams:
            if allowed:
                assert await echoed(streams) == b"ping"
            else:
                with pytest.raises(ConnectionResetError):
                    await echoed(streams)
        line = await b.lines.next()
        assert line["verdict"] == ("allowed" if allowed else "denied")
    assert (app.connections, principals) == (allowed, [str(A)])


async def test_a_custom_policy_that_is_newer_than_a_connection_ends_it() -> None:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        app = await enter(an_app())
        b = await enter(governed(app.address, ANYBODY, mode=Mode.PERMISSIVE, limits=PATIENT))
        a = await enter(side_a(b.inbound))
        streams = await enter(connected(a.outbound))
        assert await echoed(streams) == b"ping"
        newer = with_policies(b.sidecar.config, ANYBODY + CUSTOM.replace("RULE", "{}"))
        assert b.sidecar.reload(newer).ended == 1
        assert (await b.lines.next())["detail"] == (
            "denied: ns[default]-policy[ask] is newer than the connection, and its provider was not asked"
        )


async def test_a_dry_run_leaves_the_verdict_and_stands_in_the_log() -> None:
    closed = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: proposed, namespace: default, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{}]}
"""
    async with (
        a_web_app() as web,
        an_app() as app,
        governed(web.address, ANYBODY + closed, protocol=Protocol.HTTP) as b,
        governed(app.address, ANYBODY + closed) as tcp,
        side_a(b.inbound) as a,
        side_a(tcp.inbound) as to_tcp,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(url(a, "/ok"))).status_code == 200
        async with connected(to_tcp.outbound) as streams:
            assert await echoed(streams) == b"ping"
        for line in (await b.lines.next(), await tcp.lines.next()):
            assert line["verdict"] == "allowed"
            (shadow,) = line["shadow"]
            assert "ns[default]-policy[proposed]" in shadow


async def test_a_header_beyond_ascii_is_compared_as_utf_8() -> None:
    denied = ANYBODY.replace("name: all", "name: team").replace(
        "rules: [{}]", "action: DENY, rules: [{when: [{key: 'request.headers[x-team]', values: [Köln]}]}]"
    )
    async with (
        a_web_app() as app,
        governed(app.address, denied, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        for team, status in (("Köln".encode(), 403), ("Köln".encode("latin-1"), 200), (b"Koln", 200)):
            assert (await client.get(url(a, "/ok"), headers={b"x-team": team})).status_code == status
            line = await b.lines.next()
            assert line["status"] == status
            if status == 403:
                assert "when request.headers[x-team]: wanted 'Köln', got 'Köln'" in line["detail"]
