"""The PROXY protocol header of a load balancer: what is read, and for each mistake the whole message."""

from __future__ import annotations

import pytest

from meshtls.errors import RequestError
from meshtls.wire.crc32c import crc32c
from meshtls.wire.proxy_protocol import ProxiedTls, ProxyHeader, proxy_header, read_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes((192, 0, 2, 1, 198, 51, 100, 2)) + b"\x12\x67\x00\x50"
SOURCE = ("192.0.2.1", 4711)


def v2(rest: bytes = V4, *, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    size = len(rest) if length is None else length
    return SIGNATURE + bytes((command, family)) + size.to_bytes(2, "big") + rest


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def with_checksum(flipped: int = 0) -> bytes:
    header = v2(V4 + tlv(0x04, b"pad") + tlv(0x03, bytes(4)))
    return header[:-4] + (crc32c(header) ^ flipped).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("header", "source", "local"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\r\n", SOURCE, False),
        (b"PROXY TCP6 2001:db8::1 ::2 65535 0\r\n", ("2001:db8::1", 65535), False),
        (b"PROXY UNKNOWN\r\n", None, False),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None, False),
        (v2(), SOURCE, False),
        (v2(bytes(15) + b"\1" + bytes(15) + b"\2" + b"\0\1\0\2", family=0x21), ("::1", 1), False),
        (v2(b"", family=0x00), None, False),
        (v2(bytes(216), family=0x31), None, False),
        (v2(b"", command=0x20, family=0x00), None, True),
        (v2(b"whatever it is", command=0x20, family=0x7F), None, True),
        (v2(V4 + tlv(0x01, b"h2") + tlv(0xEA, b"") + tlv(0x04, bytes(8000))), SOURCE, False),
        (with_checksum(), SOURCE, False),
        (proxy_header(SOURCE, ("198.51.100.2", 80), ProxiedTls("spiffe://a.test/x", "TLSv1.3", "AES")), SOURCE, False),
        (proxy_header(None, None, None), None, False),
    ],
)
def test_a_header_is_read_whole_however_it_arrives(header: bytes, source: tuple[str, int] | None, local: bool) -> None:
    for size in range(min(len(header), 300)):
        assert read_proxy_header(header[:size]) is None
    assert read_proxy_header(header) == ProxyHeader(len(header), source, local)
    assert read_proxy_header(header + b"\x16\x03\x01") == ProxyHeader(len(header), source, local)


V1 = "PROXY protocol, version 1: "


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x16\x03\x01", "wanted a PROXY protocol header, version 1 or 2, got b'\\x16\\x03\\x01'"),
        (b"GET / HTTP/1.1\r\n", "wanted a PROXY protocol header, version 1 or 2, got b'GET / HTTP/1.1\\r\\n'"),
        (b"proxy ", "wanted a PROXY protocol header, version 1 or 2, got b'proxy '"),
        (b"PROXY\t", "wanted a PROXY protocol header, version 1 or 2, got b'PROXY\\t'"),
        (b"PROXY\n", "wanted a PROXY protocol header, version 1 or 2, got b'PROXY\\n'"),
        (b" PROXY UNKNOWN\r\n", "wanted a PROXY protocol header, version 1 or 2, got b' PROXY UNKNOWN\\r\\n'"),
        (SIGNATURE[:-1] + b"\r", f"wanted a PROXY protocol header, version 1 or 2, got {SIGNATURE[:-1] + b'!'!r}"),
        (
            b"PROXY UNKNOWN\n",
            V1 + "wanted printable text that ends with CR LF, got b'PROXY UNKNOWN'",
        ),
        (
            b"PROXY UNKNOWN\xe9\r\n",
            V1 + "wanted printable text that ends with CR LF, got b'PROXY UNKNOWN\\xe9\\r'",
        ),
        (
            b"PROXY UNKNOWN\0\r\n",
            V1 + "wanted printable text that ends with CR LF, got b'PROXY UNKNOWN\\x00\\r'",
        ),
        (b"PROXY UNKNOWN " + b"x" * 93, V1 + "wanted a line of at most 107 bytes, got more"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", V1 + "wanted a line of at most 107 bytes, got more"),
        (b"PROXY \r\n", V1 + "wanted TCP4 or TCP6 and four words, or UNKNOWN, got b'PROXY \\r'"),
        (
            b"PROXY UDP4 192.0.2.1 198.51.100.2 4711 80\r\n",
            V1 + "wanted TCP4 or TCP6 and four words, or UNKNOWN, got b'PROXY UDP4 192.0.2.1 198.51.100.2 4711 80\\r'",
        ),
        (
            b"PROXY TCP4 192.0.2.1  198.51.100.2 4711 80\r\n",
            V1 + "wanted TCP4 or TCP6 and four words, or UNKNOWN, got b'PROXY TCP4 192.0.2.1  198.51.100.2 4711 80\\r'",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
            V1 + "wanted TCP4 or TCP6 and four words, or UNKNOWN, got b'PROXY TCP4 192.0.2.1 198.51.100.2 4711\\r'",
        ),
        (
            b"PROXY TCP4 ::1 198.51.100.2 4711 80\r\n",
            V1 + "wanted two addresses of TCP4, got b'PROXY TCP4 ::1 198.51.100.2 4711 80\\r'",
        ),
        (
            b"PROXY TCP4 192.0.2.1 localhost 4711 80\r\n",
            V1 + "wanted two addresses of TCP4, got b'PROXY TCP4 192.0.2.1 localhost 4711 80\\r'",
        ),
        (
            b"PROXY TCP4 192.0.2.01 198.51.100.2 4711 80\r\n",
            V1 + "wanted two addresses of TCP4, got b'PROXY TCP4 192.0.2.01 198.51.100.2 4711 80\\r'",
        ),
        (
            b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
            V1 + "wanted two addresses of TCP6, got b'PROXY TCP6 fe80::1%eth0 ::2 1 2\\r'",
        ),
        *[
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.2 %b\r\n" % ports,
                f"{V1}wanted two ports, 0 to 65535, got b'PROXY TCP4 192.0.2.1 198.51.100.2 {ports.decode()}\\r'",
            )
            for ports in (b"65536 80", b"80 65536", b"080 1", b"-1 80", b"+1 80", b"0x1 80", b"1 ")
        ],
        (v2(command=0x11), "PROXY protocol: wanted version 2 and LOCAL or PROXY, got 0x11"),
        (v2(command=0x22), "PROXY protocol: wanted version 2 and LOCAL or PROXY, got 0x22"),
        (v2(family=0x12), "PROXY protocol: wanted a TCP or Unix stream connection, got 0x12"),
        (v2(family=0x41), "PROXY protocol: wanted a TCP or Unix stream connection, got 0x41"),
        (v2(family=0x01), "PROXY protocol: wanted a TCP or Unix stream connection, got 0x01"),
        (v2(b"", length=8193), "PROXY protocol: wanted at most 8192 bytes after its head, got 8193"),
        (
            v2(b"", command=0x20, length=8193),
            "PROXY protocol: wanted at most 8192 bytes after its head, got 8193",
        ),
        (v2(V4[:-1]), "PROXY protocol: wanted 12 bytes of addresses, got 11"),
        (v2(b"", family=0x21), "PROXY protocol: wanted 36 bytes of addresses, got 0"),
        (v2(V4 + b"\1"), "PROXY protocol: wanted TLVs that fill the header, got one that exceeds it"),
        (v2(V4 + b"\1\0\2x"), "PROXY protocol: wanted TLVs that fill the header, got one that exceeds it"),
        (v2(V4 + tlv(1, b"h2") + b"\0\0"), "PROXY protocol: wanted TLVs that fill the header, got one that exceeds it"),
        (with_checksum(flipped=1), "PROXY protocol: the checksum of the header is wrong"),
        (v2(V4 + tlv(0x03, b"")), "PROXY protocol: the checksum of the header is wrong"),
    ],
)
def test_bytes_that_are_no_header_are_refused_with_the_reason(data: bytes, message: str) -> None:
    message = message.replace("QUIT!", "QUIT\\r")
    with pytest.raises(RequestError) as raised:
        read_proxy_header(data)
    assert str(raised.value) == message


def test_the_first_byte_that_is_wrong_is_enough() -> None:
    for good, at in ((b"PROXY TCP4 ", 5), (SIGNATURE, 11)):
        for size in range(at):
            with pytest.raises(RequestError):
                read_proxy_header(good[:size] + b"!")


def test_no_more_bytes_are_waited_for_than_a_header_may_have() -> None:
    assert read_proxy_header(b"PROXY UNKNOWN " + b"x" * 92) is None
    assert read_proxy_header(v2(b"", length=8192)) is None
