"""Both sides of a connection derive the same trace and decide alike whether it is recorded."""

from __future__ import annotations

import pytest

from meshtls.observe.events import Direction
from meshtls.sidecar.tracing.contexts import Sampler, span_of_connection, span_of_request
from meshtls.wire.trace_context import RANDOM, SAMPLED, SpanContext, TraceContext, parsed

ALL, NONE = Sampler(1), Sampler(0)
SAID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def side(
    direction: Direction, connection_id: str, sampler: Sampler = ALL, traceparent: str = "", has_client: bool = True
) -> SpanContext:
    return span_of_connection(sampler, direction, connection_id, traceparent, has_client=has_client)


def test_the_server_s_span_is_a_child_of_the_client_s_by_the_connection_s_id_alone() -> None:
    client, server = side(Direction.OUTBOUND, "0011223344556677"), side(Direction.INBOUND, "0011223344556677")
    assert (server.trace_id, server.parent_id) == (client.trace_id, client.span_id)
    assert server.span_id != client.span_id
    assert client.parent_id == b""
    other = side(Direction.INBOUND, "0011223344556678")
    assert other.trace_id != client.trace_id


def test_a_connection_without_a_client_that_knows_its_id_has_no_parent() -> None:
    assert side(Direction.INBOUND, "0011223344556677", has_client=False).parent_id == b""


def test_a_stream_continues_what_its_connect_says_and_begins_a_trace_where_that_is_malformed() -> None:
    said = parsed(SAID)
    assert said is not None
    stream = side(Direction.INBOUND, "00-1", NONE, SAID)
    assert (stream.trace_id, stream.parent_id, stream.sampled) == (said.trace_id, said.span_id, True)
    begun = side(Direction.INBOUND, "00-1", NONE, "anything")
    assert (begun.parent_id, begun.sampled) == (b"", False)
    assert begun.trace_id != said.trace_id


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_both_sides_decide_alike_and_the_share_is_recorded(share: float) -> None:
    sampler, number = Sampler(share), 2000
    sampled = 0
    for at in range(number):
        one = f"{at:016x}"
        client, server = side(Direction.OUTBOUND, one, sampler), side(Direction.INBOUND, one, sampler)
        assert client.flags == server.flags
        sampled += client.sampled
    assert abs(sampled / number - share) < 0.05


def test_flags_say_that_the_trace_s_id_is_random() -> None:
    assert (ALL.root().flags, NONE.root().flags) == (RANDOM | SAMPLED, RANDOM)


def test_a_request_continues_its_caller_s_trace_else_the_connection_s_first_else_its_own() -> None:
    connection = ALL.root()
    said = TraceContext(b"t" * 16, b"s" * 8, 0, "a=1")
    continued = span_of_request(ALL, said, connection, first=True)
    assert continued == SpanContext(b"t" * 16, continued.span_id, b"s" * 8, 0, "a=1")
    first = span_of_request(NONE, None, connection, first=True)
    assert (first.trace_id, first.parent_id, first.sampled) == (connection.trace_id, connection.span_id, True)
    second = span_of_request(NONE, None, connection, first=False)
    assert (second.parent_id, second.sampled) == (b"", False)
    assert second.trace_id != connection.trace_id
