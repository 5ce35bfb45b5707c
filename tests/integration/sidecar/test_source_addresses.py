"""Item 17 of the policy semantics through real sidecars: who the client is behind load balancers and HTTP proxies."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import ForwardClientCert, Limits, Mode, Protocol
from tests.integration.policy.web_app import web_app
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import Node, an_app, connected, echoed, patient, rest, side_a
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS, until

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {action: ACTION, rules: [{from: [{source: {BLOCKS}}]}]}
"""
CLIENT = "203.0.113.7"
ALLOW = POLICY.replace("ACTION", "ALLOW").replace("BLOCKS", "remoteIpBlocks: [203.0.113.0/24]")
DENY = POLICY.replace("ACTION", "DENY").replace("BLOCKS", "remoteIpBlocks: [198.51.100.0/24]")
DENY_OTHERS = POLICY.replace("ACTION", "DENY").replace("BLOCKS", "notRemoteIpBlocks: [203.0.113.0/24]")
ALLOW_OTHERS = POLICY.replace("ACTION", "ALLOW").replace("BLOCKS", "notRemoteIpBlocks: [198.51.100.0/24]")
BY_SOCKET = POLICY.replace("ACTION", "ALLOW").replace("BLOCKS", "ipBlocks: [127.0.0.0/8]")
PATIENT = patient(detect_timeout=SECONDS)
LOOPBACK: dict[str, Any] = {"proxy_protocol_from": (ip_network("127.0.0.0/8"),)}
HEADER = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEADER_2 = SIGNATURE + b"\x21\x11\x00\x0c" + bytes((203, 0, 113, 7, 192, 0, 2, 1)) + b"\x12\x67\x01\xbb"
LOCAL_2 = SIGNATURE + b"\x20\x00\x00\x00"
UNSPECIFIED_2 = SIGNATURE + b"\x21\x00\x00\x00"


@contextlib.asynccontextmanager
async def a_balancer(to: Address, header: bytes) -> AsyncIterator[Address]:
    """Passes on each connection, after the header."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(to.host, to.port)
        back.write(header)
        await asyncio.gather(copy(reader, back), copy(there, writer))
        for one in (writer, back):
            one.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


async def sent(to: Address, data: bytes) -> bytes | str:
    """What comes back, up to the end; "reset" for a reset."""
    async with connected(to) as streams:
        try:
            streams[1].write(data)
            streams[1].write_eof()
            return await rest(streams)
        except ConnectionError:
            return "reset"


# -- the PROXY protocol --


@pytest.mark.parametrize("header", [HEADER, HEADER_2], ids=["v1", "v2"])
@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_balancer_s_header_before_tls_names_the_client(header: bytes, tunnel: bool) -> None:
    for text, allowed in ((ALLOW, True), (DENY_OTHERS, True), (ALLOW.replace("203.0.113", "198.51.100"), False)):
        async with (
            an_app() as app,
            governed(app.address, text, tunnel=tunnel, **LOOPBACK) as b,
            a_balancer(b.inbound, header) as balancer,
            side_a(balancer, tunnel=tunnel, destination=b.inbound if tunnel else None) as a,
        ):
            async with connected(a.outbound) as streams:
                with contextlib.suppress(ConnectionError):
                    assert (await echoed(streams) == b"ping") is allowed
            line = await b.lines.next()
            assert (line["remote"], line["verdict"]) == (f"{CLIENT}:4711", "allowed" if allowed else "denied")
            assert app.connections == allowed


async def test_ip_blocks_stay_the_balancer_s_address() -> None:
    for text, answer in ((BY_SOCKET, b"ping"), (BY_SOCKET.replace("127.0.0.0/8", "203.0.113.0/24"), "reset")):
        async with an_app() as app, governed(app.address, text, mode=Mode.DISABLE, **LOOPBACK) as b:
            assert await sent(b.inbound, HEADER + b"ping") == answer


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
@pytest.mark.parametrize("pause", [False, True])
async def test_plaintext_after_the_header_is_judged_by_the_client(mode: Mode, pause: bool) -> None:
    for text, answer in ((ALLOW, b"ping"), (ALLOW.replace("203.0.113", "127.0.0"), "reset")):
        async with (
            an_app() as app,
            governed(app.address, text, mode=mode, limits=PATIENT, **LOOPBACK) as b,
            connected(b.inbound) as streams,
        ):
            streams[1].write(HEADER if pause else HEADER + b"ping")
            if pause:
                await until(lambda: [one.remote for one in b.sidecar.registry.live()] == [f"{CLIENT}:4711"])
                streams[1].write(b"ping")
            streams[1].write_eof()
            try:
                came: bytes | str = await rest(streams)
            except ConnectionError:
                came = "reset"
            assert came == answer


@pytest.mark.parametrize(
    ("header", "text", "answer"),
    [
        # The balancer's own connection is from the balancer.
        (LOCAL_2, ALLOW.replace("203.0.113.0", "127.0.0.0"), b"ping"),
        (LOCAL_2, ALLOW, "reset"),
        # One of which the balancer knows no address has no address, whatever the policy.
        (UNSPECIFIED_2, ALLOW.replace("203.0.113.0/24", "0.0.0.0/0"), "reset"),
        (UNSPECIFIED_2, ALLOW_OTHERS, "reset"),
        (UNSPECIFIED_2, DENY, "reset"),
        (UNSPECIFIED_2, DENY_OTHERS, "reset"),
        (UNSPECIFIED_2, BY_SOCKET, b"ping"),
        (b"PROXY UNKNOWN\r\n", ALLOW_OTHERS, "reset"),
        (b"PROXY UNKNOWN\r\n", BY_SOCKET, b"ping"),
        (HEADER, ALLOW_OTHERS, b"ping"),
        (HEADER, DENY, b"ping"),
        (HEADER, DENY_OTHERS, b"ping"),
    ],
)
async def test_a_client_that_is_not_known_is_allowed_nothing(header: bytes, text: str, answer: bytes | str) -> None:
    async with an_app() as app, governed(app.address, text, mode=Mode.DISABLE, **LOOPBACK) as b:
        assert await sent(b.inbound, header + b"ping") == answer


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"ping", "wanted a PROXY protocol header, version 1 or 2, got b'ping'"),
        (
            b"\x16\x03\x01\x00\x05hello",
            "wanted a PROXY protocol header, version 1 or 2, got b'\\x16\\x03\\x01\\x00\\x05hello'",
        ),
        (b"PROXY TCP4 203.0.113.7", "the proxy ended before its header did"),
        (
            HEADER.replace(b"4711", b"99999") + b"ping",
            "PROXY protocol, version 1: wanted two ports, 0 to 65535, got"
            " b'PROXY TCP4 203.0.113.7 192.0.2.1 99999 443\\r'",
        ),
    ],
)
@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE])
async def test_a_connection_without_a_right_header_is_refused(data: bytes, detail: str, mode: Mode) -> None:
    everybody = POLICY.replace("ACTION", "ALLOW").replace("from: [{source: {BLOCKS}}]", "")
    async with an_app() as app, governed(app.address, everybody, mode=mode, limits=PATIENT, **LOOPBACK) as b:
        assert await sent(b.inbound, data) in (b"", "reset")
        line = await b.lines.next()
        assert (line["outcome"], line["verdict"], line["detail"]) == ("PROXY_HEADER_REFUSED", "denied", detail)
    assert app.connections == 0


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE])
async def test_a_balancer_that_connects_and_closes_is_not_denied(mode: Mode) -> None:
    async with an_app() as app, governed(app.address, BY_SOCKET, mode=mode, limits=PATIENT, **LOOPBACK) as b:
        assert await sent(b.inbound, b"") in (b"", "reset")
        line = await b.lines.next()
        assert (line["outcome"], line["verdict"]) == ("CLOSED_EARLY", "failed")
        assert line["detail"] == "the proxy closed the connection before it sent a byte"
    assert app.connections == 0


async def test_a_header_is_taken_from_the_named_balancers_alone() -> None:
    others: dict[str, Any] = {"proxy_protocol_from": (ip_network("192.0.2.0/24"), ip_network("::1/128"))}
    async with an_app() as app, governed(app.address, BY_SOCKET, mode=Mode.DISABLE, **others) as b:
        assert await sent(b.inbound, HEADER + b"ping") in (b"", "reset")
        line = await b.lines.next()
        assert line["outcome"] == "PROXY_HEADER_REFUSED"
        assert line["detail"] == f"wanted a proxy in proxy_protocol_from, got a connection from {line['remote']}"
        assert line["remote"].startswith("127.0.0.1:")
    assert app.connections == 0


async def test_a_header_is_not_waited_for_without_end() -> None:
    limits = Limits(handshake_timeout=0.05, connect_timeout=60)
    async with (
        an_app() as app,
        governed(app.address, BY_SOCKET, mode=Mode.DISABLE, limits=limits, **LOOPBACK) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(b"PROXY TCP4 ")
        line = await b.lines.next()
        assert (line["outcome"], line["detail"]) == ("PROXY_HEADER_REFUSED", "no whole header within 0.05 s")


async def test_without_the_key_a_header_is_the_app_s_own_bytes() -> None:
    async with an_app() as app, governed(app.address, BY_SOCKET, mode=Mode.DISABLE) as b:
        assert await sent(b.inbound, HEADER + b"ping") == HEADER + b"ping"


async def test_the_app_s_own_header_names_the_balancer_s_client() -> None:
    async with (
        an_app() as app,
        governed(app.address, ALLOW, mode=Mode.DISABLE, proxy_protocol=True, **LOOPBACK) as b,
    ):
        told = await sent(b.inbound, HEADER + b"ping")
        assert isinstance(told, bytes)
        assert told[12:20] == b"\x21\x11\x00\x0c" + socket.inet_aton(CLIENT)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
async def test_haproxy_s_header_names_its_client(tmp_path: Path, version: str) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    both = POLICY.replace("ACTION", "ALLOW").replace("BLOCKS", "remoteIpBlocks: [127.0.0.1], ipBlocks: [127.0.0.2]")
    async with an_app() as app, governed(app.address, both, **LOOPBACK) as b:
        (port,) = free_ports(1)
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            f"defaults\n  mode tcp\n  timeout client 60s\n  timeout server 60s\n  timeout connect 60s\n"
            f"listen l\n  bind 127.0.0.1:{port}\n  server s {b.inbound} {version} source 127.0.0.2\n"
        )
        process = await asyncio.create_subprocess_exec("haproxy", "-q", "-db", "-f", str(config))
        try:
            async with side_a(Address("127.0.0.1", port)) as a, asyncio.timeout(SECONDS):
                while app.connections == 0:  # until it listens
                    with contextlib.suppress(ConnectionError):
                        async with connected(a.outbound) as streams:
                            assert await echoed(streams) in (b"ping", b"")
            line = await b.lines.next()
            assert (line["outcome"], line["remote"].rpartition(":")[0]) == ("OK", "127.0.0.1")
        finally:
            process.terminate()
            await process.wait()


# -- x-forwarded-for --


def http(**more: Any) -> dict[str, Any]:
    return {"protocol": Protocol.HTTP, "mode": Mode.PERMISSIVE, "limits": PATIENT, "num_trusted_proxies": 1, **more}


async def status_of(b: Node, client: httpx.AsyncClient, *lines: str) -> int:
    answer = await client.get(f"http://{b.inbound}/", headers=[("x-forwarded-for", line) for line in lines])
    return answer.status_code


@pytest.mark.parametrize(
    ("proxies", "lines", "allowed"),
    [
        (1, ["203.0.113.7"], True),
        (1, ["198.51.100.1, 203.0.113.7"], True),
        (1, ["198.51.100.1", "203.0.113.7"], True),
        (1, ["203.0.113.7, 198.51.100.1"], False),
        (2, ["203.0.113.7, 192.0.2.1"], True),
        (2, ["192.0.2.1, 203.0.113.7"], False),
        (0, ["203.0.113.7"], False),
    ],
)
async def test_the_client_is_the_one_that_the_trusted_proxies_noted(
    proxies: int, lines: list[str], allowed: bool
) -> None:
    deny = POLICY.replace("ACTION", "DENY").replace("BLOCKS", "remoteIpBlocks: [203.0.113.0/24]")
    for text, status in ((ALLOW, 200 if allowed else 403), (deny, 403 if allowed else 200)):
        async with (
            a_web_app() as app,
            governed(app.address, text, **http(num_trusted_proxies=proxies)) as b,
            httpx.AsyncClient() as client,
        ):
            assert await status_of(b, client, *lines) == status


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["203.0.113.7:443"],
        ["[2001:db8::1]"],
        ["unknown"],
        ["203.0.113.7,"],
        ["203.0.113.7", ""],
        ["203.0.113.7 203.0.113.8"],
        ["fe80::1%1"],
    ],
)
async def test_without_a_right_address_no_rule_allows_and_every_rule_denies(lines: list[str]) -> None:
    for text in (ALLOW, ALLOW.replace("203.0.113.0/24", "0.0.0.0/0, '::/0'"), ALLOW_OTHERS, DENY, DENY_OTHERS):
        async with (
            a_web_app() as app,
            governed(app.address, text, **http()) as b,
            httpx.AsyncClient() as client,
        ):
            assert await status_of(b, client, *lines) == 403
            assert "got no known address" in (await b.lines.next())["clause"]
            # The twin, on the same connection.
            assert await status_of(b, client, CLIENT) == 200


async def test_policies_that_do_not_ask_for_the_client_need_no_header() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, BY_SOCKET, **http()) as b,
        httpx.AsyncClient() as client,
    ):
        assert await status_of(b, client) == 200


async def test_the_header_is_read_in_http_2() -> None:
    async with (
        web_app() as app,
        governed(app.address, ALLOW, **http()) as b,
        httpx.AsyncClient(http1=False, http2=True) as client,
    ):
        assert await status_of(b, client, "198.51.100.1", CLIENT) == 200
        assert await status_of(b, client, CLIENT, "198.51.100.1") == 403
        assert await status_of(b, client) == 403


async def test_too_few_addresses_are_no_client() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW, **http(num_trusted_proxies=2)) as b,
        httpx.AsyncClient() as client,
    ):
        assert await status_of(b, client, CLIENT) == 403
        assert await status_of(b, client, CLIENT, "192.0.2.1") == 200


async def test_the_clients_of_one_connection_are_judged_each_by_its_address() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW, **http()) as b,
        httpx.AsyncClient() as client,
    ):
        for number in (*range(12), *range(12)):
            assert await status_of(b, client, f"203.0.113.{number}") == 200
            assert await status_of(b, client, f"198.51.100.{number}") == 403
    assert app.connections == 1


@pytest.mark.parametrize(
    ("proxies", "lines", "gets"),
    [
        (0, [], None),
        (0, ["any thing"], "any thing"),
        (1, ["198.51.100.1, 203.0.113.7"], "198.51.100.1, 203.0.113.7, 127.0.0.1"),
        (1, ["198.51.100.1", "203.0.113.7"], "198.51.100.1,203.0.113.7, 127.0.0.1"),
        (1, [], "127.0.0.1"),
    ],
)
async def test_the_app_gets_the_header_with_our_neighbour_appended_or_as_it_came(
    proxies: int, lines: list[str], gets: str | None
) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, BY_SOCKET, **http(num_trusted_proxies=proxies)) as b,
        httpx.AsyncClient() as client,
    ):
        headers = [("x-forwarded-for", line) for line in lines]
        answer = await client.get(f"http://{b.inbound}/", headers=headers)
        assert answer.json()["headers"].get("x-forwarded-for") == gets


async def test_a_policy_sees_the_header_that_the_app_gets() -> None:
    text = POLICY.replace("ACTION", "ALLOW").replace(
        "from: [{source: {BLOCKS}}]", "when: [{key: 'request.headers[x-forwarded-for]', values: ['*, 127.0.0.1']}]"
    )
    async with (
        a_web_app() as app,
        governed(app.address, text, **http()) as b,
        httpx.AsyncClient() as client,
    ):
        assert await status_of(b, client, CLIENT) == 200
        assert await status_of(b, client) == 403


@pytest.mark.parametrize("tunnel", [False, True])
async def test_the_header_is_read_within_mutual_tls_and_tunnels(tunnel: bool) -> None:
    async with (
        a_web_app() as app,
        governed(
            app.address,
            ALLOW,
            protocol=Protocol.AUTO,
            tunnel=tunnel,
            limits=PATIENT,
            num_trusted_proxies=1,
            forward_client_cert=ForwardClientCert.SANITIZE,
        ) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        httpx.AsyncClient() as client,
    ):
        for address, status in ((CLIENT, 200), ("127.0.0.1", 403), ("", 403), (CLIENT, 200)):
            answer = await client.get(f"http://{a.outbound}/", headers={"x-forwarded-for": address})
            assert answer.status_code == status


async def test_plain_tcp_beside_it_has_no_known_client() -> None:
    limits = patient(detect_timeout=0.05)
    for text, answer in ((ALLOW_OTHERS, "reset"), (BY_SOCKET, b"EHLO a\r\n")):
        async with (
            an_app() as app,
            governed(app.address, text, **http(protocol=Protocol.AUTO, limits=limits)) as b,
        ):
            assert await sent(b.inbound, b"EHLO a\r\n") == answer


async def test_a_balancer_s_client_is_what_is_appended() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ALLOW, **http(), **LOOPBACK) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(
            b"PROXY TCP4 192.0.2.55 192.0.2.1 4711 443\r\n"
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"
        )
        answer = await rest(streams)
        assert b'"x-forwarded-for": "203.0.113.9, 192.0.2.55"' in answer
