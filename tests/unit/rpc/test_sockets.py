"""Options of the server's listening sockets."""

from __future__ import annotations

import socket

import pytest

from meshtls.errors import ConfigError
from meshtls.rpc.sockets import tcp_listener


def test_connections_accepted_by_the_tcp_listener_have_no_nagle_delay() -> None:
    with tcp_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(("name", "prefix"), [("", ""), ("health", "health: ")])
def test_the_address_and_the_reason_are_named_where_a_tcp_listener_cannot_be_made(name: str, prefix: str) -> None:
    with tcp_listener("127.0.0.1", 0, name=name) as taken:
        port = taken.getsockname()[1]
        for host, reason in (
            ("127.0.0.1", "Address already in use, by this process"),
            ("::1%nosuch", "Name or service not known"),
        ):
            with pytest.raises(ConfigError) as caught, tcp_listener(host, port, name=name):
                pass
            assert str(caught.value) == f"{prefix}wanted to listen on {host}:{port}: {reason}"
