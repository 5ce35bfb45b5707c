"""Fuzz target for what a message is to the table of TLS's states: any bytes are events, and the table takes all."""

from __future__ import annotations

from hypothesis import strategies as st

from meshtls.wire.side import Side
from meshtls.wire.tls_following import TlsStates
from meshtls.wire.tls_states import Event, State
from meshtls.wire.tls_steps import TlsSteps
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.test_fuzz_tls import MESSAGES


def test_tls_states_take_any_messages_records_and_alerts_in_any_order() -> None:
    def target(sent: list[tuple[Side, bytes, int]], ends: list[tuple[Side, Event]]) -> None:
        steps, states = TlsSteps(), TlsStates()

        def follow() -> State:
            for side, message, number in sent:
                for event in steps.of_message(side, message):
                    states.step(side, event)
                states.step(side, steps.of_record(number))
                states.step(side, steps.of_alert(number & 3, number))
            for side, event in ends:
                states.step(side, event)
            return states.state

        assert documented(follow, size=sum(len(message) for _, message, _ in sent)) is states.state
        assert states.illegal is None or str(states.illegal).startswith(f"in {states.illegal.state.name} came ")
        assert states.state in states.visited

    sent = st.tuples(st.sampled_from(Side), spliced(MESSAGES), st.integers(0, 255))
    fuzzed(target, st.lists(sent, max_size=12), st.lists(st.tuples(st.sampled_from(Side), st.sampled_from(Event))))
