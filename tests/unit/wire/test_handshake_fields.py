"""What is in a handshake message, read from bytes that may be anybody's."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.handshake_fields import fields_of, message_name
from meshtls.wire.transcript import LONGEST_MESSAGE, MOST_MESSAGES, Transcript


def client_hello() -> bytes:
    """OpenSSL's, without its record header."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()[5:]


def test_a_client_hello_of_openssl_is_read() -> None:
    hello = client_hello()
    found = dict(fields_of(1, hello))
    assert found["random"] == hello[6:38].hex()
    assert "TLS_AES_256_GCM_SHA384" in found["cipher_suites"]
    assert found["supported_versions"] == "TLS 1.3"
    assert "key_share" in found["extensions"]


def test_a_message_that_is_cut_off_is_read_as_far_as_it_goes() -> None:
    hello = client_hello()
    assert fields_of(1, hello[:60])[0] == ("random", hello[6:38].hex())
    assert fields_of(1, hello[:60])[-1] == ("the rest", "cut off, or malformed")


@given(st.sampled_from([1, 2, 8, 11, 13, 15, 20, 99]), st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(kind: int, data: bytes) -> None:
    assert all(isinstance(text, str) for field in fields_of(kind, data) for text in field)


@pytest.mark.parametrize(("kind", "name"), [(1, "ClientHello"), (20, "Finished"), (77, "type 77")])
def test_a_message_has_the_name_of_the_standard(kind: int, name: str) -> None:
    assert message_name(kind) == name


def test_a_session_ticket_is_not_kept_and_what_is_kept_is_bounded() -> None:
    transcript = Transcript()
    transcript.note("read", 4, b"ticket")
    assert transcript.messages == []
    for _ in range(100):
        transcript.note("write", 11, bytes(LONGEST_MESSAGE + 1))
    assert len(transcript.messages) == MOST_MESSAGES
    assert {(one.length, len(one.data)) for one in transcript.messages} == {(LONGEST_MESSAGE + 1, LONGEST_MESSAGE)}
