"""Watching the messages of a handshake."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from meshtls.tls.peer import watch_messages
from meshtls.wire.tls import ContentType

CLIENT_HELLO = 1


class InItsPlace(ssl.SSLContext):
    """As gevent puts one in the place of the standard library's."""


@pytest.mark.parametrize("in_place", [ssl.SSLContext, InItsPlace])
def test_handshake_messages_are_watched_when_another_library_replaces_sslcontext(
    in_place: type[ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = in_place(ssl.PROTOCOL_TLS_CLIENT)
    monkeypatch.setattr(ssl, "SSLContext", in_place)
    seen: list[tuple[Any, ...]] = []
    watch_messages(context, lambda connection, *message: seen.append(message))
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="db").do_handshake()
    hellos = [message for message in seen if message[2:4] == (ContentType.HANDSHAKE, CLIENT_HELLO)]
    assert [(direction, type(kind)) for direction, _, kind, *_ in hellos] == [("write", int)]
