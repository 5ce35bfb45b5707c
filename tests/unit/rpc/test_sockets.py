"""Options of the server's listening sockets."""

from __future__ import annotations

import socket

from meshtls.rpc.sockets import tcp_listener


def test_connections_accepted_by_the_tcp_listener_have_no_nagle_delay() -> None:
    with tcp_listener("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
