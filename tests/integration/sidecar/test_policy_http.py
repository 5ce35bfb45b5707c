"""HTTP/1.1 through a listener that reads it: what is forwarded, what is refused, and what the access log says."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from aiohttp import ClientSession, WSServerHandshakeError, web
from cryptography.hazmat.primitives.hashes import SHA256

from meshtls.address import Address
from meshtls.policy.decision import Decision
from meshtls.policy.istio.evaluate import NarrowPolicies
from meshtls.policy.request import RequestAuth
from meshtls.sidecar.settings import ForwardClientCert, Mode, Protocol, SidecarConfig
from meshtls.wire.http import HttpRequest
from tests.integration.sidecar.governed import a_web_app, governed, with_policies
from tests.integration.sidecar.mesh import A, B, Node, an_app, connected, echoed, patient, rest, side_a
from tests.support.waiting import SECONDS, until

ALLOW_GET = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {methods: [GET], paths: [/ok, /a/b, /ws]}}]
"""
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {}
"""
#: So long that no test is late, on however slow a machine.
PATIENT = patient(detect_timeout=SECONDS)


def url(node: Node, path: str) -> str:
    return f"http://{node.outbound}{path}"


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_requests_are_judged_one_by_one_on_one_connection(tunnel: bool, protocol: Protocol) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=protocol, tunnel=tunnel, limits=PATIENT) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        httpx.AsyncClient() as client,
    ):
        for method, path, body, status in (
            ("GET", "/ok", b"", 200),
            ("GET", "/no", b"", 403),
            ("POST", "/ok", b"x" * 1000, 403),
            ("GET", "/ok?x=1", b"", 200),
            ("GET", "/a/./c/../b", b"", 200),
            ("GET", "/a%00", b"", 400),
            ("GET", "/ok", b"y", 200),
        ):
            answer = await client.request(method, url(a, path), content=body)
            line = await b.lines.next()
            assert (answer.status_code, line["status"], line["method"]) == (status, status, method)
            assert line["verdict"] == ("allowed" if status == 200 else "denied")
            assert (line["outcome"], line["reason"]) == {
                200: ("OK", "the HTTP request was allowed, and the app answered it"),
                400: ("PATH_REFUSED", "the path of the HTTP request can't be compared with policies"),
                403: ("POLICY_DENIED", "the policies do not allow this HTTP request"),
            }[status]
    assert app.seen == ["GET /ok HTTP/1.1", "GET /ok?x=1 HTTP/1.1", "GET /a/b HTTP/1.1", "GET /ok HTTP/1.1"]
    assert app.connections == 1


async def test_a_denied_request_gets_a_short_text_and_the_log_has_the_policy_s_words() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(url(a, "/no"))
        line = await b.lines.next()
        assert (answer.status_code, answer.text) == (403, "access denied by policy\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        known = {key: line[key] for key in ("outcome", "source_id", "destination_id", "path", "security", "tunnel")}
        assert known == {
            "outcome": "POLICY_DENIED",
            "source_id": str(A),
            "destination_id": str(B),
            "path": "/no",
            "security": "mutual_tls",
            "tunnel": False,
        }
        assert line["clause"] == "operation.paths: wanted /ok, /a/b, /ws, got /no"
        assert line["detail"].startswith("denied: no ALLOW rule matches.")
        assert line["port"] == app.address.port
        allowed = await client.get(url(a, "/ok"))
        assert allowed.status_code == 200
        line = await b.lines.next()
        assert (line["policy"], line["rule"]) == ("ns[default]-policy[web]", "0")
    assert app.connections == 1


async def test_an_app_is_not_dialled_before_a_request_is_allowed() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, NOBODY, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        assert (await client.get(url(a, "/ok"))).status_code == 403
        # Nor does the connection count as proven.
        assert len(b.sidecar.registry.unproven) == 1
    assert app.connections == 0


async def test_an_app_that_is_down_is_503() -> None:
    async with (
        governed(Address("127.0.0.1", 1), ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(url(a, "/ok"))
        assert (answer.status_code, (await b.lines.next())["outcome"]) == (503, "CONNECT_FAILED")


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_request_with_two_framings_is_400_and_the_app_is_not_dialled(tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
    ):
        streams[1].write(b"GET /ok HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert (await rest(streams)).startswith(b"HTTP/1.1 400 ")
    assert app.connections == 0


async def test_auto_relays_what_is_not_http_by_the_policies_for_tcp() -> None:
    by_peer = ALLOW_GET.replace("    to: [{operation: {methods: [GET], paths: [/ok, /a/b, /ws]}}]\n", "")
    for text, verdict in ((by_peer, "allowed"), (ALLOW_GET, "denied")):
        async with (
            an_app() as app,
            governed(app.address, text, protocol=Protocol.AUTO, limits=PATIENT) as b,
            side_a(b.inbound) as a,
        ):
            async with connected(a.outbound) as streams:
                if verdict == "allowed":
                    assert await echoed(streams, b"EHLO example.org\r\n") == b"EHLO example.org\r\n"
                else:
                    with pytest.raises(ConnectionResetError):
                        await echoed(streams, b"EHLO example.org\r\n")
            assert (await b.lines.next())["verdict"] == verdict
            assert app.connections == (verdict == "allowed")


async def test_auto_takes_a_silent_client_for_tcp() -> None:
    by_peer = ALLOW_GET.replace("    to: [{operation: {methods: [GET], paths: [/ok, /a/b, /ws]}}]\n", "")
    async with (
        an_app(b"220 ready\r\n") as app,
        governed(app.address, by_peer, protocol=Protocol.AUTO, limits=patient(detect_timeout=0.05)) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        assert await streams[0].readline() == b"220 ready\r\n"


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("first", [b"", b"G", b" "])
async def test_a_request_that_comes_late_or_in_pieces_is_judged_with_auto(first: bytes, tunnel: bool) -> None:
    by_peer = ALLOW_GET.replace("    to: [{operation: {methods: [GET], paths: [/ok, /a/b, /ws]}}]\n", "")
    limits = patient(detect_timeout=0.05)
    request = b"GET /ok HTTP/1.1\r\nHost: b\r\nx-forwarded-client-cert: URI=spiffe://example.org/admin\r\n"
    request = (first if first == b" " else b"") + request + b"Connection: close\r\n\r\n"
    async with (
        a_web_app() as app,
        governed(app.address, by_peer, protocol=Protocol.AUTO, limits=limits, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        streams[1].write(first)
        await asyncio.sleep(0.3)  # longer than detection waits for a silent client
        streams[1].write(request.removeprefix(first))
        answer = await streams[0].read()
    if first == b" ":
        assert answer.startswith(b"HTTP/1.1 400 ")
    else:
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"/admin" not in answer


async def test_policies_see_the_client_certificate_header_that_the_app_gets() -> None:
    seen = "rules: [{when: [{key: 'request.headers[x-forwarded-client-cert]', values: ['URI=spiffe://example.org/admin']}]}]"
    by_header = NOBODY.replace("spec: {}", f"spec: {{{seen}}}")
    for text, status in ((by_header, 403), (by_header.replace("URI=spiffe://example.org/admin", "*service-a"), 200)):
        async with (
            a_web_app() as app,
            governed(app.address, text, protocol=Protocol.HTTP, limits=PATIENT) as b,
            side_a(b.inbound) as a,
            httpx.AsyncClient() as client,
        ):
            forged = {"x-forwarded-client-cert": "URI=spiffe://example.org/admin"}
            assert (await client.get(url(a, "/ok"), headers=forged)).status_code == status


async def test_plaintext_requests_are_judged_without_an_identity() -> None:
    by_path = ALLOW_GET.replace("  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]\n", "")
    by_path = by_path.replace("    to:", "  - to:")
    for text, status in ((by_path, 200), (ALLOW_GET, 403)):
        for mode in (Mode.PERMISSIVE, Mode.DISABLE):
            async with (
                a_web_app() as app,
                governed(app.address, text, protocol=Protocol.HTTP, mode=mode, limits=PATIENT) as b,
                httpx.AsyncClient() as client,
            ):
                answer = await client.get(f"http://{b.inbound}/ok", headers={"x-forwarded-client-cert": f"URI={A}"})
                line = await b.lines.next()
                assert (answer.status_code, line["security"], line["source_id"]) == (status, "plaintext", None)
                if status == 200:
                    assert "x-forwarded-client-cert" not in answer.json()["headers"]


class _Broken(NarrowPolicies):
    """An engine with a fault."""

    def evaluate(self, http: HttpRequest, auth: RequestAuth | None = None) -> Decision:
        raise ZeroDivisionError


async def test_an_evaluator_that_fails_denies_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        rules = b.sidecar.listeners.inbound[0].gate.rules
        assert rules is not None
        with monkeypatch.context() as patch:
            patch.setattr(type(rules), "narrow", lambda self, request: _Broken(self, self._ruleset, request))
            assert (await client.get(url(a, "/ok"))).status_code == 403
            assert (await b.lines.next())["detail"] == (
                "denied: the policies could not be evaluated: ZeroDivisionError; see the log"
            )
        async with httpx.AsyncClient() as other:
            assert (await other.get(url(a, "/ok"))).status_code == 200
    assert app.connections == 1


# -- x-forwarded-client-cert --

FORGED = "By=spiffe://example.org/x;URI=spiffe://example.org/admin"


@pytest.mark.parametrize(
    ("mode", "mutual", "came", "own"),
    [
        (ForwardClientCert.SANITIZE_SET, True, False, True),
        (ForwardClientCert.SANITIZE, True, False, False),
        (ForwardClientCert.FORWARD_ONLY, True, True, False),
        (ForwardClientCert.APPEND_FORWARD, True, True, True),
        (ForwardClientCert.ALWAYS_FORWARD_ONLY, True, True, False),
        (ForwardClientCert.SANITIZE_SET, False, False, False),
        (ForwardClientCert.SANITIZE, False, False, False),
        (ForwardClientCert.FORWARD_ONLY, False, False, False),
        (ForwardClientCert.APPEND_FORWARD, False, False, False),
        (ForwardClientCert.ALWAYS_FORWARD_ONLY, False, True, False),
    ],
)
async def test_the_app_learns_of_the_peer_what_the_key_says(
    mode: ForwardClientCert, mutual: bool, came: bool, own: bool
) -> None:
    anybody = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all}\nspec: {rules: [{}]}\n"
    )
    async with (
        a_web_app() as app,
        governed(
            app.address,
            anybody,
            protocol=Protocol.HTTP,
            mode=Mode.PERMISSIVE,
            forward_client_cert=mode,
            limits=PATIENT,
        ) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        to = a.outbound if mutual else b.inbound
        answer = await client.get(f"http://{to}/ok", headers={"X-Forwarded-Client-Cert": FORGED})
        digest = a.sidecar.runtime.source.snapshot().svid.leaf.fingerprint(SHA256()).hex()
        wanted = [*([FORGED] if came else []), *([f"By={B};Hash={digest};URI={A}"] if own else [])]
        assert answer.json()["headers"].get("x-forwarded-client-cert", "") == ",".join(wanted)


# -- clients that people use --


async def test_curl_posts_a_body_with_expect_100_continue_and_gets_403_or_its_answer() -> None:
    policy = ALLOW_GET.replace("[GET]", "[POST]")
    async with a_web_app() as app, governed(app.address, policy, protocol=Protocol.HTTP) as b, side_a(b.inbound) as a:
        for path, status in (("/ok", b"200"), ("/no", b"403")):
            client = await asyncio.create_subprocess_exec(
                *("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect: 100-continue"),
                *("--expect100-timeout", "0.2", "-d", "x" * 2000, url(a, path)),
                stdout=asyncio.subprocess.PIPE,
            )
            told, _ = await asyncio.wait_for(client.communicate(), SECONDS)
            assert told == status
    assert [first.split()[1] for first in app.seen] == ["/ok"]


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_websocket_passes_and_is_ended_when_it_becomes_forbidden(tunnel: bool) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(message.data))
        return socket

    server = web.Application()
    server.router.add_get("/ws", echo)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    app = Address(*runner.addresses[0][:2])
    async with (
        governed(app, ALLOW_GET, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        ClientSession() as session,
        asyncio.timeout(SECONDS),
    ):
        with pytest.raises(WSServerHandshakeError) as denied:
            await session.ws_connect(url(a, "/other"))
        assert denied.value.status == 403
        async with session.ws_connect(url(a, "/ws")) as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
            b.sidecar.reload(_with(b, NOBODY))
            while not (await socket.receive()).type.name.startswith("CLOS"):
                pass
            line = await b.lines.the("POLICY_DENIED")
            while "method" in line:
                line = await b.lines.the("POLICY_DENIED")
            assert line["source_id"] == str(A)
    await runner.cleanup()


def _with(node: Node, text: str) -> SidecarConfig:
    return with_policies(node.sidecar.config, text)


# -- changes --


async def test_a_change_forbids_the_next_request_on_a_live_connection_and_allows_it_again() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        before = b.sidecar.config
        for config, status in ((before, 200), (_with(b, NOBODY), 403), (before, 200)):
            assert b.sidecar.reload(config).ended == 0
            assert (await client.get(url(a, "/ok"))).status_code == status
    assert app.connections == 1


async def test_no_request_is_lost_by_changes_that_go_on_allowing_it() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW_GET, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        httpx.AsyncClient() as client,
    ):
        other = _with(b, ALLOW_GET.replace("name: web", "name: other"))
        configs = [other, b.sidecar.config]
        stop = asyncio.Event()

        async def ask() -> int:
            count = 0
            while not stop.is_set():
                assert (await client.get(url(a, "/ok"))).status_code == 200
                count += 1
            return count

        asking = [asyncio.create_task(ask()) for _ in range(8)]
        for at in range(20):
            seen = len(app.seen)
            assert b.sidecar.reload(configs[at % 2]).taken
            await until(lambda seen=seen: len(app.seen) > seen)  # type: ignore[misc]
        stop.set()
        assert all(await asyncio.gather(*asking))
