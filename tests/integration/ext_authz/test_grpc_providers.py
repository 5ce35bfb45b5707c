"""Providers that are asked by gRPC: a real service of Envoy's contract, good, bad, slow and dead."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from meshtls.address import Address
from meshtls.ext_authz.answer import ExtAuthzAnswer, HeaderChanges
from meshtls.ext_authz.client import ExtAuthz
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.policy.request import Request
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import HttpRequest, Refuse
from tests.support.ext_authz_server import Decide, authorization_server, message

PEER = VerifiedPeer(SpiffeId.parse("spiffe://example.org/web"), ())
OWN = SpiffeId.parse("spiffe://example.org/shop")
HTTP = HttpRequest(
    "POST",
    "shop.test",
    "/buy?what=tea",
    (("x-user", "client"), ("x-user", "twice"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-name", "\xc3\xbc")),
)
ASKED = Request(PEER, OWN, 8080, "192.0.2.7", "shop.example", HTTP, destination_ip="192.0.2.1")
CONNECTION = Request(PEER, OWN, 8080, "192.0.2.7")
UNAVAILABLE = "external authorization is not available\n"


def provider(port: int, **changes: Any) -> ExtAuthzProvider:
    settings: dict[str, Any] = {"name": "opa", "kind": ProviderKind.GRPC, "timeout": 30.0}
    settings["address"] = Address("127.0.0.1", port)
    return ExtAuthzProvider(**(settings | changes))


def option(key: str, value: str = "", **fields: Any) -> dict[str, Any]:
    return {"header": {"key": key, "value": value}} | fields


def allowed(**ok: Any) -> Any:
    return message("CheckResponse", status={"code": 0}, ok_response=ok)


@asynccontextmanager
async def asking(decide: Decide, **changes: Any) -> AsyncIterator[ExtAuthz]:
    async with authorization_server(decide) as port, ExtAuthz([provider(port, **changes)]) as ext_authz:
        yield ext_authz


async def answer_to(response: Any, request: Request = ASKED) -> ExtAuthzAnswer:
    async def decide(asked: Any) -> Any:
        return response

    async with asking(decide) as ext_authz:
        return await ext_authz.check(request, "opa")


@pytest.mark.parametrize(
    ("remote", "told"),
    [(None, "192.0.2.7"), ("203.0.113.9", "203.0.113.9"), ("", "")],
    ids=["none", "named", "unknown"],
)
async def test_the_service_is_told_of_the_client_s_address_and_of_no_proxy_s(remote: str | None, told: str) -> None:
    seen: list[str] = []

    async def decide(asked: Any) -> Any:
        seen.append(asked.attributes.source.address.socket_address.address)
        return allowed()

    async with asking(decide) as ext_authz:
        await ext_authz.check(replace(ASKED, remote_ip=remote), "opa")
    assert seen == [told]


async def test_the_service_is_told_of_the_request_and_its_verified_caller() -> None:
    seen: list[Any] = []

    async def decide(asked: Any) -> Any:
        seen.append(asked.attributes)
        return allowed()

    async with asking(decide) as ext_authz:
        assert (await ext_authz.check(ASKED, "opa")).allowed
    [told] = seen
    assert told.source.principal == "spiffe://example.org/web"
    assert told.source.address.socket_address.address == "192.0.2.7"
    assert told.destination.principal == "spiffe://example.org/shop"
    assert told.destination.address.socket_address.address == "192.0.2.1"
    assert told.destination.address.socket_address.port_value == 8080
    assert told.tls_session.sni == "shop.example"
    assert told.request.time.seconds > 0
    http = told.request.http
    assert (http.method, http.path, http.host, http.scheme, http.size) == (
        "POST",
        "/buy?what=tea",
        "shop.test",
        "https",
        -1,
    )
    assert dict(http.headers) == {
        ":method": "POST",
        ":path": "/buy?what=tea",
        ":authority": "shop.test",
        ":scheme": "https",
        "x-user": "client,twice",
        "cookie": "a=1; b=2",
        "x-name": "\u00fc",
    }


async def test_the_service_is_told_of_a_plaintext_caller_without_principal() -> None:
    async def decide(asked: Any) -> Any:
        assert asked.attributes.request.http.scheme == "http"
        return message("CheckResponse", status={"code": 0 if not asked.attributes.source.principal else 7})

    async with asking(decide) as ext_authz:
        assert (await ext_authz.check(Request(None, OWN, 8080, http=HTTP), "opa")).allowed
        assert (await ext_authz.check(Request(PEER, OWN, 8080, http=HTTP), "opa")).failed


async def test_a_connection_is_asked_about_without_http() -> None:
    async def decide(asked: Any) -> Any:
        known = asked.attributes.source.principal == "spiffe://example.org/web"
        return (
            message("CheckResponse", status={"code": 7 if asked.attributes.request.HasField("http") else 0})
            if (known)
            else message("CheckResponse", status={"code": 7})
        )

    async with asking(decide) as ext_authz:
        assert (await ext_authz.check(CONNECTION, "opa")).allowed
        assert not (await ext_authz.check(ASKED, "opa")).allowed


async def test_the_request_is_changed_as_the_service_says() -> None:
    answer = await answer_to(
        allowed(
            headers=[
                option("X-User", "alice"),
                option("x-more", "1", append={"value": True}),
                option("x-more", "2", append={"value": True}),
                option("x-absent", "a", append_action=1),
                option("x-name", "b", append_action=1),
                option("x-set", "c", append_action=2),
                option("x-missing", "d", append_action=3),
                option("content-length", "7"),
                option("transfer-encoding", "chunked"),
                option("host", "evil.test"),
                option(":path", "/admin"),
                option("x-forwarded-client-cert", "URI=spiffe://example.org/admin"),
            ],
            headers_to_remove=["Cookie", "host", ":path"],
            response_headers_to_add=[option("x-seen", "yes")],
        )
    )
    assert (answer.allowed, answer.reason, answer.failed) == (True, "provider 'opa' allowed it", False)
    assert answer.headers == (("x-seen", "yes"),)
    assert answer.applied_to(HTTP) == HttpRequest(
        "POST",
        "shop.test",
        "/buy?what=tea",
        (
            ("x-name", "\xc3\xbc"),
            ("x-user", "alice"),
            ("x-set", "c"),
            ("x-absent", "a"),
            ("x-more", "1"),
            ("x-more", "2"),
        ),
    )


async def test_a_denial_has_the_services_status_body_and_headers() -> None:
    answer = await answer_to(
        message(
            "CheckResponse",
            status={"code": 16, "message": "log in"},
            denied_response={
                "status": {"code": 302},
                "headers": [option("location", "https://login.test"), option("content-length", "9")],
                "body": "go there",
            },
        )
    )
    assert (answer.allowed, answer.reason) == (False, "provider 'opa' denied it with gRPC status 16: log in")
    assert answer.refusal() == Refuse(302, "go there", (("location", "https://login.test"),))


async def test_a_denial_without_status_is_403() -> None:
    assert (await answer_to(message("CheckResponse", status={"code": 7}))).refusal() == Refuse(403, "")


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({}, "its answer has neither a status nor a response"),
        ({"denied_response": {}}, "its answer has the status OK with a denial"),
        (
            {"ok_response": {"headers": [option("x-user", "a\r\nx-admin: true")]}},
            "it set a header 'x-user' whose value has control characters",
        ),
    ],
)
async def test_an_unclear_answer_is_no_permission(response: dict[str, Any], why: str) -> None:
    answer = await answer_to(message("CheckResponse", **response))
    assert answer == ExtAuthzAnswer(
        allowed=False,
        reason=f"ext_authz provider 'opa' can't be asked: {why}",
        status=403,
        body=UNAVAILABLE,
        failed=True,
    )
    assert (await answer_to(message("CheckResponse", ok_response={}))).allowed


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_slow_service_denies_unless_the_loud_key_allows(fail_open: bool) -> None:
    over = asyncio.Event()

    async def decide(asked: Any) -> Any:
        await over.wait()
        return allowed()

    async with (
        authorization_server(decide) as port,
        ExtAuthz([provider(port, timeout=0.2, fail_open_allow_unauthorized_requests=fail_open)]) as ext_authz,
    ):
        answer = await ext_authz.check(ASKED, "opa")
        failure = f"ext_authz provider 'opa' can't be asked: 127.0.0.1:{port} gave no answer within 0.2 s"
        assert ", ".join(ext_authz.complaints) == failure
        over.set()
    loud = "; allowed unauthorized, by fail_open_allow_unauthorized_requests"
    assert (answer.allowed, answer.reason, answer.failed) == (fail_open, failure + loud * fail_open, True)
    assert answer.upstream == HeaderChanges()


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_dead_service_denies_unless_the_loud_key_allows_and_one_that_returns_is_asked(fail_open: bool) -> None:
    async def decide(asked: Any) -> Any:
        return message("CheckResponse", status={"code": 7})

    async with AsyncExitStack() as open_to_the_end:
        # Does not listen, and keeps the port from others while the service is away; gRPC shares it.
        keeping = open_to_the_end.enter_context(socket.socket())
        keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeping.bind(("127.0.0.1", 0))
        port = keeping.getsockname()[1]
        async with authorization_server(decide, port=port):
            settings = provider(port, status_on_error=503, fail_open_allow_unauthorized_requests=fail_open)
            ext_authz = await open_to_the_end.enter_async_context(ExtAuthz([settings]))
            assert (await ext_authz.check(ASKED, "opa")).status == 403
        answer = await ext_authz.check(ASKED, "opa")
        assert (answer.allowed, answer.status, answer.failed) == (fail_open, 200 if fail_open else 503, True)
        assert ext_authz.complaints
        async with authorization_server(decide, port=port):
            assert (await ext_authz.check(ASKED, "opa")).reason == "provider 'opa' denied it with gRPC status 7"
            assert not ext_authz.complaints


async def test_a_service_that_fails_the_call_denies() -> None:
    async def decide(asked: Any) -> Any:
        raise ValueError("broken")

    async with asking(decide) as ext_authz:
        answer = await ext_authz.check(ASKED, "opa")
    assert answer.reason.startswith("ext_authz provider 'opa' can't be asked: it answered with gRPC status UNKNOWN")
    assert not answer.allowed


async def test_a_service_whose_answer_is_no_message_denies() -> None:
    async def decide(asked: Any) -> Any:
        return b"\xff\xff"

    async with asking(decide) as ext_authz:
        answer = await ext_authz.check(ASKED, "opa")
    assert not answer.allowed
    assert "gave an invalid answer" in answer.reason


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\0" * 64, b"\xff" * 64])
async def test_a_server_that_does_not_speak_grpc_denies(answer: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with ExtAuthz([provider(server.sockets[0].getsockname()[1])]) as ext_authz:
        denied = await ext_authz.check(ASKED, "opa")
    server.close()
    assert (denied.allowed, denied.failed) == (False, True)


async def test_many_checks_share_the_connection_and_the_slots_bound_them() -> None:
    running, most = 0, 0

    async def decide(asked: Any) -> Any:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0)
        running -= 1
        return allowed()

    async with asking(decide, concurrent_checks=3) as ext_authz:
        answers = await asyncio.gather(*(ext_authz.check(ASKED, "opa") for _ in range(50)))
    assert all(one.allowed for one in answers)
    assert most <= 3


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_check_under_way_is_answered_by_the_service_although_the_client_closes(fail_open: bool) -> None:
    asked_for, turn = asyncio.Event(), asyncio.Event()

    async def decide(asked: Any) -> Any:
        asked_for.set()
        await turn.wait()
        return message("CheckResponse", status={"code": 7})

    async with authorization_server(decide) as port:
        ext_authz = ExtAuthz([provider(port, fail_open_allow_unauthorized_requests=fail_open)])
        await ext_authz.__aenter__()
        check = asyncio.create_task(ext_authz.check(ASKED, "opa"))
        await asked_for.wait()
        closing = asyncio.create_task(ext_authz.__aexit__(None, None, None))
        await asyncio.sleep(0)
        turn.set()
        answer = await check
        await closing
        assert (answer.allowed, answer.reason) == (False, "provider 'opa' denied it with gRPC status 7")
        late = await ext_authz.check(ASKED, "opa")
    assert (late.allowed, late.reason) == (False, "ext_authz provider 'opa' can't be asked: its client is not open")


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_service_over_tls_is_verified(tmp_path: Path, trusted: bool) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    (ca if trusted else trustme.CA()).cert_pem.write_to_path(tmp_path / "ca.pem")
    chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])

    async def decide(asked: Any) -> Any:
        return allowed()

    async with (
        authorization_server(decide, credentials) as port,
        ExtAuthz([provider(port, ca_file=tmp_path / "ca.pem")]) as ext_authz,
    ):
        answer = await ext_authz.check(ASKED, "opa")
    assert answer.allowed is trusted
    assert trusted or "its certificate is refused" in answer.reason
