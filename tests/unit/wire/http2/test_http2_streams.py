"""A stream's states: every cell of the table."""

from __future__ import annotations

import pytest

from meshtls.wire.http2.side import HttpStream
from meshtls.wire.http2.streams import NEXT, Ended, RecentlyReset, State, Stream

#: RFC 9113, figure 2, from open on: what END_STREAM by one side leads to, None where that side has ended before.
FIGURE = {
    (State.OPEN, Ended.BY_US): State.HALF_CLOSED_LOCAL,
    (State.OPEN, Ended.BY_PEER): State.HALF_CLOSED_REMOTE,
    (State.HALF_CLOSED_LOCAL, Ended.BY_US): None,
    (State.HALF_CLOSED_LOCAL, Ended.BY_PEER): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Ended.BY_US): State.CLOSED,
    (State.HALF_CLOSED_REMOTE, Ended.BY_PEER): None,
    (State.CLOSED, Ended.BY_US): None,
    (State.CLOSED, Ended.BY_PEER): None,
}


def test_the_table_is_the_standards_figure() -> None:
    assert {(state, who): NEXT[state].get(who) for state in State for who in Ended} == FIGURE


@pytest.mark.parametrize(("step", "state"), FIGURE.items())
def test_a_stream_takes_the_steps_of_the_table_and_no_others(step: tuple[State, Ended], state: State | None) -> None:
    stream = Stream(1, 10, 20)
    stream.state, who = step
    if state is None:
        with pytest.raises(KeyError):
            stream.end(who)
        assert stream.state is step[0]
    else:
        assert stream.end(who) is (state is State.CLOSED)
        assert stream.state is state


def test_a_stream_of_a_request_begins_as_any_stream_does() -> None:
    plain, of_request = Stream(1, 10, 20), HttpStream(1, 10, 20)
    assert [getattr(of_request, name) for name in Stream.__slots__] == [
        getattr(plain, name) for name in Stream.__slots__
    ]
    assert (of_request.feeds, of_request.fed) == (None, None)


def test_a_streams_permitted_acts_follow_its_state() -> None:
    stream = Stream(1, 10, 20)
    assert (stream.sends, stream.receives) == (True, True)
    stream.end(Ended.BY_PEER)
    assert (stream.sends, stream.receives) == (True, False)
    stream.end(Ended.BY_US)
    assert (stream.sends, stream.receives) == (False, False)
    assert repr(stream) == "<Stream 1 CLOSED [send 10, receive 20]>"


def test_the_last_thousand_that_were_reset_are_remembered_and_memory_is_bounded() -> None:
    forgotten = RecentlyReset()
    for number in range(10_000):
        forgotten.add(number)
        assert number in forgotten
        assert max(0, number - 999) in forgotten
    assert len(forgotten) <= 2000
