"""The repr of a transport that a test leaves open names that test."""

from __future__ import annotations

import asyncio
import socket


async def test_a_transport_s_repr_names_the_test_that_opened_it() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    with theirs:
        shown = repr(transport)
        transport.abort()

    assert (
        "opened in tests/unit/test_open_transports.py::test_a_transport_s_repr_names_the_test_that_opened_it" in shown
    )
