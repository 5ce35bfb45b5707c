"""What a server has selected, read out of a ServerHello or EncryptedExtensions (RFC 8446 4.2.8, RFC 7301 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.capture.server_hello import choices_of_message
from meshtls.wire.tls.messages import HELLO_RETRY_REQUEST, decode_message
from meshtls.wire.tls.names import TLS_1_3
from tests.unit.wire.test_tls_certificates import vector

Choices = tuple[int | None, bytes]

VERSION = b"\x00\x2b" + vector(b"\x03\x04", 2)
X25519 = b"\x00\x33" + vector(b"\x00\x1d" + vector(bytes(32), 2), 2)
H2 = b"\x00\x10" + vector(vector(vector(b"h2", 1), 2), 2)
WITHOUT_NAME = b"\x00\x10" + vector(vector(b"", 2), 2)
GROUP_ALONE = b"\x00\x33" + vector(b"\x00\x17", 2)


def hello(*extensions: bytes, session: bytes = bytes(32), random: bytes = bytes(32)) -> bytes:
    """A ServerHello with its header."""
    body = b"\x03\x03" + random + vector(session, 1) + b"\x13\x01\x00"
    return b"\x02" + vector(body + vector(b"".join(extensions), 2), 3)


def encrypted(*extensions: bytes) -> bytes:
    """EncryptedExtensions with their header."""
    return b"\x08" + vector(vector(b"".join(extensions), 2), 3)


@pytest.mark.parametrize(
    ("message", "choices"),
    [
        pytest.param(hello(VERSION, X25519), (0x1D, b""), id="a key share"),
        pytest.param(hello(X25519, session=b""), (0x1D, b""), id="without a session ID"),
        pytest.param(hello(VERSION), (None, b""), id="neither"),
        pytest.param(hello(H2), (None, b"h2"), id="the protocol in TLS 1.2"),
        pytest.param(encrypted(H2), (None, b"h2"), id="the protocol in TLS 1.3"),
        pytest.param(encrypted(X25519), (None, b""), id="a key share belongs in a ServerHello"),
        pytest.param(hello(GROUP_ALONE), (0x17, b""), id="a key share without a key"),
        pytest.param(hello(GROUP_ALONE, random=HELLO_RETRY_REQUEST), (None, b""), id="a HelloRetryRequest"),
        pytest.param(hello(GROUP_ALONE, X25519), (0x17, b""), id="the first of two key shares"),
        pytest.param(hello(WITHOUT_NAME, H2), (None, b""), id="the first of two protocols"),
        pytest.param(hello(X25519, H2)[:-1], (0x1D, b""), id="cut off after the key share"),
        pytest.param(hello(X25519)[:30], (None, b""), id="cut off before the session ID"),
        pytest.param(b"", (None, b""), id="nothing"),
    ],
)
def test_choices_of_message_returns_the_group_and_the_protocol(message: bytes, choices: Choices) -> None:
    assert choices_of_message(message) == choices


def decoded(message: bytes) -> Choices:
    """The same, of the tree of all fields."""
    tree = decode_message(message[0], message, TLS_1_3)
    group = tree.child("extensions", "key_share", "server_share", "group")
    name = tree.child("extensions", "application_layer_protocol_negotiation", "protocol_name_list", "protocol_name")
    number = group.value if group is not None else None
    protocol = name.value if name is not None else b""
    assert number is None or isinstance(number, int)
    assert isinstance(protocol, bytes)
    return number, protocol


@given(
    make=st.sampled_from([hello, encrypted]),
    extensions=st.lists(st.sampled_from([VERSION, X25519, H2, WITHOUT_NAME, GROUP_ALONE]), max_size=5),
    changes=st.lists(st.tuples(st.integers(4, 150), st.sampled_from([0, 1, 2, 3, 16, 51, 255])), max_size=3),
    cut=st.integers(0, 40),
)
def test_choices_of_message_agrees_with_the_decoded_fields(
    make: Callable[..., bytes], extensions: list[bytes], changes: list[tuple[int, int]], cut: int
) -> None:
    whole = make(*extensions)
    body = bytearray(whole[4 : max(4, len(whole) - cut)])
    for at, value in changes:
        if at - 4 < len(body):
            body[at - 4] = value
    message = whole[:1] + vector(bytes(body), 3)
    assert choices_of_message(message) == decoded(message)
