"""A real Envoy and our sidecar give the app the same x-forwarded-client-cert, whatever the client sends of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import ssl
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded, StreamReset

from meshtls.address import Address
from meshtls.sidecar.settings import CertDetail, ForwardClientCert, HttpKeys, Limits, Mode, Protocol
from tests.integration.policy.test_envoy_rbac import write
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import OURS, A, as_a, as_b
from tests.support.envoy import started_envoy
from tests.support.envoy_http import EXTENSIONS, grpc_cluster
from tests.support.waiting import SECONDS

Json = dict[str, Any]
HEADER = b"x-forwarded-client-cert"
OPEN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {rules: [{}]}
"""
DETAILS = ((), (CertDetail.CERT, CertDetail.CHAIN))
#: An element as a proxy in front would have written it.
ELEMENT = b"By=spiffe://example.org/front;Hash=0a;URI=spiffe://example.org/admin"
#: What a client sends: the lines of its head after Host.
CAME: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "an element": (HEADER + b": " + ELEMENT,),
    "two elements": (HEADER + b": " + ELEMENT + b",By=spiffe://example.org/x;URI=spiffe://example.org/y",),
    "two lines": (HEADER + b": " + ELEMENT, HEADER + b": By=spiffe://example.org/x"),
    "three lines in different cases": (b"X-Forwarded-Client-Cert: a", HEADER + b": b", HEADER.upper() + b": c"),
    "a value in quotes": (HEADER + b': By="spiffe://example.org/x,y;z=\\"";URI=spiffe://example.org/y',),
    "a quote that is not closed": (HEADER + b': URI="spiffe://example.org/admin',),
    "a quote over two lines": (HEADER + b': URI="a', HEADER + b': b"'),
    "separators alone": (HEADER + b": ;,=;,,;",),
    "a comma at the end": (HEADER + b": " + ELEMENT + b",",),
    "a comma in front": (HEADER + b": ," + ELEMENT,),
    "blanks inside": (HEADER + b": By = a ; URI\t= b , c",),
    "blanks around": (HEADER + b": \t " + ELEMENT + b" \t",),
    "no key": (HEADER + b": spiffe://example.org/admin",),
    "bytes beyond ASCII": (HEADER + b": URI=caf\xe9",),
    "percent signs": (HEADER + b": URI=%2C%3B%0a",),
    "a long value": (HEADER + b": Cert=" + b"A" * 8000,),
    "an empty value": (HEADER + b":",),
    "an empty line and an element": (HEADER + b":", HEADER + b": " + ELEMENT),
    "underscores for the dashes": (b"x_forwarded_client_cert: " + ELEMENT,),
    "underscores beside dashes": (b"x-forwarded_client-cert: " + ELEMENT, HEADER + b": URI=a"),
    "named in Connection": (HEADER + b": " + ELEMENT, b"connection: " + HEADER),
}
OWN_END = f";URI={A}"
#: What follows ``By=`` in the element of a sidecar.
OWN = re.compile(
    r"spiffe://example\.org/ns/default/sa/service-b;Hash=[0-9a-f]{64}"
    r'(?:;Cert="-----BEGIN[^";,]+";Chain="-----BEGIN[^";,]+")?;URI=spiffe://example\.org/ns/default/sa/service-a'
)
KEEPS = (ForwardClientCert.FORWARD_ONLY, ForwardClientCert.APPEND_FORWARD)


class Sent(NamedTuple):
    """One request: what came, as which client, to a listener with these settings."""

    came: str
    mutual: bool
    mode: ForwardClientCert
    details: tuple[CertDetail, ...]

    @property
    def keeps(self) -> bool:
        """Whether what came is passed on."""
        return self.mode is ForwardClientCert.ALWAYS_FORWARD_ONLY or (self.mutual and self.mode in KEEPS)

    @property
    def own(self) -> bool:
        """Whether the proxy says who the peer is."""
        return self.mutual and self.mode in (ForwardClientCert.SANITIZE_SET, ForwardClientCert.APPEND_FORWARD)


def wanted_difference(sent: Sent, ours: list[str], envoys: list[str]) -> str | None:
    """In what we are stricter than Envoy, by name; None for a difference that has none."""
    if ours == [] and envoys == [""]:
        return "a header without a value is not passed on"
    underscored = [ELEMENT.decode()] if sent.came.startswith("underscores") else []
    if underscored and envoys == underscored + ours:
        return "a name with underscores, which an app may take for the header's, is removed in every mode"
    return None


SETTINGS = tuple(itertools.product(ForwardClientCert, DETAILS))
SENT = [
    Sent(came, mutual, mode, details)
    for came, mutual, (mode, details) in itertools.product(CAME, (True, False), SETTINGS)
]


# -- Envoy --


def name_of(mode: ForwardClientCert, details: tuple[CertDetail, ...], *, mutual: bool) -> str:
    return f"{mode.value} {'with' if details else 'without'} details, {'mutual' if mutual else 'plaintext'}"


def bootstrap(app: Address, chain: Path, key: Path, roots: Path, *, http2: bool = False) -> Json:
    """``http2``: with the app, and offered to clients."""
    tls = {
        "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(roots)}},
            "alpn_protocols": ["h2"] if http2 else ["http/1.1"],
        },
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": at(app.port)}}]}]
    cluster = {
        **(grpc_cluster("app", app.port) if http2 else {}),
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "20s",
        "load_assignment": {"cluster_name": "app", "endpoints": endpoints},
    }
    listeners = [
        listener(mode, details, tls if mutual else None) for (mode, details) in SETTINGS for mutual in (True, False)
    ]
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": at(0)},
        "static_resources": {"listeners": listeners, "clusters": [cluster]},
    }


def listener(mode: ForwardClientCert, details: tuple[CertDetail, ...], tls: Json | None) -> Json:
    name = name_of(mode, details, mutual=tls is not None)
    route = {"match": {"prefix": "/"}, "route": {"cluster": "app"}}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "forward_client_cert_details": mode.value.upper(),
        "set_current_client_cert_details": {"uri": True, **{one.value: True for one in details}},
    }
    chain: Json = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {"name": name, "address": at(0), "filter_chains": [chain]}


def at(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# -- the app, and its clients --


@contextlib.asynccontextmanager
async def telling_app() -> AsyncIterator[Address]:
    """Answers each request with the values of the header, as an app for which an underscore is a dash reads them."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = [line.partition(b":") for line in head.split(b"\r\n")[1:-2]]
                found = [value.strip(b" ") for name, _, value in fields if name.lower().replace(b"_", b"-") == HEADER]
                told = json.dumps([value.decode("latin-1") for value in found]).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


async def told(port: int, tls: ssl.SSLContext | None, came: str) -> list[str]:
    """The header's values that the app got. "400" if the request was refused."""
    head = b"\r\n".join((b"GET / HTTP/1.1", b"host: b", *CAME[came], b"", b""))
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, limit=1 << 20)
        try:
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            status = answer.split()[1].decode()
            if status != "200":
                return [status]
            length = re.search(rb"content-length: ([0-9]+)\r", answer)
            assert length is not None
            found: list[str] = json.loads(await reader.readexactly(int(length[1])))
        finally:
            writer.close()
    return found


@contextlib.asynccontextmanager
async def telling_app_of_http2() -> AsyncIterator[Address]:
    """As ``telling_app``, over HTTP/2."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = H2Connection(H2Configuration(client_side=False))
        end.initiate_connection()
        with contextlib.suppress(ConnectionError):
            writer.write(end.data_to_send())
            while data := await reader.read(1 << 16):
                for event in end.receive_data(data):
                    if isinstance(event, RequestReceived) and event.stream_id:
                        fields = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                        found = [value for name, value in fields if name.replace(b"_", b"-") == HEADER]
                        told = json.dumps([value.decode("latin-1") for value in found]).encode()
                        end.send_headers(event.stream_id, [(":status", "200")])
                        end.send_data(event.stream_id, told, end_stream=True)
                writer.write(end.data_to_send())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


async def told_over_http2(port: int, tls: ssl.SSLContext | None, came: Iterable[str]) -> dict[str, list[str]]:
    """The header's values that the app got for each of these, over one connection. Its status if that is not 200."""
    end = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
    found: dict[str, list[str]] = {}
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            end.initiate_connection()
            for number, one in zip(itertools.count(1, 2), came):
                lines = [line.partition(b":") for line in CAME[one]]
                end.send_headers(
                    number,
                    [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"b")]
                    + [(name.lower(), value.strip(b" \t")) for name, _, value in lines],
                    end_stream=True,
                )
                writer.write(end.data_to_send())
                status, body, ended = "", b"", False
                while not ended:
                    data = await reader.read(1 << 16)
                    assert data, (one, status, body)
                    for event in end.receive_data(data):
                        if isinstance(event, ResponseReceived):
                            status = bytes(dict(event.headers or ())[b":status"]).decode()
                        elif isinstance(event, DataReceived):
                            body += event.data or b""
                            end.acknowledge_received_data(event.flow_controlled_length or 0, number)
                        elif isinstance(event, StreamReset):
                            status, ended = "reset", True
                        ended = ended or isinstance(event, StreamEnded)
                    writer.write(end.data_to_send())
                found[one] = json.loads(body) if status == "200" else [status]
        finally:
            writer.close()
    return found


async def told_over_http1(port: int, tls: ssl.SSLContext | None, came: Iterable[str]) -> dict[str, list[str]]:
    return {one: await told(port, tls, one) for one in came}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
async def test_envoy_and_the_sidecar_tell_the_app_the_same_of_a_client(http2: bool, tmp_path: Path) -> None:
    client_chain, client_key = write(as_a(), tmp_path, "client")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # the servers are this test's own
    tls.load_cert_chain(client_chain, client_key)
    tls.set_alpn_protocols(["h2"] if http2 else ["http/1.1"])
    # Over HTTP/2 the field Connection makes a request malformed.
    came = [one for one in CAME if not http2 or one != "named in Connection"]
    asked, serving = (told_over_http2, telling_app_of_http2) if http2 else (told_over_http1, telling_app)
    chain, key = write(as_b(), tmp_path, "server")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(OURS.bundle.to_pem())
    limits = Limits(handshake_timeout=60, connect_timeout=60, detect_timeout=SECONDS)
    ours: dict[Sent, list[str]] = {}
    envoys: dict[Sent, list[str]] = {}
    async with (
        serving() as app,
        started_envoy(tmp_path, bootstrap(app, chain, key, roots, http2=http2)) as envoy,
    ):
        for mode, details in SETTINGS:
            ports = {mutual: await envoy.port(name_of(mode, details, mutual=mutual)) for mutual in (True, False)}
            async with governed(
                app,
                OPEN,
                mode=Mode.PERMISSIVE,
                protocol=Protocol.HTTP,
                limits=limits,
                forward_client_cert=mode,
                client_cert_details=details,
                http=HttpKeys(underscore_names=True),  # else a name with underscores is refused
            ) as b:
                for mutual in (True, False):
                    context = tls if mutual else None
                    for values, port in ((envoys, ports[mutual]), (ours, b.inbound.port)):
                        told_of = await asked(port, context, came)
                        values.update({Sent(one, mutual, mode, details): told_of[one] for one in came})
    assert len(ours) == len(came) * 2 * len(SETTINGS)
    differ = {sent: (ours[sent], envoys[sent]) for sent in ours if ours[sent] != envoys[sent]}
    names = {sent: wanted_difference(sent, *values) for sent, values in differ.items()}
    assert {sent: differ[sent] for sent, name in names.items() if name is None} == {}
    assert len(set(names.values())) == 2
    # What both say is what the modes promise, and no more.
    for sent in ours:
        own = [one for one in ours[sent] if one.endswith(OWN_END)]
        assert bool(own) is sent.own, sent
        assert not sent.own or (OWN.fullmatch(own[0].rpartition("By=")[2]) is not None), (sent, own)
        if sent.came == "an element":
            assert (ELEMENT.decode() in "".join(ours[sent])) is sent.keeps, sent


def test_the_twin_of_each_mode_differs_in_what_the_app_is_told() -> None:
    told_of = {(sent.keeps, sent.own) for sent in SENT if sent.mutual}
    assert told_of == {(False, False), (True, False), (True, True), (False, True)}
    assert {(sent.keeps, sent.own) for sent in SENT if not sent.mutual} == {(False, False), (True, False)}
