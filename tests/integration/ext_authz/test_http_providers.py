"""Providers that are asked by HTTP: a real service, good, bad, slow and dead."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from meshtls.address import Address
from meshtls.errors import ConfigError
from meshtls.ext_authz.answer import ExtAuthzAnswer
from meshtls.ext_authz.client import ExtAuthz
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.http_client import HttpClient
from meshtls.policy.request import Request
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import HttpRequest, Refuse
from tests.support.waiting import until

PEER = VerifiedPeer(SpiffeId.parse("spiffe://example.org/web"), ())
OWN = SpiffeId.parse("spiffe://example.org/shop")
XFCC = "By=spiffe://example.org/shop;URI=spiffe://example.org/web"
HEADERS = (
    ("authorization", "Bearer x"),
    ("x-team", "a"),
    ("x-team", "b"),
    ("x-asked-by", "client"),
    ("cookie", "a=1"),
    ("x-forwarded-client-cert", XFCC),
    ("content-length", "7"),
)
UNAVAILABLE = "external authorization is not available\n"


def asked(method: str = "POST", path: str = "/buy?what=tea", **changes: Any) -> Request:
    return Request(PEER, OWN, 8080, http=HttpRequest(method, "shop.test", path, HEADERS), **changes)


def provider(port: int, **changes: Any) -> ExtAuthzProvider:
    settings: dict[str, Any] = {"name": "opa", "kind": ProviderKind.HTTP, "timeout": 30.0}
    settings["address"] = Address("127.0.0.1", port)
    return ExtAuthzProvider(**(settings | changes))


@asynccontextmanager
async def service(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], tls: Any = None
) -> AsyncIterator[int]:
    """A server of aiohttp's on a port of loopback, which is yielded."""
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asking(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]], **changes: Any
) -> AsyncIterator[ExtAuthz]:
    async with service(handle) as port, ExtAuthz([provider(port, **changes)]) as ext_authz:
        yield ext_authz


async def answer_to(response: Callable[[], web.Response], **changes: Any) -> ExtAuthzAnswer:
    async def handle(request: web.Request) -> web.Response:
        return response()

    async with asking(handle, **changes) as ext_authz:
        return await ext_authz.check(asked(), "opa")


async def test_the_service_is_asked_with_method_path_host_and_the_chosen_headers() -> None:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response()

    patterns = ("authorization", "x-t*", "*-cert", "content-length", "x-asked-by")
    additional = (("x-asked-by", "sidecar"),)
    async with asking(
        handle, path_prefix="/check", include_request_headers=patterns, include_additional_headers=additional
    ) as ext_authz:
        assert (await ext_authz.check(asked(), "opa")).allowed
    [told] = seen
    assert (told.method, told.raw_path) == ("POST", "/check/buy?what=tea")
    assert [(name.lower(), value) for name, value in told.headers.items()] == [
        ("host", "shop.test"),
        ("content-length", "0"),
        ("authorization", "Bearer x"),
        ("x-team", "a"),
        ("x-team", "b"),
        ("x-forwarded-client-cert", XFCC),
        ("x-asked-by", "sidecar"),
    ]


async def test_an_allowed_request_has_the_chosen_headers_of_the_service() -> None:
    def response() -> web.Response:
        return web.Response(
            headers={
                "X-User": "alice",
                "X-Team": "c",
                "X-Hidden": "1",
                "X-Seen": "yes",
                "X-Envoy-Auth-Headers-To-Remove": "Authorization, cookie",
                "X-Forwarded-Client-Cert": "URI=spiffe://example.org/admin",
            }
        )

    answer = await answer_to(
        response,
        headers_upstream_on_allow=("x-user", "x-team", "x-forwarded-client-cert"),
        headers_downstream_on_allow=("x-seen",),
    )
    assert (answer.allowed, answer.reason, answer.failed) == (True, "provider 'opa' allowed it", False)
    assert answer.headers == (("x-seen", "yes"),)
    request = asked().http
    assert request is not None
    assert answer.applied_to(request).headers == (
        ("x-asked-by", "client"),
        ("x-forwarded-client-cert", XFCC),
        ("content-length", "7"),
        ("x-user", "alice"),
        ("x-team", "c"),
    )


async def test_a_denial_is_passed_on_with_its_status_body_and_headers() -> None:
    def response() -> web.Response:
        return web.Response(status=401, text="who are you?", headers={"WWW-Authenticate": "Basic", "X-Why": "1"})

    everything = await answer_to(response)
    assert (everything.allowed, everything.reason) == (False, "provider 'opa' denied it with status 401")
    refusal = everything.refusal()
    assert (refusal.status, refusal.text) == (401, "who are you?")
    assert {("www-authenticate", "Basic"), ("x-why", "1")} < set(refusal.headers)
    assert not {"content-length", "connection"} & {name for name, _ in refusal.headers}
    chosen = await answer_to(response, headers_downstream_on_deny=("x-nothing",))
    assert chosen.refusal() == Refuse(401, "who are you?", (("www-authenticate", "Basic"),))


async def test_a_redirect_denies_and_is_passed_on() -> None:
    answer = await answer_to(
        lambda: web.Response(status=302, headers={"Location": "https://login.test"}),
        headers_downstream_on_deny=("x-nothing",),
    )
    assert answer.refusal() == Refuse(302, "", (("location", "https://login.test"),))


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize("status", [201, 204, 206, 299])
async def test_a_success_other_than_200_denies_and_the_client_gets_403(status: int, fail_open: bool) -> None:
    answer = await answer_to(lambda: web.Response(status=status), fail_open_allow_unauthorized_requests=fail_open)
    assert (answer.allowed, answer.reason) == (False, f"provider 'opa' denied it with status {status}")
    assert (answer.failed, answer.refusal().status) == (False, 403)


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize("status", [500, 503])
async def test_a_service_in_trouble_denies_unless_the_loud_key_allows(status: int, fail_open: bool) -> None:
    answer = await answer_to(
        lambda: web.Response(status=status), fail_open_allow_unauthorized_requests=fail_open, status_on_error=429
    )
    failure = f"ext_authz provider 'opa' can't be asked: it answered with status {status}"
    if fail_open:
        assert answer == ExtAuthzAnswer(
            allowed=True,
            reason=f"{failure}; allowed unauthorized, by fail_open_allow_unauthorized_requests",
            failed=True,
        )
    else:
        assert answer == ExtAuthzAnswer(allowed=False, reason=failure, status=429, body=UNAVAILABLE, failed=True)


RAW = {
    "nothing": (b"", "closed the connection without an answer"),
    "no HTTP": (b"SSH-2.0-x\r\n", "gave an invalid answer"),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "gave an invalid answer: it ended too early"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "gave an invalid answer: it ended too early"),
    "interim without end": (
        b"HTTP/1.1 102 Processing\r\n\r\n" * 9,
        "gave too large an answer: more than 8 interim answers",
    ),
    "too large": (
        b"HTTP/1.1 403 No\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000,
        "gave too large an answer: its body has more than 65536 bytes",
    ),
}
GOOD = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "to the end": b"HTTP/1.1 200 OK\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nok",
    "interim": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
}


@asynccontextmanager
async def scripted(answer: bytes) -> AsyncIterator[int]:
    """Answers each connection's request with these bytes, and closes it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("case", RAW)
async def test_a_broken_answer_denies(case: str) -> None:
    answer, why = RAW[case]
    async with scripted(answer) as port, ExtAuthz([provider(port)]) as ext_authz:
        denied = await ext_authz.check(asked(), "opa")
        assert (denied.allowed, denied.status, denied.body, denied.failed) == (False, 403, UNAVAILABLE, True)
        assert denied.reason.startswith(f"ext_authz provider 'opa' can't be asked: 127.0.0.1:{port} {why}")
        assert ext_authz.complaints == (denied.reason,)


@pytest.mark.parametrize("case", GOOD)
async def test_a_whole_answer_in_any_framing_allows(case: str) -> None:
    async with scripted(GOOD[case]) as port, ExtAuthz([provider(port)]) as ext_authz:
        for method in ("GET", "POST"):
            answer = await ext_authz.check(asked(method), "opa")
            assert (answer.allowed, answer.reason) == (True, "provider 'opa' allowed it")


async def test_a_head_request_has_an_answer_without_body() -> None:
    async with (
        scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n") as port,
        ExtAuthz([provider(port)]) as ext_authz,
    ):
        assert (await ext_authz.check(asked("HEAD"), "opa")).allowed
        assert not (await ext_authz.check(asked("GET"), "opa")).allowed


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_slow_service_denies_unless_the_loud_key_allows(fail_open: bool) -> None:
    over = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with service(handle) as port:
        settings = provider(port, timeout=0.2, fail_open_allow_unauthorized_requests=fail_open)
        async with ExtAuthz([settings]) as ext_authz:
            answer = await ext_authz.check(asked(), "opa")
        over.set()
    assert answer.allowed is fail_open
    assert answer.reason.startswith(
        f"ext_authz provider 'opa' can't be asked: 127.0.0.1:{port} gave no answer within 0.2 s"
    )


async def test_a_full_queue_denies_although_the_loud_key_allows_where_the_service_fails() -> None:
    over = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    async with service(handle) as port:
        settings = provider(port, concurrent_checks=1, fail_open_allow_unauthorized_requests=True)
        async with ExtAuthz([settings]) as ext_authz:
            waiting = [asyncio.create_task(ext_authz.check(asked(), "opa")) for _ in range(1 + 1024)]
            await asyncio.sleep(0)  # each has begun, and the last of them waits
            one_more = await ext_authz.check(asked(), "opa")
            assert not any(one.done() for one in waiting)
            over.set()
            assert all([(await one).allowed for one in waiting])
            assert (await ext_authz.check(asked(), "opa")).allowed
            assert ext_authz.complaints == ()
    assert not one_more.allowed
    assert one_more.reason == "ext_authz provider 'opa' can't be asked: 1024 checks wait for it"


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_dead_service_denies_unless_the_loud_key_allows(fail_open: bool) -> None:
    with socket.socket() as dead:  # does not listen, and keeps the port from others that would
        dead.bind(("127.0.0.1", 0))
        port = dead.getsockname()[1]
        settings = provider(port, fail_open_allow_unauthorized_requests=fail_open)
        async with ExtAuthz([settings]) as ext_authz:
            answer = await ext_authz.check(asked(), "opa")
    assert answer.allowed is fail_open
    reason = f"ext_authz provider 'opa' can't be asked: 127.0.0.1:{port} can't be reached: Connection refused"
    assert answer.reason.startswith(reason)


async def test_checks_share_connections_and_the_slots_bound_them() -> None:
    running, most, connections = 0, 0, set()

    async def handle(request: web.Request) -> web.Response:
        nonlocal running, most
        assert request.transport is not None
        connections.add(request.transport.get_extra_info("peername"))
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return web.Response()

    async with asking(handle, concurrent_checks=3) as ext_authz:
        answers = await asyncio.gather(*(ext_authz.check(asked(), "opa") for _ in range(50)))
    assert all(one.allowed for one in answers)
    assert most <= 3
    assert len(connections) <= 3


async def test_a_connection_that_the_service_closed_is_replaced() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with scripted(answer) as port, ExtAuthz([provider(port)]) as ext_authz:
        for _ in range(3):
            assert (await ext_authz.check(asked(), "opa")).allowed


async def test_an_answer_without_a_question_is_never_taken_for_the_next() -> None:
    """A second answer on a kept connection would allow whatever is asked about next."""
    connections: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GOOD["length"] if len(connections) == 1 else b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, HttpClient(Address("127.0.0.1", port)) as client:
        head = (("host", "a"),)
        assert (await client.request("GET", "/", head)).status == 200
        [writer] = connections
        assert repr(client) == f"<HttpClient 127.0.0.1:{port} [1 idle]>"
        writer.write(GOOD["length"])
        await until(lambda: "[0 idle]" in repr(client))
        assert (await client.request("GET", "/", head)).status == 403
        for one in connections:
            one.close()


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (
            Request(PEER, OWN, 8080),
            "it is asked by HTTP, which can't describe a connection without an HTTP request; use kind: grpc, or"
            " protocol: http for the port",
        ),
        (asked("CONNECT", "db:5432"), "'CONNECT' 'db:5432' names no path"),
        (asked("OPTIONS", "*"), "'OPTIONS' '*' names no path"),
        (asked("GET", "/a b"), "its first line has spaces, control characters or other scripts"),
        (asked("GET", "/a\r\nx: y"), "its first line has spaces, control characters or other scripts"),
        (asked("G T"), "its first line has spaces, control characters or other scripts"),
    ],
    ids=["connection", "CONNECT", "OPTIONS *", "space", "line break", "method"],
)
async def test_a_request_that_http_cannot_describe_is_denied_even_where_failures_allow(
    request_: Request, why: str, fail_open: bool
) -> None:
    async with scripted(GOOD["length"]) as port:
        settings = provider(port, fail_open_allow_unauthorized_requests=fail_open)
        async with ExtAuthz([settings]) as ext_authz:
            answer = await ext_authz.check(request_, "opa")
            assert ext_authz.complaints == ()
    assert (answer.allowed, answer.reason) == (False, f"ext_authz provider 'opa' can't be asked: {why}")


async def test_a_provider_that_is_not_configured_denies_and_says_so() -> None:
    async with ExtAuthz([provider(1), provider(2, name="other")]) as ext_authz:
        answer = await ext_authz.check(asked(), "missing")
    assert answer == ExtAuthzAnswer(
        allowed=False,
        reason="no ext_authz provider 'missing' is configured; configured: 'opa', 'other'",
        status=403,
        body="access denied by policy\n",
        failed=True,
    )
    async with ExtAuthz(()) as ext_authz:
        assert (await ext_authz.check(asked(), "opa")).reason == (
            "no ext_authz provider 'opa' is configured; configured: none"
        )


async def test_a_client_that_is_not_open_denies() -> None:
    assert not (await ExtAuthz([provider(1)]).check(asked(), "opa")).allowed


def test_two_providers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="ext_authz provider 'opa': wanted a name that no other provider has"):
        ExtAuthz([provider(1), provider(2)])


def test_a_provider_on_another_host_needs_tls_or_a_loud_permission(tmp_path: Path) -> None:
    away = Address("authz.test", 9000)
    with pytest.raises(ConfigError) as caught:
        ExtAuthz([provider(1, address=away)])
    assert str(caught.value) == (
        "ext_authz provider 'opa': wanted loopback, such as a listener of a sidecar that dials the provider, or ca_file"
        " for TLS, got authz.test:9000: an attacker on the network path could answer;"
        " insecure_plaintext_to_another_host allows it"
    )
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    ExtAuthz([provider(1, address=away, ca_file=tmp_path / "ca.pem")])
    ExtAuthz([provider(1, address=away, insecure_plaintext_to_another_host=True)])


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_service_over_tls_is_verified(tmp_path: Path, trusted: bool) -> None:
    ca, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    (ca if trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")

    async def handle(request: web.Request) -> web.Response:
        return web.Response()

    async with (
        service(handle, context) as port,
        ExtAuthz([provider(port, ca_file=tmp_path / "ca.pem")]) as ext_authz,
    ):
        answer = await ext_authz.check(asked(), "opa")
    assert answer.allowed is trusted
    assert trusted or "its certificate is refused" in answer.reason
