"""Connections under a registry: ended from outside, failing on their own, and reported in every case."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.lifecycle import carry
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock

LOCAL = SpiffeId.parse("spiffe://example.org/b")


@pytest.fixture
def connection() -> Iterator[Connection]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection("b", LOCAL, Direction.INBOUND, ours, "127.0.0.1:1", ManualClock())


async def forever(connection: Connection) -> None:
    await asyncio.Event().wait()


async def fails(connection: Connection) -> None:
    raise KeyError("unforeseen")


async def test_a_connection_that_is_ended_before_its_first_step_is_reported_and_closed(connection: Connection) -> None:
    registry, results = Registry(1), list[ConnectionResult]()
    registry.start(connection, partial(carry, phases=forever, report=Reporter(results.append)))
    assert registry.full
    registry.end_all(Outcome.DRAINED, "stopping")
    await registry.emptied()
    assert [(result.outcome, result.detail) for result in results] == [(Outcome.DRAINED, "stopping")]
    assert connection.opener.fileno() == -1
    assert repr(registry) == "<Registry [0 of 1 connections]>"


async def test_the_first_to_end_a_connection_says_how(connection: Connection) -> None:
    registry, results = Registry(1), list[ConnectionResult]()
    registry.start(connection, partial(carry, phases=forever, report=Reporter(results.append)))
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
    registry.start(connection, partial(carry, phases=fails, report=Reporter(results.append)))
    await registry.emptied()
    assert [result.outcome for result in results] == [Outcome.INTERNAL_ERROR]
    assert [context["message"] for context in seen] == ["sidecar b: a connection failed"]
    assert repr(seen[0]["exception"]) == "KeyError('unforeseen')"
    assert connection.opener.fileno() == -1
