"""Connections under a registry: ended from outside, failing on their own, and reported in every case."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.errors import UntrustedPeerError
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.policy.authorizer import authorize_any, authorize_id
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, EndedError, Parting
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.verifier import CurrentVerifier, PeerVerifier
from meshtls.svid.verify import VerifiedPeer
from tests.support.authority import context_for, make_authority, svid_for
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
    registry.start(connection, partial(Reporter(results.append, running_reactor().poller).run, phases=forever))
    assert registry.full
    registry.end_all(Outcome.DRAINED, "stopping")
    await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [(Outcome.DRAINED, "stopping")]
    assert connection.opener.fileno() == -1
    assert repr(registry) == "<Registry [0 of 1 connections, <Unproven [0 of 1024 connections, 0 groups]>]>"


async def test_the_first_end_of_a_connection_sets_its_outcome(connection: Connection) -> None:
    registry, results = Registry(1), list[ConnectionResult]()
    registry.start(connection, partial(Reporter(results.append, running_reactor().poller).run, phases=forever))
    await asyncio.sleep(0)
    assert connection.end(Outcome.POLICY_DENIED, "first")
    assert not connection.end(Outcome.DRAINED, "second")
    await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [(Outcome.POLICY_DENIED, "first")]


async def test_an_unexpected_failure_is_reported_and_ends_no_other_connection(
    connection: Connection,
) -> None:
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
    registry, results = Registry(2), list[ConnectionResult]()
    registry.start(connection, partial(Reporter(results.append, running_reactor().poller).run, phases=fails))
    await registry.emptied()
    assert [result.outcome for result in results] == [Outcome.INTERNAL_ERROR]
    assert [context["message"] for context in seen] == ["sidecar b: a connection failed"]
    assert repr(seen[0]["exception"]) == "KeyError('unforeseen')"
    assert connection.opener.fileno() == -1


async def test_an_unproven_connection_gives_way_to_a_newer_one_and_does_not_count_until_it_is_proven() -> None:
    registry, results = Registry(1, unproven=1), list[ConnectionResult]()
    with contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(a_connection()) for _ in range(3))
        run = partial(Reporter(results.append, running_reactor().poller).run, phases=forever)
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

        registry.start(connection, partial(Reporter(lambda result: None, running_reactor().poller).run, phases=refused))
        await asyncio.sleep(0)
        connection.end(Outcome.DRAINED, "stopping")
        await registry.emptied()
        assert [sock.fileno() for sock in sockets] == [-1] * count


def ignored(ended: EndedError) -> None:
    """What ends a connection without a task."""


async def test_a_recheck_ends_and_counts_the_connections_that_their_gate_no_longer_allows() -> None:
    registry, gate = Registry(4), Gate(authorize_any())
    with contextlib.ExitStack() as stack:
        web, other, db, plain = (stack.enter_context(a_connection()) for _ in range(4))
        for connection, path in ((web, "/web"), (other, "/web"), (db, "/db")):
            peer = VerifiedPeer(SpiffeId.parse(f"spiffe://example.org{path}"), ())
            connection.admit(gate, Request(peer, connection.local_id, 80))
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


async def test_a_stream_that_is_tried_again_counts_once() -> None:
    registry = Registry(2)

    async def run(connection: Connection) -> None:
        return

    with contextlib.ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(a_connection())
            registry.enter(connection, ignored)
            registry.start(connection, run)  # refused by its tunnel's peer, it goes on in a task
            assert (len(registry), repr(registry).split(",")[0]) == (1, "<Registry [1 of 2 connections")
            await registry.emptied()
            assert repr(registry).startswith("<Registry [0 of 2 connections")
            assert not registry.full


FIRST, SECOND = make_authority("example.org"), make_authority("example.org")


def trusting(*authorities: Authority) -> X509Context:
    """What a side trusts whose bundle has the roots of these."""
    roots = tuple(root for one in authorities for root in one.bundle.x509_authorities)
    return X509Context(1, (), BundleSet([TrustBundle(LOCAL.trust_domain, roots)]))


def verified(verifier: PeerVerifier, authority: Authority, path: str) -> VerifiedPeer:
    chain = [one.public_bytes(Encoding.DER) for one in svid_for(authority, path).chain]
    return verifier.verify(chain, SystemClock().now())


async def test_a_change_of_trust_ends_the_connections_of_peers_that_lost_it_in_one_step_for_each_peer() -> None:
    registry, current = Registry(8), CurrentVerifier()
    gate = Gate(authorize_any(), plaintext=True, verifier=current)
    verifier = current.follow(trusting(FIRST, SECOND))
    going, staying = verified(verifier, FIRST, "/going"), verified(verifier, SECOND, "/staying")
    steps: list[int] = []

    async def step() -> None:
        steps.append(len(steps))

    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(a_connection()) for _ in range(7)]
        *of_going, stream, of_staying, plain, handshaking = connections
        for connection in (*of_going, of_staying, plain):
            peer = None if connection is plain else staying if connection is of_staying else going
            connection.admit(gate, Request(peer, LOCAL, 80), None if peer is None else verifier.trust)
        stream.gate, stream.peer, stream.is_stream = gate, going, True  # of a tunnel that we dialled
        handshaking.gate, handshaking.peer = gate, going  # about to be refused for another reason
        for connection in connections:
            registry.enter(connection, ignored)

        assert await registry.recheck_trust(step) == 0
        current.follow(trusting(SECOND))
        assert registry.recheck() == 0, "a change of policy verifies nobody: it may be asked for all in one go"
        steps.clear()
        assert await registry.recheck_trust(step) == 4
        assert len(steps) == 2, "the peers, not their connections"
        assert await registry.recheck_trust(step) == 0
        for connection in (*of_going, stream):
            assert connection.ended_by is not None
            assert connection.ended_by.outcome is Outcome.PEER_UNTRUSTED
            assert str(connection.ended_by).startswith("peer spiffe://example.org/going: no path to a root")
        assert [one.ended_by for one in (of_staying, plain, handshaking)] == [None] * 3


async def test_a_connection_that_ends_while_another_is_checked_is_left_alone() -> None:
    registry, current = Registry(2), CurrentVerifier()
    gate, verifier = Gate(authorize_any(), verifier=current), current.follow(trusting(FIRST))
    with a_connection() as connection:
        connection.admit(gate, Request(verified(verifier, FIRST, "/going"), LOCAL, 80), verifier.trust)
        registry.enter(connection, ignored)
        current.follow(trusting(SECOND))

        async def leaves() -> None:
            registry.leave(connection)

        assert await registry.recheck_trust(leaves) == 0
        assert connection.ended_by is None


@pytest.mark.parametrize("kept", [True, False])
async def test_trust_that_changed_between_the_handshake_and_the_admission_is_what_counts(kept: bool) -> None:
    current = CurrentVerifier()
    gate, verifier = Gate(authorize_any(), verifier=current), current.follow(trusting(FIRST))
    peer = verified(verifier, FIRST, "/web")
    newest = current.follow(trusting(FIRST, SECOND) if kept else trusting(SECOND))
    with a_connection() as connection, a_connection() as stream:
        if kept:
            connection.admit(gate, Request(peer, LOCAL, 80), verifier.trust)
            stream.admit_stream_of(connection)
            assert connection.trust is stream.trust is newest.trust
            return
        with pytest.raises(UntrustedPeerError):
            connection.admit(gate, Request(peer, LOCAL, 80), verifier.trust)
        with pytest.raises(UntrustedPeerError):
            stream.admit_stream_of(connection)


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
        stream.is_stream = True
        for connection in (tls, stream, plain):
            registry.enter(connection, ignored)
        registry.end_identified(Outcome.DRAINED, "no identity")
        for connection in (tls, stream):
            assert connection.ended_by is not None
            assert (connection.ended_by.outcome, str(connection.ended_by)) == (Outcome.DRAINED, "no identity")
        assert plain.ended_by is None


async def test_a_connection_without_a_task_counts_from_enter_to_leave_and_leaves_once() -> None:
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


async def test_a_connection_without_a_task_is_broken_off_when_ended_unless_it_has_left() -> None:
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
