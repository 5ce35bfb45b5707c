"""Many peers that stall in their handshakes at once: each hears why it ends, and they end a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

import pytest

from meshtls.clock import SystemClock
from meshtls.errors import HandshakeTimeoutError
from meshtls.observe.events import Direction
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.handshake import server_handshake
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.settings import Limits
from meshtls.tls.context import GenerationContext
from tests.integration.sidecar.mesh import B, as_b
from tests.support.owned_loop import owned, run
from tests.support.tls import SlowClient, context_of
from tests.support.waiting import until

STALLED = 40
LIMITS = Limits(handshake_timeout=5)


@dataclass
class Told:
    """How many have heard that they were too slow."""

    count: int = 0


async def stalled(context: GenerationContext, hello: bytes, socks: tuple[socket.socket, socket.socket]) -> None:
    """Serve a client that says no more than ClientHello."""
    theirs, ours = socks
    theirs.sendall(hello)
    ours.setblocking(False)
    connection = Connection("b", B, Direction.INBOUND, ours, "", SystemClock())
    with pytest.raises(HandshakeTimeoutError, match="^the peer did not finish the handshake within 5 s$"):
        await server_handshake(connection, context, running_reactor(), port=80, limits=LIMITS, so_far=bytearray())


def test_peers_that_stall_together_get_alerts_a_few_per_round_of_the_loop() -> None:
    async def main() -> None:
        context, told, most = context_of(as_b(), server_side=True), Told(), 0
        scheduler = running_reactor().scheduler

        async def serve(client: SlowClient, socks: tuple[socket.socket, socket.socket]) -> None:
            await stalled(context, client.hello, socks)
            told.count += 1

        with contextlib.ExitStack() as stack:
            clients = [(SlowClient(), _pair(stack)) for _ in range(STALLED)]
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(serve(*client))
                await until(lambda: all(_has_flight(socks) for _, socks in clients) and not scheduler.waiting)
                owned().now += 6
                while told.count < STALLED:
                    before = told.count
                    await asyncio.sleep(0)
                    most = max(most, told.count - before)
            alerts = {client.alert_in(theirs.recv(1 << 16)) for client, (theirs, _) in clients}
        assert alerts == {"SSLV3_ALERT_UNEXPECTED_MESSAGE"}
        assert most <= 2 * 4  # those that a round had left over, and a round

    run(main())


def _pair(stack: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    theirs, ours = socket.socketpair()
    return stack.enter_context(theirs), stack.enter_context(ours)


def _has_flight(socks: tuple[socket.socket, socket.socket]) -> bool:
    """Our flight has come, and lies there: the client does not answer it."""
    with contextlib.suppress(BlockingIOError):
        return bool(socks[0].recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False
