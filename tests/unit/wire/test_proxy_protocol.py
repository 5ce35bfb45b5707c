"""The PROXY protocol header, byte by byte. ``tests/integration/sidecar/test_proxy_protocol.py`` has nginx read it."""

from __future__ import annotations

import pytest

from meshtls.wire.proxy_protocol import ProxiedTls, proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TLS = ProxiedTls("spiffe://example.org/a", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
INNER = b"\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x16spiffe://example.org/a\x23\0\x16TLS_AES_256_GCM_SHA384"


def test_plaintext_has_the_addresses_alone() -> None:
    assert proxy_header(("192.0.2.1", 4711), ("198.51.100.2", 80), None) == (
        SIGNATURE + b"\x21\x11\x00\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 2)) + b"\x12\x67\x00\x50"
    )


def test_mutual_tls_has_the_spiffe_id_as_common_name_and_a_verified_certificate() -> None:
    told = proxy_header(("::1", 1), ("::2", 2), TLS)
    addresses = bytes(15) + b"\1" + bytes(15) + b"\2" + b"\0\1\0\2"
    rest = addresses + b"\x20\0" + bytes((len(INNER),)) + INNER
    assert told == SIGNATURE + b"\x21\x21" + len(rest).to_bytes(2, "big") + rest


def test_the_name_that_the_client_asked_for_is_the_authority() -> None:
    assert b"\x02\0\x08web.test" in proxy_header(("127.0.0.1", 1), ("127.0.0.1", 2), TLS._replace(sni="web.test"))


def test_a_resumed_session_had_its_certificate_in_an_earlier_connection() -> None:
    inner = INNER.replace(b"\x07\0\0\0\0", b"\x05\0\0\0\0")
    assert inner in proxy_header(("127.0.0.1", 1), ("127.0.0.1", 2), TLS._replace(resumed=True))


@pytest.mark.parametrize(
    ("source", "destination"), [(None, ("127.0.0.1", 2)), (("127.0.0.1", 1), None), (("::1", 1), ("127.0.0.1", 2))]
)
def test_a_header_without_two_addresses_of_one_kind_names_none(
    source: tuple[str, int] | None, destination: tuple[str, int] | None
) -> None:
    assert proxy_header(source, destination, None) == SIGNATURE + b"\x21\x00\x00\x00"


def test_the_zone_of_an_address_is_left_out() -> None:
    assert proxy_header(("fe80::1%eth0", 1), ("fe80::2", 2), None)[13:14] == b"\x21"
