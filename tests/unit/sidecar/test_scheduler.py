"""Handshakes in a queue: so many a round, in order, and a limit to the queue."""

from __future__ import annotations

import asyncio
import select
import socket

import pytest

from meshtls.clock import SystemClock
from meshtls.observe.events import Direction, Outcome
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.handshake import client_handshake, server_handshake
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.scheduler import HandshakeScheduler, QueueDeadline
from meshtls.sidecar.settings import Limits
from meshtls.spiffeid import SpiffeId
from meshtls.tls.unproven import Stage, Unproven
from tests.support.authority import context_for, make_authority
from tests.support.held_scheduler import HeldScheduler
from tests.support.tls import SlowClient, context_of, engine_of
from tests.support.waiting import until

LOCAL = SpiffeId.parse("spiffe://example.org/b")


async def test_a_bounded_number_of_handshakes_steps_in_each_round_of_the_loop() -> None:
    ours = HandshakeScheduler(asyncio.get_running_loop(), a_round=2)
    seen: list[str] = []

    async def one(number: int) -> None:
        await ours.resume()
        seen.append(str(number))

    async def somebody_else() -> None:
        while len(seen) < 10:
            seen.append("-")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(one(number))
        group.create_task(somebody_else())
    steps = "".join(seen)
    assert steps.replace("-", "") == "01234"
    assert "01-" in steps
    assert "23-" in steps
    assert "012" not in steps


async def test_a_full_queue_refuses_new_handshakes_and_none_under_way() -> None:
    ours, deadline = HandshakeScheduler(asyncio.get_running_loop(), a_round=1), QueueDeadline.of(60)
    first, waiting = (asyncio.create_task(ours.begin(1, deadline)) for _ in range(2))
    await asyncio.sleep(0)
    assert first.done()
    assert repr(ours) == "<HandshakeScheduler [0 of 1 left, 1 waiting]>"
    with pytest.raises(EndedError) as refused:
        await ours.begin(1, deadline)
    assert refused.value.outcome is Outcome.CONNECTION_LIMIT
    assert str(refused.value) == "handshake queue full (limits.handshakes=1)"
    await ours.resume()
    assert waiting.done()
    await ours.begin(1, deadline)


async def test_a_handshake_that_gives_up_waiting_costs_no_step() -> None:
    ours = HandshakeScheduler(asyncio.get_running_loop(), a_round=1)
    first, second, third = (asyncio.create_task(ours.resume()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await third
    assert first.done()
    assert second.cancelled()
    assert ours.waiting == 0


async def test_a_cancelled_waiter_leaves_the_queue_to_the_next_one() -> None:
    ours, deadline = HeldScheduler(asyncio.get_running_loop(), a_round=1), QueueDeadline.of(60)
    ours.hold()
    gone, stays = asyncio.create_task(ours.begin(1, deadline)), None
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    assert ours.waiting == 0
    stays = asyncio.create_task(ours.begin(1, deadline))
    await asyncio.sleep(0)
    ours.next_round()
    await stays


async def test_a_peer_whose_handshake_waits_for_its_turn_does_not_give_way_before_silent_ones() -> None:
    ours, theirs = socket.socketpair()
    snapshot = context_for(make_authority("example.org"), "/b")
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection("b", LOCAL, Direction.INBOUND, ours, "192.0.2.1:1", SystemClock())
        silent = [Connection("b", LOCAL, Direction.INBOUND, ours, "192.0.2.1:1", SystemClock()) for _ in range(3)]
        unproven = connection.unproven = Unproven[Connection](3)
        unproven.enter(connection, "192.0.2.1")
        context = context_of(snapshot, server_side=True)
        hello = bytearray(SlowClient().hello)
        # The queue takes nobody: the peer is where it would wait.
        with pytest.raises(EndedError, match=r"^handshake queue full \(limits.handshakes=0\)$"):
            await server_handshake(
                connection,
                context,
                running_reactor(),
                port=80,
                limits=Limits(handshakes=0),
                so_far=hello,
            )
        assert [unproven.enter(one, "192.0.2.1") for one in silent] == [None, None, silent[0]]


async def test_a_peer_in_the_middle_of_its_handshake_does_not_give_way_before_those_in_the_queue() -> None:
    ours, theirs = socket.socketpair()
    context = context_of(context_for(make_authority("example.org"), "/b"), server_side=True)
    reactor = running_reactor()
    with ours, theirs:
        ours.setblocking(False)
        connection, *others = (
            Connection("b", LOCAL, Direction.INBOUND, ours, "192.0.2.1:1", SystemClock()) for _ in range(4)
        )
        unproven = connection.unproven = Unproven[Connection](3)
        unproven.enter(connection, "192.0.2.1")
        hello = bytearray(SlowClient().hello)
        accepting = asyncio.create_task(
            server_handshake(connection, context, reactor, port=80, limits=Limits(), so_far=hello)
        )
        await until(lambda: connection.engine is not None and not reactor.scheduler.waiting and _is_readable(theirs))
        for one in others[:2]:
            unproven.enter(one, "192.0.2.1")
            unproven.reach(one, Stage.QUEUED)
        assert unproven.enter(others[2], "192.0.2.1") is others[0]
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting


async def test_the_next_step_of_a_handshake_waits_until_the_scheduler_gives_it_one() -> None:
    authority = make_authority("example.org")
    server, client = (engine_of(context_for(authority, name), server_side=name == "/b") for name in ("/b", "/a"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection("a", LOCAL, Direction.OUTBOUND, ours, "192.0.2.1:1", SystemClock())
        client.handshake()
        server.feed(client.outgoing())
        server.handshake()
        reactor = running_reactor()
        scheduler = reactor.scheduler = HeldScheduler(reactor.loop)
        dialling = asyncio.create_task(client_handshake(connection, client, ours, reactor, timeout=60))
        await asyncio.sleep(0)
        scheduler.hold()
        theirs.sendall(server.outgoing())
        await until(lambda: scheduler.waiting == 1)
        assert client.peer is None
        scheduler.next_round()
        assert str((await dialling).spiffe_id) == "spiffe://example.org/b"


def _is_readable(sock: socket.socket) -> bool:
    return bool(select.select([sock], [], [], 0)[0])
