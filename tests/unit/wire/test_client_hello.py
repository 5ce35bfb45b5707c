"""What is read of a ClientHello: real ones, whole and in pieces, and what is none."""

from __future__ import annotations

import os
import ssl

import pytest

from meshtls.wire.client_hello import LONGEST, ClientHello, client_hello_of


def hello(sni: str | None, alpn: tuple[str, ...]) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    ("sni", "alpn", "of_mesh"),
    [
        (None, (), True),
        (None, ("h2",), True),
        ("web.test", (), False),
        ("web.test", ("h2", "http/1.1"), False),
        ("outbound_.80_._.web.shop.svc.cluster.local", ("istio",), True),
        ("outbound_.80_._.web.shop.svc.cluster.local", ("istio-peer-exchange", "istio"), True),
        ("outbound_.80_._.web.shop.svc.cluster.local", ("istio-http/1.1", "http/1.1"), True),
        ("web.test", ("istio-like",), False),
    ],
)
def test_tls_is_the_mesh_s_if_it_names_no_server_or_offers_a_name_of_istio(
    sni: str | None, alpn: tuple[str, ...], of_mesh: bool
) -> None:
    data = hello(sni, alpn)
    found = client_hello_of(data)
    assert found == ClientHello(sni, tuple(name.encode() for name in alpn))
    assert found is not None
    assert found.is_of_mesh is of_mesh
    assert client_hello_of(data + b"more") == found
    assert all(client_hello_of(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize("cut", [1, 2, 4, 5, 40])
def test_a_client_hello_may_span_records(cut: int) -> None:
    data = hello("web.test", ("h2",))
    header, message = data[:3], data[5:]
    parts = [message[:cut], message[cut:]]
    records = b"".join(header + len(part).to_bytes(2, "big") + part for part in parts)
    assert client_hello_of(records) == client_hello_of(data)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x01\x01" * 20,  # more records than a ClientHello needs
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(LONGEST),
    ],
)
def test_a_malformed_or_too_long_client_hello_is_left_to_tls(data: bytes) -> None:
    assert client_hello_of(data) == ClientHello()


def test_no_bytes_raise() -> None:
    for start in (b"\x16\x03\x01\x00\x40", b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c", hello("a.test", ("h2",))[:70]):
        for _ in range(2000):
            client_hello_of(start + os.urandom(60))
