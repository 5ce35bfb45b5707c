"""The diagrams and tables of docs/tls-states.md, drawn from the table of ``wire/tls_states.py``.

``make reference`` writes them between the page's marks ``<!-- drawn: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from meshtls.cli.reference_texts import table_of
from meshtls.wire.side import Side
from meshtls.wire.tls_states import NEXT, Event, State, Step, expected

__all__ = ["PARTS", "PATHS", "Part", "drawn", "filled", "followed"]

_ENDS = frozenset({Event.FATAL, Event.CLOSE_NOTIFY, Event.END, Event.RESET})
_UNREADABLE = frozenset({Event.ENCRYPTED, Event.ENCRYPTED_ALERT})
_ALL = frozenset(Event)
_MARK, _END = "<!-- drawn: {} -->\n", "<!-- end -->"


class Part(NamedTuple):
    """``states`` are explained; arrows from them, and from ``also``, are drawn for these events."""

    states: tuple[State, ...]
    events: frozenset[Event]
    also: tuple[State, ...] = ()


def _named(*beginnings: str) -> tuple[State, ...]:
    return tuple(state for state in State if state.name.startswith(beginnings))


_HANDSHAKE = _ALL - _ENDS - _UNREADABLE
_EARLY = _named("TLS13_SKIPPING", "TLS13_EARLY")
_RENEGOTIATION = _named("RENEGOTIATION")
#: The parts of the page by their names: each state is in one of them.
PARTS: Mapping[str, Part] = {
    "beginning": Part(
        (
            State.START,
            *(State.CLIENT_HELLO, State.EARLY_HELLO, State.RETRY, State.RETRY_SKIPPING, State.SECOND_HELLO),
            *(State.SERVER_HELLO, State.EARLY_SERVER_HELLO, State.SECOND_SERVER_HELLO),
        ),
        _HANDSHAKE,
    ),
    "tls13": Part(tuple(state for state in _named("TLS13") if state not in _EARLY), _HANDSHAKE),
    "early": Part(_EARLY, _HANDSHAKE),
    "tls12": Part(_named("TLS12"), _HANDSHAKE),
    "open": Part((State.OPEN_13, *_named("AUTH"), State.OPEN_12, *_RENEGOTIATION), _HANDSHAKE),
    "ends": Part(
        _named("CLOSED", "FAILED", "LEFT", "CUT", "RESET", "ILLEGAL"), _ENDS, also=(State.CLIENT_HELLO, State.OPEN_13)
    ),
    "opaque": Part(
        _named("OPAQUE"),
        (_ENDS | _UNREADABLE) - {Event.RESET},
        also=(State.TLS13_HELLO, State.TLS13_EARLY_PSK, State.OPEN_12),
    ),
}
#: Drawn without those of other parts that have the same arrows.
_DRAWN_ONCE = frozenset({State.CLOSED_BY_CLIENT_12, State.CLOSED_BY_SERVER_12, State.CLOSED_BY_SERVER_ASKED})
_ONLY_HERE = {"ends": _ENDS, "opaque": _UNREADABLE}

_C, _S, _E = Side.CLIENT, Side.SERVER, Event
#: Whole handshakes, message by message.
PATHS: Mapping[str, tuple[Step, ...]] = {
    "mutual13": (
        *((_C, _E.CLIENT_HELLO), (_S, _E.SERVER_HELLO), (_S, _E.CHOOSES_1_3), (_S, _E.ENCRYPTED_EXTENSIONS)),
        *((_S, _E.CERTIFICATE_REQUEST), (_S, _E.CERTIFICATE), (_S, _E.CERTIFICATE_VERIFY), (_S, _E.FINISHED)),
        *((_C, _E.CERTIFICATE), (_C, _E.CERTIFICATE_VERIFY), (_C, _E.FINISHED)),
    ),
    "mutual12": (
        *((_C, _E.CLIENT_HELLO), (_S, _E.SERVER_HELLO), (_S, _E.CHOOSES_1_2), (_S, _E.CERTIFICATE)),
        *((_S, _E.SERVER_KEY_EXCHANGE), (_S, _E.CERTIFICATE_REQUEST), (_S, _E.SERVER_HELLO_DONE)),
        *((_C, _E.CERTIFICATE), (_C, _E.CLIENT_KEY_EXCHANGE), (_C, _E.CERTIFICATE_VERIFY)),
        *((_C, _E.CHANGE_CIPHER_SPEC), (_C, _E.FINISHED), (_S, _E.CHANGE_CIPHER_SPEC), (_S, _E.FINISHED)),
    ),
}


def followed(name: str) -> str:
    """A path as a diagram of messages, with the state after each."""
    lines, state = ["```mermaid", "sequenceDiagram"], State.START
    for side, event in PATHS[name]:
        state = NEXT[state][side, event]
        lines.append(f"    {side.value}->>{side.other.value}: {event.value}")
        lines.append(f"    Note over client,server: {state.name}")
    return "\n".join((*lines, "```", ""))


def drawn(name: str) -> str:
    """A part: its diagram in Mermaid's notation, and a table with what each state means and what may come next."""
    part = PARTS[name]
    order = {event: number for number, event in enumerate(Event)}
    arrows: dict[tuple[State, State], list[str]] = {}
    for state in (*part.also, *part.states):
        events = _ONLY_HERE.get(name, part.events) if state in part.also else part.events
        if state in _DRAWN_ONCE:
            continue
        cells = sorted(NEXT[state].items(), key=lambda cell: (order[cell[0][1]], cell[0][0].value))
        for (side, event), to in cells:
            if event in events and to is not state:
                arrows.setdefault((state, to), []).append(f"{side.value}, {event.value}")
    lines = ["```mermaid", "stateDiagram-v2"]
    if State.START in part.states:
        lines.append("    [*] --> START")
    lines += [f"    {at.name} --> {to.name}: {' / '.join(labels)}" for (at, to), labels in arrows.items()]
    rows = ([f"`{state.name}`", state.value, _sentence(expected(state))] for state in part.states)
    return "\n".join((*lines, "```", "", table_of(("State", "What has happened", "What may come"), rows), ""))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def filled(text: str) -> str:
    """The page with its parts drawn anew."""
    for name in (*PARTS, *PATHS):
        before, mark, rest = text.partition(_MARK.format(name))
        _, end, after = rest.partition(_END)
        if end:
            text = f"{before}{mark}{followed(name) if name in PATHS else drawn(name)}{end}{after}"
    return text
