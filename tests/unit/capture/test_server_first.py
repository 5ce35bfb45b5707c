"""The server of HTTP/2 may send its SETTINGS before the client has sent anything: what is spoken is known later."""

from __future__ import annotations

import pytest

from meshtls.capture.application import Conversation, Spoken
from meshtls.wire.http2.frames import PREFACE
from meshtls.wire.side import Side

_SETTINGS = bytes.fromhex("00000c 04 00 00000000 0003 00000400 0004 01000000")
_CONNECT = bytes.fromhex("000000 04 00 00000000 00000c 01 05 00000001") + b"\x02\x07CONNECT\x01\x01b"


def spoken(sent: bytes, *, cut: int = 0) -> Conversation:
    """The server sends these bytes, in pieces of ``cut`` bytes if it is given, and then the client its preface."""
    conversation = Conversation()
    for at in range(0, len(sent), cut or len(sent)):
        conversation.feed(Side.SERVER, sent[at : at + cut] if cut else sent, 1)
    conversation.feed(Side.CLIENT, PREFACE + _CONNECT, 2)
    return conversation


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 5, 9])
def test_settings_of_the_server_may_come_first(cut: int) -> None:
    conversation = spoken(_SETTINGS, cut=cut)
    assert conversation.spoken is Spoken.HTTP2
    assert [one.method for one in conversation.exchanges] == ["CONNECT"]


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0\x0c\x05\0\0\0\0\0" + bytes(12),
        b"\0\0\x0c\x04\x01\0\0\0\0" + bytes(12),
        b"\0\0\x0c\x04\0\0\0\0\x01" + bytes(12),
        b"\0\0\x0d\x04\0\0\0\0\0" + bytes(13),
        b"\x01\0\x0c\x04\0\0\0\0\0" + bytes(12),
    ],
    ids=["another type", "an acknowledgement", "of a stream", "no settings of 6 bytes", "longer than any"],
)
def test_anything_else_of_the_server_is_another_protocol(sent: bytes) -> None:
    assert spoken(sent).spoken is Spoken.OTHER


def test_first_bytes_of_a_server_are_held_up_to_a_bound() -> None:
    conversation = Conversation()
    for _ in range(100):
        conversation.feed(Side.SERVER, _SETTINGS * 100, 1)
    assert conversation.spoken is Spoken.OTHER
