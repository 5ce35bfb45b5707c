"""What observers are told of connections between two real sidecars while they live, alone and in a tunnel."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest

from meshtls.observe.events import Direction, Outcome
from meshtls.observe.live import Ended, Event, Live, Opened, PhaseEnded
from tests.integration.sidecar.mesh import B, Node, an_app, connected, echoed, rest, side_a, side_b
from tests.support.waiting import until


def observed(node: Node) -> list[Event]:
    seen: list[Event] = []
    node.sidecar.runtime.reporter.observe(seen.append)
    return seen


def words(seen: list[Event], number: int) -> list[str]:
    """What happened to this connection, in short."""
    said = []
    for event in seen:
        if isinstance(event, Opened) and event.number == number:
            said.append("opened")
        elif isinstance(event, PhaseEnded) and event.number == number:
            said.append(event.phase)
        elif isinstance(event, Ended) and event.number == number:
            said.append(event.result.outcome.name)
    return said


def has_ended(seen: list[Event], number: int) -> bool:
    return any(isinstance(event, Ended) and event.number == number for event in seen)


def the_app_s(node: Node) -> Live:
    """The connection that is no tunnel itself."""
    (one,) = (live for live in node.sidecar.registry.live() if live.bytes_in)
    return one


@pytest.mark.parametrize("tunnel", [False, True], ids=["alone", "in a tunnel"])
async def test_a_connection_is_opened_passes_its_phases_and_ends_and_its_bytes_are_there_when_asked_for(
    tunnel: bool,
) -> None:
    async with an_app() as app, side_b(app.address, tunnel=tunnel) as b, side_a(b.inbound, tunnel=tunnel) as a:
        outward, inward = observed(a), observed(b)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            near, far = the_app_s(a), the_app_s(b)
            for live in (near, far):
                assert (live.bytes_in, live.bytes_out, live.tunnel) == (4, 4, tunnel)
            assert (near.direction, far.direction) == (Direction.OUTBOUND, Direction.INBOUND)
            assert near.peer_id == far.local_id == B
            assert near.phases.handshake_ms is not None
            assert far.phases.connect_ms is not None
            streams[1].write_eof()
            assert await rest(streams) == b""
        for seen, live in ((outward, near), (inward, far)):
            await until(partial(has_ended, seen, live.number))
        assert words(outward, near.number) == ["opened", "connect", "handshake", "OK"]
        assert words(inward, far.number) == ["opened", *(["connect"] if tunnel else ["handshake", "connect"]), "OK"]


async def test_a_tunnel_s_own_connection_is_opened_and_ends_once() -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        seen = observed(b)
        async with side_a(b.inbound, tunnel=True) as a, connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            session = min(live.number for live in b.sidecar.registry.live())
        await until(lambda: len(b.sidecar.registry) == 0)
        assert words(seen, session) in (["opened", "handshake", ending.name] for ending in Outcome)


async def test_a_refused_connection_ends_as_it_is_refused() -> None:
    async with an_app() as app, side_b(app.address, allow=(B,)) as b:
        seen = observed(b)
        async with side_a(b.inbound) as a, connected(a.outbound) as streams:
            with contextlib.suppress(ConnectionError):
                assert await rest(streams) == b""
        await until(lambda: any(isinstance(event, Ended) for event in seen))
        (opened,) = (event for event in seen if isinstance(event, Opened))
        assert words(seen, opened.number) == ["opened", "handshake", "POLICY_DENIED"]
        assert app.connections == 0
