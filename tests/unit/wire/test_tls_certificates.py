"""Reading the certificates out of a Certificate message (RFC 8446 4.4.2, RFC 5246 7.4.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.tls import certificates_of_message

TLS12, TLS13 = 0x0303, 0x0304
LIMIT = 8
ders = st.lists(st.binary(min_size=1, max_size=400), max_size=LIMIT)


def vector(data: bytes, length_bytes: int) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data


def message(version: int, chain: list[bytes], context: bytes = b"", extensions: bytes = b"") -> bytes:
    """A Certificate message, handshake header included."""
    if version == TLS13:
        entries = b"".join(vector(der, 3) + vector(extensions, 2) for der in chain)
        return b"\x0b" + vector(vector(context, 1) + vector(entries, 3), 3)
    return b"\x0b" + vector(vector(b"".join(vector(der, 3) for der in chain), 3), 3)


@given(chain=ders, context=st.binary(max_size=20), extensions=st.binary(max_size=40))
def test_a_tls_1_3_message_gives_its_chain(chain: list[bytes], context: bytes, extensions: bytes) -> None:
    assert certificates_of_message(TLS13, message(TLS13, chain, context, extensions), limit=LIMIT) == chain


@given(chain=ders)
def test_a_tls_1_2_message_gives_its_chain(chain: list[bytes]) -> None:
    assert certificates_of_message(TLS12, message(TLS12, chain), limit=LIMIT) == chain


@pytest.mark.parametrize("version", [TLS12, TLS13])
@given(chain=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=3), data=st.data())
def test_a_message_cut_short_is_an_error(version: int, chain: list[bytes], data: st.DataObject) -> None:
    whole = message(version, chain)
    cut = data.draw(st.integers(min_value=0, max_value=len(whole) - 1))
    with pytest.raises(ValueError, match="^a vector is longer than the message$"):
        certificates_of_message(version, whole[:cut], limit=LIMIT)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_bytes_after_the_list_are_an_error(version: int) -> None:
    with pytest.raises(ValueError, match="bytes after the certificate list"):
        certificates_of_message(version, message(version, [b"der"]) + b"\x00", limit=LIMIT)


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_certificate_that_reaches_beyond_its_list_is_an_error(version: int) -> None:
    whole = message(version, [b"der"])
    at = whole.index(b"\0\0\3der")
    with pytest.raises(ValueError, match="^a vector is longer than the message$"):
        certificates_of_message(version, whole[:at] + b"\0\0\x09" + whole[at + 3 :], limit=LIMIT)


@given(junk=st.binary(max_size=200), version=st.sampled_from([TLS12, TLS13]))
def test_junk_raises_nothing_else(junk: bytes, version: int) -> None:
    try:
        certificates_of_message(version, junk, limit=LIMIT)
    except ValueError:
        return


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_only_the_first_of_too_many_certificates_are_read(version: int) -> None:
    chain = [b"%d" % number for number in range(LIMIT + 50)]
    assert certificates_of_message(version, message(version, chain[:LIMIT]), limit=LIMIT) == chain[:LIMIT]
    assert certificates_of_message(version, message(version, chain), limit=LIMIT) == chain[: LIMIT + 1]
