"""The table of a TLS connection's states allows what the grammar of the standards allows, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

import pytest

from meshtls.wire.side import Side
from meshtls.wire.tls_states import FACTS, NEXT, Event, State, Step, expected
from tests.support.languages import NOTHING, Language, derivative
from tests.unit.wire.tls_grammar import CONNECTION, STEPS

Table = Mapping[State, Mapping[Step, State]]
S, E = State, Event
CLIENT, SERVER = Side
OVER = {
    *(S[f"{how}_BY_{side}"] for how in ("FAILED", "LEFT", "CUT", "RESET") for side in ("CLIENT", "SERVER")),
    S.ILLEGAL,
}
OPAQUE = {state for state in State if state.name.startswith("OPAQUE")}
OPEN = {
    *(S.OPEN_12, S.RENEGOTIATION_ASKED, S.OPEN_13),
    *(S.AUTH_REQUESTED, S.AUTH_CERTIFICATE, S.AUTH_EMPTY, S.AUTH_VERIFY),
}


def differences(table: Table) -> Iterator[str]:
    """Walks through table and grammar together, over all pairs of a state and what the grammar still allows there, and
    over all steps of each: where one of the two takes a step and the other does not.
    """
    at = S.START, CONNECTION
    ways: dict[tuple[State, Language], tuple[str, ...]] = {at: ()}
    ahead = deque([at])
    while ahead:
        at = ahead.popleft()
        for symbol, step in STEPS.items():
            to, after = table[at[0]].get(step), derivative(at[1], symbol)
            if (to is None) != (after == NOTHING):
                yield f"{' '.join(ways[at])}: {symbol} is {'il' * (to is None)}legal in {at[0].name}"
            elif to is not None and (to, after) not in ways:
                ways[to, after] = (*ways[at], symbol)
                ahead.append((to, after))


def test_table_and_grammar_allow_the_same_steps_after_each_legal_sequence() -> None:
    assert set(STEPS.values()) == {(side, event) for side in Side for event in Event}
    assert list(differences(NEXT)) == []


def test_every_state_is_reached_and_ends() -> None:
    reached, ahead = {S.START}, deque([S.START])
    while ahead:
        for to in set(NEXT[ahead.popleft()].values()) - reached:
            reached.add(to)
            ahead.append(to)
    assert set(NEXT) == set(State)
    assert set(State) - reached == {S.ILLEGAL}  # where an illegal step leads
    for state in State:
        for side in Side:
            assert (side, E.RESET) in NEXT[state], state


@pytest.mark.parametrize("state", [state for state in State if state is not S.ILLEGAL])
def test_a_wrong_cell_of_the_table_is_found(state: State) -> None:
    """One less, one more, and each of those that lead to another state leading nowhere."""
    row = NEXT[state]
    less, more = next(iter(row)), next(step for step in STEPS.values() if step not in row)
    wrong = [{step: to for step, to in row.items() if step != less}, {**row, more: state}]
    # The same may come in both OPAQUE_CLIENT and OPAQUE_OPEN: they differ in what is known.
    wrong += [{**row, step: state} for step, to in row.items() if to not in (state, S.OPAQUE_OPEN)]
    for changed in wrong:
        assert next(differences({**NEXT, state: changed}), None) is not None, changed


@pytest.mark.parametrize("side", Side)
def test_a_fatal_alert_or_a_reset_ends_every_connection_that_is_not_over(side: Side) -> None:
    for state in set(State) - OVER:
        after = NEXT[state].get((side, E.FATAL))
        assert after in (None, S[f"FAILED_BY_{side.name}"]), state
        after = NEXT[state][side, E.RESET]
        closed = state is S.CLOSED or state.name.startswith("OPAQUE_ENDED")
        assert after is S[f"RESET_BY_{side.name}"] or (after is state and closed), state


def test_events_after_the_end_of_a_connection_change_nothing() -> None:
    for state in (*OVER, S.CLOSED, S.OPAQUE_ENDED):
        left = {to for (_, event), to in NEXT[state].items() if state is not S.ILLEGAL or event is not E.FATAL}
        assert left == {state}


@pytest.mark.parametrize("side", Side)
def test_the_end_of_a_stream_is_told_by_what_was_before_it(side: Side) -> None:
    """Complete with close_notify; truncated without it; and within the handshake there was nothing to truncate."""
    for state in set(State) - OVER - {S.CLOSED}:
        closed, ended = NEXT[state].get((side, E.CLOSE_NOTIFY)), NEXT[state][side, E.END]
        if state.name.startswith(f"CLOSED_BY_{side.name}"):
            assert (closed, ended) == (None, state)
        elif state.name.startswith(f"CLOSED_BY_{side.other.name}"):
            assert (closed, ended) == (S.CLOSED, S[f"CUT_BY_{side.name}"])
        elif state in OPEN:
            assert closed is not None
            assert closed.name.startswith(f"CLOSED_BY_{side.name}")
            assert ended is S[f"CUT_BY_{side.name}"]
        elif state in OPAQUE:
            assert closed in (None, S[f"LEFT_BY_{side.name}"])
            assert ended.name.startswith(("OPAQUE_ENDED", f"LEFT_BY_{side.name}"))
        else:
            assert closed is S[f"LEFT_BY_{side.name}"] or (closed is None and (state, side) == (S.START, CLIENT))
            assert ended is S[f"LEFT_BY_{side.name}"]


def test_only_a_side_that_has_closed_or_failed_may_send_nothing_more() -> None:
    for state in set(State) - {S.ILLEGAL}:
        silent = {side for side in Side if {event for who, event in NEXT[state] if who is side} <= {E.END, E.RESET}}
        by = {side for side in Side if f"BY_{side.name}" in state.name}
        if state in (S.CLOSED, S.OPAQUE_ENDED):
            by = set(Side)
        # Neither side's alert can be told from a record, without the keys; and nothing begins with the client's.
        assert silent == by or state in OPAQUE or state is S.START, state


def test_an_unknown_message_is_legal_nowhere() -> None:
    assert {state for state in State for side in Side if (side, E.UNKNOWN) in NEXT[state]} == {S.ILLEGAL}


def test_facts_follow_the_message_that_decides_them() -> None:
    """A fact is legal only right after its message; but for sides that are over, which are not judged."""
    messages = {
        E.CHOOSES_1_2: E.SERVER_HELLO,
        E.RESUMES_1_2: E.SERVER_HELLO,
        E.CHOOSES_1_3: E.SERVER_HELLO,
        E.ACCEPTS_PSK: E.SERVER_HELLO,
        E.OFFERS_EARLY_DATA: E.CLIENT_HELLO,
        E.ACCEPTS_EARLY_DATA: E.ENCRYPTED_EXTENSIONS,
        E.IS_EMPTY: E.CERTIFICATE,
    }
    assert set(messages) == FACTS
    for state in set(State) - OVER:
        before = {event for row in NEXT.values() for (_, event), to in row.items() if to is state}
        for side, event in NEXT[state]:
            if event in FACTS:
                assert messages[event] in before, (state, side, event)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (S.START, "of the client: ClientHello"),
        (S.CLIENT_HELLO, "of the server: HelloRetryRequest or ServerHello"),
        (
            S.TLS12_CERTIFICATE,
            "of the server: HelloRequest, CertificateRequest, CertificateStatus, ServerKeyExchange or ServerHelloDone",
        ),
        (
            S.TLS13_SERVER_FINISHED_ASKED,
            "of the client: Certificate or ChangeCipherSpec; of the server: KeyUpdate or application data",
        ),
        (
            S.SECOND_SERVER_HELLO,
            "of the server: the choice of TLS 1.3 or the choice of TLS 1.3 with a PSK of the client",
        ),
        (S.FAILED_BY_SERVER, "of the client: anything"),
        (S.CLOSED, "nothing but the end"),
    ],
)
def test_expected_messages_are_told_in_words(state: State, words: str) -> None:
    assert expected(state) == words


def test_without_keys_an_answer_of_the_server_after_the_client_is_told_apart() -> None:
    row = NEXT[S.OPAQUE_CLIENT]
    assert (row[CLIENT, E.ENCRYPTED], row[SERVER, E.ENCRYPTED]) == (S.OPAQUE_CLIENT, S.OPAQUE_OPEN)
