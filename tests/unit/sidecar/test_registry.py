"""Connections under a registry: ended from outside, failing on their own, and reported in every case."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.policy.authorizer import authorize_any, authorize_id
from meshtls.sidecar.connection import Connection, EndedError, Parting
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from tests.support.authority import context_for, make_authority
from tests.support.clock import ManualClock
from tests.support.tls import engine_of

LOCAL = SpiffeId.parse("spiffe://example.org/b")


@contextlib.contextmanager
def a_connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield Connection("b", LOCAL, Direction.INBOUND, ours, "127.0.0.1:1", ManualClock())


@pytest.fixture
def connection() -> Iterator[Connection]:
    with a_connection() as connection:
        yield connection


async def forever(connection: Connection) -> None:
    await asyncio.Event().wait()


async def fails(connection: Connection) -> None:
    raise KeyError("unforeseen")


async def test_a_connection_that_is_ended_before_its_first_step_is_reported_and_closed(connection: Connection) -> None:
    registry, results = Registry(1), list[ConnectionResult]()
    registry.start(connection, partial(Reporter(results.append).carry, phases=forever))
    assert registry.full
    registry.end_all(Outcome.DRAINED, "stopping")
    await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [(Outcome.DRAINED, "stopping")]
    assert connection.opener.fileno() == -1
    assert repr(registry) == "<Registry [0 of 1 connections, <Unproven [0 of 1024 connections, 0 groups]>]>"


async def test_the_first_to_end_a_connection_says_how(connection: Connection) -> None:
    registry, results = Registry(1), list[ConnectionResult]()
    registry.start(connection, partial(Reporter(results.append).carry, phases=forever))
    await asyncio.sleep(0)
    assert connection.end(Outcome.POLICY_DENIED, "first")
    assert not connection.end(Outcome.DRAINED, "second")
    await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [(Outcome.POLICY_DENIED, "first")]


async def test_an_unforeseen_failure_is_reported_and_seen_and_takes_no_other_connection_along(
    connection: Connection,
) -> None:
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    registry, results = Registry(2), list[ConnectionResult]()
    registry.start(connection, partial(Reporter(results.append).carry, phases=fails))
    await registry.emptied()
    assert [result.outcome for result in results] == [Outcome.INTERNAL_ERROR]
    assert [context["message"] for context in seen] == ["sidecar b: a connection failed"]
    assert repr(seen[0]["exception"]) == "KeyError('unforeseen')"
    assert connection.opener.fileno() == -1


async def test_an_unproven_connection_gives_way_to_a_newer_one_and_does_not_count_until_it_is_proven() -> None:
    registry, results = Registry(1, unproven=1), list[ConnectionResult]()
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(a_connection()) for _ in range(3))
        run = partial(Reporter(results.append).carry, phases=forever)
        registry.start_unproven(first, run)
        registry.start_unproven(second, run)
        assert not registry.full
        registry.prove(second)
        assert registry.full
        registry.prove(second)  # once is enough
        registry.start_unproven(third, run)
        with pytest.raises(EndedError, match=r"^connection limit reached \(limits.connections=1\)$") as refused:
            registry.prove(third)
        assert refused.value.outcome is Outcome.CONNECTION_LIMIT
        assert repr(registry) == "<Registry [1 of 1 connections, <Unproven [1 of 1 connections, 1 groups]>]>"
        registry.end_all(Outcome.DRAINED, "stopping")
        await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [
        (
            Outcome.CONNECTION_LIMIT,
            "gave way to a newer connection: unproven limit reached (limits.unproven=1)",
        ),
        (Outcome.DRAINED, "stopping"),
        (Outcome.DRAINED, "stopping"),
    ]
    assert repr(registry) == "<Registry [0 of 1 connections, <Unproven [0 of 1 connections, 0 groups]>]>"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_connection_that_is_cancelled_while_its_peer_reads_the_alert_leaves_no_socket_open(count: int) -> None:
    registry = Registry(1)
    with a_connection() as connection, a_connection() as other:
        sockets = [connection.opener, other.opener][:count]

        async def refused(connection: Connection) -> None:
            connection.partings = tuple(Parting(sock) for sock in sockets)
            connection.dialled = other.opener
            raise EndedError(Outcome.RESET, "broken")

        registry.start(connection, partial(Reporter(lambda result: None).carry, phases=refused))
        await asyncio.sleep(0)
        connection.end(Outcome.DRAINED, "stopping")
        await registry.emptied()
        assert [sock.fileno() for sock in sockets] == [-1] * count


def ignored(ended: EndedError) -> None:
    """What ends a connection without a task."""


async def test_a_recheck_ends_the_connections_that_their_gate_lets_in_no_longer_and_counts_them() -> None:
    registry, gate = Registry(4), Gate(authorize_any())
    with contextlib.ExitStack() as stack:
        web, other, db, plain = (stack.enter_context(a_connection()) for _ in range(4))
        for connection, path in ((web, "/web"), (other, "/web"), (db, "/db")):
            connection.admit(gate, VerifiedPeer(SpiffeId.parse(f"spiffe://example.org{path}"), ()), 80)
            registry.enter(connection, ignored)
        registry.enter(plain, ignored)
        assert registry.recheck() == 0
        gate.replace(authorize_id("spiffe://example.org/db"))
        assert registry.recheck() == 2
        assert registry.recheck() == 0
        for connection in (web, other):
            assert connection.ended_by is not None
            assert connection.ended_by.outcome is Outcome.POLICY_DENIED
            assert "spiffe://example.org/web" in str(connection.ended_by)
        assert (db.ended_by, plain.ended_by) == (None, None)


async def test_the_connections_of_a_gate_are_those_that_came_through_it() -> None:
    registry, gate, another = Registry(2), Gate(authorize_any()), Gate(authorize_any())
    with a_connection() as first, a_connection() as second:
        first.gate, second.gate = gate, another
        registry.enter(first, ignored)
        registry.enter(second, ignored)
        assert (registry.of(gate), registry.of(another)) == ([first], [second])
        registry.leave(first)
        assert (registry.of(gate), registry.of(another)) == ([], [second])


async def test_connections_that_are_or_will_be_mutual_tls_are_ended_and_plaintext_is_not() -> None:
    registry = Registry(3)
    with a_connection() as tls, a_connection() as stream, a_connection() as plain:
        tls.engine = engine_of(context_for(make_authority("example.org"), "/b"), server_side=True)
        stream.tunnel = True
        for connection in (tls, stream, plain):
            registry.enter(connection, ignored)
        registry.end_identified(Outcome.DRAINED, "no identity")
        for connection in (tls, stream):
            assert connection.ended_by is not None
            assert (connection.ended_by.outcome, str(connection.ended_by)) == (Outcome.DRAINED, "no identity")
        assert plain.ended_by is None


async def test_a_connection_that_no_task_carries_counts_from_enter_to_leave_and_leaves_once() -> None:
    registry = Registry(1)
    async with asyncio.timeout(20):
        await registry.emptied()  # it has had none yet
    with a_connection() as first, a_connection() as second:
        registry.enter(first, ignored)
        empty = asyncio.create_task(registry.emptied())
        await asyncio.sleep(0)
        assert (len(registry), registry.full, empty.done()) == (1, True, False)
        registry.enter(second, ignored)
        registry.leave(first)
        registry.leave(first)
        await asyncio.sleep(0)
        assert (len(registry), registry.full, empty.done()) == (1, True, False)
        registry.leave(second)
        await empty
        assert (len(registry), registry.full) == (0, False)


async def test_a_connection_that_no_task_carries_is_broken_off_when_it_is_ended_unless_it_has_left() -> None:
    registry, broken_off = Registry(2), list[EndedError]()
    with a_connection() as listed, a_connection() as left:
        for connection in (listed, left):
            registry.enter(connection, broken_off.append)
        registry.leave(left)
        for connection in (listed, left):
            assert connection.end(Outcome.DRAINED, "stopping")
    assert broken_off == [listed.ended_by]


async def test_an_unproven_connection_that_is_gone_takes_no_place_of_the_next() -> None:
    registry = Registry(1, unproven=1)
    with a_connection() as first, a_connection() as second:

        async def ends(connection: Connection) -> None:
            return

        registry.start_unproven(first, ends)
        assert first.unproven is registry.unproven
        await registry.emptied()
        registry.start_unproven(second, ends)
        assert first.ended_by is None
        await registry.emptied()
        assert second.ended_by is None
