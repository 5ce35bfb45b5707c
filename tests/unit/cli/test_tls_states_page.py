"""The page about the states of TLS shows the table of the code, and each of its states once."""

from __future__ import annotations

import doctest
import re
from collections import Counter
from pathlib import Path

import pytest

from meshtls.cli.tls_states_page import PARTS, PATHS, drawn, filled
from meshtls.wire.tls_following import ClientAuth, TlsStates
from meshtls.wire.tls_states import NEXT, Event, State

PAGE = Path(__file__).parents[3] / "docs" / "tls-states.md"
_ARROW = re.compile(r"^    (\w+) --> (\w+): (.+)$", re.MULTILINE)


def test_the_page_is_what_make_reference_draws() -> None:
    text = PAGE.read_text("utf-8")
    assert filled(text) == text
    assert set(re.findall(r"<!-- drawn: (\w+) -->", text)) == {*PARTS, *PATHS}


def test_a_page_with_an_old_diagram_is_drawn_anew() -> None:
    text = PAGE.read_text("utf-8")
    old = text.replace("    START --> CLIENT_HELLO: client, ClientHello\n", "")
    assert old != text
    assert filled(old) == text


def test_each_state_is_explained_once() -> None:
    assert Counter(state for part in PARTS.values() for state in part.states) == Counter(State)
    text = PAGE.read_text("utf-8")
    for state in State:
        assert text.count(f"\n| `{state.name}` | {state.value} |") == 1


@pytest.mark.parametrize("name", PARTS)
def test_each_arrow_is_a_step_of_the_table(name: str) -> None:
    arrows = _ARROW.findall(drawn(name))
    assert arrows
    for start, end, labels in arrows:
        row = {f"{side.value}, {event.value}": to for (side, event), to in NEXT[State[start]].items()}
        for label in labels.split(" / "):
            assert row[label] is State[end]


def test_all_steps_of_a_handshake_are_drawn() -> None:
    """But for alerts, ends, and what can't be read: in their own parts."""
    shown = {(start, end) for name in PARTS for start, end, _ in _ARROW.findall(drawn(name))}
    untold = {Event.FATAL, Event.CLOSE_NOTIFY, Event.END, Event.RESET, Event.ENCRYPTED, Event.ENCRYPTED_ALERT}
    for state, row in NEXT.items():
        for (_, event), to in row.items():
            if to is not state and event not in untold:
                assert (state.name, to.name) in shown


@pytest.mark.parametrize("name", PATHS)
def test_a_handshake_that_is_shown_is_mutual_and_complete(name: str) -> None:
    states = TlsStates()
    assert [states.step(side, event) for side, event in PATHS[name]] == [None] * len(PATHS[name])
    assert states.state.name == f"OPEN_{name[-2:]}"
    assert states.client_auth is ClientAuth.ANSWERED


def test_the_example_is_what_python_prints() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert (found.attempted > 5, found.failed) == (True, 0)
