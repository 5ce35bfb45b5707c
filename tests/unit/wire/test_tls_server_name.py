"""Reading the server name out of a ClientHello (RFC 8446 4.1.2, RFC 6066 3)."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.tls import server_name_of_message
from tests.unit.wire.test_tls_certificates import vector

OTHER = b"\x00\x2b" + vector(b"\x02\x03\x04", 2)


def extension(name: bytes, kind: bytes = b"\0") -> bytes:
    return b"\0\0" + vector(vector(kind + vector(name, 2), 2), 2)


def hello(*extensions: bytes, session: bytes = bytes(32)) -> bytes:
    """A ClientHello with these extensions, handshake header included."""
    body = b"\x03\x03" + bytes(32) + vector(session, 1) + vector(b"\x13\x01\x13\x02", 2) + vector(b"\0", 1)
    return b"\x01" + vector(body + vector(b"".join(extensions), 2), 3)


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (hello(extension(b"db.example.org")), "db.example.org"),
        (hello(OTHER, extension(b"DB.Example.org"), OTHER), "db.example.org"),
        (hello(extension(b"db"), session=b""), "db"),
        (hello(OTHER), None),
        (hello(), None),
        (hello()[:-2], None),
        (hello(extension(b"")), None),
        (hello(extension(b"db", kind=b"\x01")), None),
        (hello(extension("bücher".encode())), None),
        (hello(extension(b"db\0.example.org")), None),
        (hello(extension(b"a b")), None),
        (hello(extension(b"a" * 255)), "a" * 255),
        (hello(extension(b"a" * 256)), None),
        (hello(b"\0\0" + vector(b"", 2)), None),
        (hello(extension(b"db")[:3] + b"\x40" + extension(b"db")[4:]), None),
        (b"", None),
    ],
    ids=[
        "a name",
        "among others, in any case",
        "without a session id",
        "only others",
        "no extension",
        "no list of extensions",
        "an empty name",
        "a name of another kind",
        "no ASCII",
        "a NUL",
        "a space",
        "the longest name",
        "a longer name",
        "an empty extension",
        "an extension that is longer than the message",
        "nothing",
    ],
)
def test_a_client_hello_gives_the_name_that_it_asks_for(message: bytes, name: str | None) -> None:
    assert server_name_of_message(message) == name


@given(st.data())
def test_a_client_hello_cut_short_has_no_name(data: st.DataObject) -> None:
    whole = hello(OTHER, extension(b"db.example.org"))
    cut = data.draw(st.integers(0, len(whole) - 1))
    assert server_name_of_message(whole[:cut]) is None


@given(st.binary(max_size=200))
def test_junk_is_no_error(junk: bytes) -> None:
    assert server_name_of_message(b"\x01" + junk) is None or junk


def test_openssl_s_client_hello_is_read() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="Db.Example.org")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert server_name_of_message(outgoing.read()[5:]) == "db.example.org"
