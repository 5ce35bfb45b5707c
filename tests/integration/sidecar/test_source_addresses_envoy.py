"""A real Envoy and our sidecar find the same client in x-forwarded-for and in PROXY protocol headers.

The wanted differences are listed: where Envoy finds no client it takes the address of the connection, which is a
proxy's. We know none then, and a PROXY protocol header that is not as its specification says is refused.
"""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx

from meshtls.sidecar.settings import Mode, Protocol
from meshtls.wire.crc32c import crc32c
from tests.integration.sidecar.governed import a_web_app, governed, with_policies
from tests.integration.sidecar.mesh import an_app, connected, patient, rest
from tests.support.envoy import started_envoy
from tests.support.envoy_http import EXTENSIONS
from tests.support.waiting import SECONDS

Json = dict[str, Any]
SOCKET = "127.0.0.1"
MOST_HOPS = 3
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {rules: [{from: [{source: {remoteIpBlocks: ['CLIENT']}}]}]}
"""
PATIENT = patient(detect_timeout=SECONDS)


def bootstrap(*listeners: Json) -> Json:
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": address()},
        "static_resources": {"listeners": list(listeners)},
    }


def address() -> Json:
    return {"socket_address": {"address": SOCKET, "port_value": 0}}


def telling(name: str, hops: int, **more: Any) -> Json:
    """A listener that answers with the client that it found, and the header that an app would get."""
    told = {"x-client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "x-gets": "%REQ(x-forwarded-for)%"}
    router = {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": True,
        "xff_num_trusted_hops": hops,
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {
            "response_headers_to_add": [{"header": {"key": key, "value": value}} for key, value in told.items()],
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ],
        },
    }
    return {
        "name": name,
        "address": address(),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        **more,
    }


# -- x-forwarded-for --

LINES = (
    (),
    ("203.0.113.1",),
    ("198.51.100.1, 203.0.113.1",),
    ("198.51.100.1,203.0.113.1 , 192.0.2.1",),
    ("198.51.100.1", "203.0.113.1"),
    ("198.51.100.1, 192.0.2.9", "203.0.113.1"),
    ("2001:db8::1, ::2",),
    ("2001:DB8:0:0::1",),
    ("203.0.113.1,",),
    ("203.0.113.1, , 192.0.2.1",),
    ("203.0.113.1:80",),
    ("[2001:db8::1]",),
    ("unknown, 203.0.113.1",),
    ("203.0.113.1, unknown",),
    ("203.0.113",),
    ("203.0.113.01",),
    ("203.0.113.1 203.0.113.2",),
    ("localhost",),
    ("1",),
)


async def test_the_client_in_x_forwarded_for_is_envoy_s(tmp_path: Path) -> None:
    listeners = [telling(str(hops), hops) for hops in range(1, MOST_HOPS + 1)]
    unknown, known = 0, 0
    async with (
        started_envoy(tmp_path, bootstrap(*listeners)) as envoy,
        a_web_app() as app,
        httpx.AsyncClient() as client,
    ):
        for hops in range(1, MOST_HOPS + 1):
            theirs = f"http://{SOCKET}:{await envoy.port(str(hops))}/"
            keys: Json = {"protocol": Protocol.HTTP, "mode": Mode.PERMISSIVE, "limits": PATIENT}
            async with governed(app.address, POLICY.replace("CLIENT", SOCKET), num_trusted_proxies=hops, **keys) as b:
                for number, lines in enumerate(LINES):
                    headers = [("x-forwarded-for", line) for line in lines]
                    told = (await client.get(theirs, headers=headers)).headers
                    found = told["x-client"]
                    b.sidecar.reload(with_policies(b.sidecar.config, POLICY.replace("CLIENT", found)))
                    answer = await client.get(f"http://{b.inbound}/{number}", headers=headers)
                    case = f"{hops} of {lines}: Envoy finds {found}"
                    if found == SOCKET:
                        assert answer.status_code == 403, case  # the wanted difference
                        unknown += 1
                        continue
                    assert answer.status_code == 200, case
                    known += 1
                    # Envoy appends an address of its own where that of the connection is loopback.
                    gets, own = answer.json()["headers"]["x-forwarded-for"], told["x-gets"]
                    assert gets.rpartition(", ")[0] == own.rpartition(",")[0], case
                    assert gets.rpartition(", ")[2] == SOCKET, case
    assert (known > 15, unknown > 15) == (True, True)


# -- the PROXY protocol --

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes((203, 0, 113, 7, 192, 0, 2, 1)) + b"\x12\x67\x01\xbb"

V6 = bytes.fromhex("20010db8000000000000000000000007 20010db8000000000000000000000001 1267 01bb")


def v2(rest: bytes = V4, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + rest


def summed(flipped: int) -> bytes:
    header = v2(V4 + b"\x03\x00\x04" + bytes(4))
    return header[:-4] + (crc32c(header) ^ flipped).to_bytes(4, "big")


HEADERS = {
    "TCP4": b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    "TCP6": b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n",
    "v2 of IPv4": v2(),
    "v2 of IPv6": v2(V6, family=0x21),
    "TLVs": v2(V4 + b"\x01\x00\x02h2\xea\x00\x00"),
    "a checksum": summed(0),
    "local": v2(b"", command=0x20, family=0),
    "unknown": b"PROXY UNKNOWN\r\n",
    "no address": v2(b"", family=0),
    "none": b"",
    "two of them": b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n" * 2,
    "no carriage return": b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\n",
    "two spaces": b"PROXY TCP4  203.0.113.7 192.0.2.1 4711 443\r\n",
    "a name": b"PROXY TCP4 localhost 192.0.2.1 4711 443\r\n",
    "of two kinds": b"PROXY TCP4 203.0.113.7 ::1 4711 443\r\n",
    "a large port": b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 443\r\n",
    "a long line": b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443" + b" " * 80 + b"\r\n",
    "version 3": v2(command=0x31),
    "another command": v2(command=0x22),
    "too short": v2(V4[:-1]),
    "a TLV too long": v2(V4 + b"\x01\x00\x09h2"),
    "a wrong checksum": summed(1),
}
#: Envoy serves these: by the address of the connection, and without looking at the checksum.
ONLY_ENVOY = {"unknown": SOCKET, "a wrong checksum": "203.0.113.7"}
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def told_by_envoy(port: int, header: bytes) -> str | None:
    """The client; None for a connection that is refused."""
    reader, writer = await asyncio.open_connection(SOCKET, port)
    try:
        writer.write(header + REQUEST)
        async with asyncio.timeout(SECONDS):
            found = re.search(rb"x-client: (\S+)", await reader.read())
    except ConnectionError:
        return None
    finally:
        writer.close()
    return found[1].decode() if found else None


async def test_the_client_in_a_proxy_protocol_header_is_envoy_s(tmp_path: Path) -> None:
    proxy = {"@type": f"{EXTENSIONS}.filters.listener.proxy_protocol.v3.ProxyProtocol"}
    listener = telling("proxied", 0, listener_filters=[{"name": "proxy", "typed_config": proxy}])
    keys: Json = {"mode": Mode.DISABLE, "limits": PATIENT, "proxy_protocol_from": (ip_network("127.0.0.1/32"),)}
    differing = {}
    async with (
        started_envoy(tmp_path, bootstrap(listener)) as envoy,
        an_app() as app,
        governed(app.address, POLICY.replace("CLIENT", "0.0.0.0/0', '::/0"), **keys) as b,
    ):
        port = await envoy.port("proxied")
        for name, header in HEADERS.items():
            theirs = await told_by_envoy(port, header)
            ours = None
            async with connected(b.inbound) as streams:
                try:
                    streams[1].write(header + b"ping")
                    streams[1].write_eof()
                    came = await rest(streams)
                except ConnectionError:
                    came = b""
            line = await b.lines.next()
            if came.endswith(b"ping"):
                ours = line["remote"].rpartition(":")[0].strip("[]")
            if name == "two of them":  # the second is the app's: Envoy reads it as HTTP, and answers 400
                assert (ours, came) == ("203.0.113.7", header[len(header) // 2 :] + b"ping")
            elif theirs != ours:
                differing[name] = theirs
                assert ours is None, f"{name}: Envoy finds {theirs}, and we {ours}"
    assert differing == ONLY_ENVOY
