"""The header of the PROXY protocol: written for an app that speaks no HTTP, and read from a load balancer. Pure.

What is written is version 2. The caller's SPIFFE ID is PP2_SUBTYPE_SSL_CN: the protocol has no type for a URI, and this
is the one that existing receivers read (nginx's ``$proxy_protocol_tlv_ssl_cn``, HAProxy's fetches). An X509-SVID is
named by its URI alone, so that there is no other common name that it could be taken for. The bits of PP2_TYPE_SSL say
that there is a certificate, and ``verify`` 0 that it was verified.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from meshtls.errors import RequestError
from meshtls.wire.crc32c import crc32c

__all__ = [
    "LOCAL_HEADER",
    "LOCAL_HEADER_V1",
    "ProxiedTls",
    "ProxyHeader",
    "may_be_proxy_header",
    "proxy_header",
    "read_proxy_header",
]

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2_PROXY = b"\x21"
#: Of a connection that a proxy opens for itself, such as a health check (section 2.2).
LOCAL_HEADER = _SIGNATURE + b"\x20\x00\x00\x00"
#: Of a connection whose addresses are not told (section 2.1).
LOCAL_HEADER_V1 = b"PROXY UNKNOWN\r\n"
_TCP_4, _TCP_6, _UNSPECIFIED = b"\x11", b"\x21", b"\x00"
_AUTHORITY, _SSL = 0x02, 0x20
_SSL_VERSION, _SSL_CN, _SSL_CIPHER = 0x21, 0x22, 0x23
_OVER_TLS, _CERTIFICATE_OF_CONNECTION, _CERTIFICATE_OF_SESSION = 1, 2, 4


class ProxiedTls(NamedTuple):
    """The mutual TLS of a proxied connection. ``sni`` is None where the client named no server."""

    spiffe_id: str
    version: str
    cipher: str
    sni: str | None = None
    resumed: bool = False


def proxy_header(source: tuple[str, int] | None, destination: tuple[str, int] | None, tls: ProxiedTls | None) -> bytes:
    """The header for a connection between these addresses. None for one that is unknown: then there is no address."""
    family, addresses = _UNSPECIFIED, b""
    if source is not None and destination is not None:
        (one, here), (other, there) = source, destination
        ends = ipaddress.ip_address(one.partition("%")[0]), ipaddress.ip_address(other.partition("%")[0])
        if len({end.version for end in ends}) == 1:
            family = _TCP_4 if ends[0].version == 4 else _TCP_6
            addresses = ends[0].packed + ends[1].packed + here.to_bytes(2, "big") + there.to_bytes(2, "big")
    rest = addresses + (_tls(tls) if tls is not None else b"")
    return _SIGNATURE + _VERSION_2_PROXY + family + len(rest).to_bytes(2, "big") + rest


def _tls(tls: ProxiedTls) -> bytes:
    certificate = _CERTIFICATE_OF_SESSION if tls.resumed else _CERTIFICATE_OF_CONNECTION | _CERTIFICATE_OF_SESSION
    inner = bytes((_OVER_TLS | certificate,)) + bytes(4)
    inner += _tlv(_SSL_VERSION, tls.version) + _tlv(_SSL_CN, tls.spiffe_id) + _tlv(_SSL_CIPHER, tls.cipher)
    authority = _tlv(_AUTHORITY, tls.sni) if tls.sni else b""
    return authority + bytes((_SSL,)) + len(inner).to_bytes(2, "big") + inner


def _tlv(kind: int, value: str) -> bytes:
    encoded = value.encode()
    return bytes((kind,)) + len(encoded).to_bytes(2, "big") + encoded


# -- what a load balancer writes --

_V1 = b"PROXY "
_LONGEST_V1 = 107
#: The fixed part of version 2, and the most that may follow it: addresses and TLVs, which are a few hundred bytes.
_V2_HEAD, _LONGEST_V2_REST = 16, 8192
_VERSION_2, _LOCAL, _PROXY = 2, 0, 1
#: Bytes of the two addresses and ports, by family and transport: nothing, TCP over IPv4 and IPv6, a Unix stream.
_UNIX = b"\x31"
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP_4: 12, _TCP_6: 36, _UNIX: 216}
_IP_VERSIONS = {"TCP4": 4, "TCP6": 6}
_CRC32C, _CRC_BYTES = 0x03, 4


class ProxyHeader(NamedTuple):
    """A header of the PROXY protocol. ``size`` is the header's, in bytes. ``source`` is the client's address and port;
    None where none is named.

    ``local``: the proxy opened the connection for itself, for a health check as a rule, so it is the client.
    """

    size: int
    source: tuple[str, int] | None = None
    local: bool = False


def read_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header at the beginning of ``data``; None if more bytes are needed, of which it bounds the number.

    Raises RequestError, as early as the bytes show it, for what is no header of version 1 or 2 as its specification
    (HAProxy's proxy-protocol.txt, sections 2.1 and 2.2) says.
    """
    if _begins(data, _SIGNATURE):
        return _read_v2(data) if len(data) >= _V2_HEAD else None
    if _begins(data, _V1):
        return _read_v1(data)
    raise RequestError(f"wanted a PROXY protocol header, version 1 or 2, got {data[:16]!r}")


def may_be_proxy_header(data: bytes) -> bool:
    """Whether a header may begin with these bytes, of which there may be too few to know."""
    return _begins(data, _SIGNATURE) or _begins(data, _V1)


def _begins(data: bytes, with_: bytes) -> bool:
    """Also where ``data`` is only a part of it."""
    return data[: len(with_)] == with_[: len(data)]


def _read_v1(data: bytes) -> ProxyHeader | None:
    line, feed, _ = data[:_LONGEST_V1].partition(b"\n")
    if not feed:
        if len(line) == _LONGEST_V1:
            raise RequestError(f"PROXY protocol, version 1: wanted a line of at most {_LONGEST_V1} bytes, got more")
        return None
    if not line.endswith(b"\r") or not line.isascii() or not line[:-1].decode().isprintable():
        raise RequestError(f"PROXY protocol, version 1: wanted printable text that ends with CR LF, got {line!r}")
    size, words = len(line) + 1, line[:-1].decode().split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(size)
    if words[1] not in _IP_VERSIONS or len(words) != 6:
        raise RequestError(f"PROXY protocol, version 1: wanted TCP4 or TCP6 and four words, or UNKNOWN, got {line!r}")
    _, family, source, destination, source_port, destination_port = words
    version = _IP_VERSIONS[family]
    if _ip_version(source) != version or _ip_version(destination) != version:
        raise RequestError(f"PROXY protocol, version 1: wanted two addresses of {family}, got {line!r}")
    if not (_is_port(source_port) and _is_port(destination_port)):
        raise RequestError(f"PROXY protocol, version 1: wanted two ports, 0 to 65535, got {line!r}")
    return ProxyHeader(size, (source, int(source_port)))


def _ip_version(text: str) -> int | None:
    try:
        return None if "%" in text else ipaddress.ip_address(text).version
    except ValueError:
        return None


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and int(text) <= 65535 and (text == "0" or text[0] != "0")


def _read_v2(data: bytes) -> ProxyHeader | None:
    version, command = data[12] >> 4, data[12] & 0x0F
    if version != _VERSION_2 or command not in (_LOCAL, _PROXY):
        raise RequestError(f"PROXY protocol: wanted version 2 and LOCAL or PROXY, got {data[12]:#04x}")
    family, rest = data[13:14], int.from_bytes(data[14:16], "big")
    if rest > _LONGEST_V2_REST:
        raise RequestError(f"PROXY protocol: wanted at most {_LONGEST_V2_REST} bytes after its head, got {rest}")
    local = command == _LOCAL
    if not local and family not in _ADDRESS_BYTES:
        raise RequestError(f"PROXY protocol: wanted a TCP or Unix stream connection, got {data[13]:#04x}")
    addresses = _ADDRESS_BYTES.get(family, 0)
    if not local and rest < addresses:
        raise RequestError(f"PROXY protocol: wanted {addresses} bytes of addresses, got {rest}")
    size = _V2_HEAD + rest
    if len(data) < size:
        return None
    if local:
        return ProxyHeader(size, local=True)  # its addresses and TLVs have no meaning (section 2.2)
    _check_tlvs(data[:size], _V2_HEAD + addresses)
    if family not in (_TCP_4, _TCP_6):
        return ProxyHeader(size)
    each = 4 if family == _TCP_4 else 16
    source = ipaddress.ip_address(data[_V2_HEAD : _V2_HEAD + each])
    port = int.from_bytes(data[_V2_HEAD + 2 * each : _V2_HEAD + 2 * each + 2], "big")
    return ProxyHeader(size, (str(source), port))


def _check_tlvs(header: bytes, at: int) -> None:
    """Check that the TLVs fill the rest, and any checksum among them (section 2.2.3). Raises RequestError."""
    while at < len(header):
        value = at + 3
        size = int.from_bytes(header[at + 1 : value], "big")
        if value > len(header) or value + size > len(header):
            raise RequestError("PROXY protocol: wanted TLVs that fill the header, got one that exceeds it")
        if header[at] == _CRC32C:
            without = header[:value] + bytes(size) + header[value + size :]
            if size != _CRC_BYTES or crc32c(without) != int.from_bytes(header[value : value + size], "big"):
                raise RequestError("PROXY protocol: the checksum of the header is wrong")
        at = value + size
