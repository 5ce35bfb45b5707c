"""Follows a mutual TLS connection through the table of ``tls_states``, to its first illegal step. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from meshtls.wire.side import Side
from meshtls.wire.tls_states import NEXT, Event, State, Step, expected

__all__ = ["ClientAuth", "Illegal", "TlsStates"]

_S = State


class Illegal(NamedTuple):
    """A step that is not in the table: what came in which state."""

    state: State
    side: Side
    event: Event

    def __str__(self) -> str:
        return f"in {self.state.name} came {self.event.value} of the {self.side.value}; expected {expected(self.state)}"


class ClientAuth(Enum):
    """What the wire has shown of the client's certificate.

    - UNKNOWN: nothing, yet or without the keys.
    - NOT_ASKED: the server did not ask for one.
    - ASKED: the server has asked, and no answer was seen.
    - EMPTY: the client answered that it has none.
    - ANSWERED: the client has presented one, and signed with its key. Whether the server accepts it is another matter.
    - RESUMED: the session is an earlier one, and so is what was shown then.
    """

    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"
    ASKED = "asked"
    EMPTY = "empty"
    ANSWERED = "answered"
    RESUMED = "resumed"


#: The first of these whose states were visited is the answer.
_CLIENT_AUTH: tuple[tuple[ClientAuth, frozenset[State]], ...] = (
    (ClientAuth.ANSWERED, frozenset({_S.TLS12_CLIENT_VERIFY, _S.TLS13_CLIENT_VERIFY, _S.AUTH_VERIFY})),
    (ClientAuth.EMPTY, frozenset({_S.TLS12_CLIENT_EMPTY, _S.TLS13_CLIENT_EMPTY, _S.AUTH_EMPTY})),
    (
        ClientAuth.ASKED,
        frozenset({_S.TLS12_REQUEST, _S.TLS13_REQUEST, _S.TLS13_SKIPPING_REQUEST, _S.AUTH_REQUESTED}),
    ),
    (ClientAuth.NOT_ASKED, frozenset({_S.TLS12_DONE, _S.TLS13_CERTIFICATE, _S.TLS13_SKIPPING_CERTIFICATE})),
    (
        ClientAuth.RESUMED,
        frozenset({_S.TLS12_RESUMED_SERVER_CIPHER, _S.TLS13_PSK, _S.TLS13_EARLY_PSK}),
    ),
)


class TlsStates:
    """Follows one connection through the table: ``step`` takes each event, in the order in which it was seen."""

    __slots__ = ("illegal", "state", "steps", "visited")

    def __init__(self) -> None:
        self.state = State.START
        #: The first illegal step.
        self.illegal: Illegal | None = None
        self.steps = 0
        self.visited: set[State] = {State.START}

    def step(self, side: Side, event: Event) -> Illegal | None:
        """Take a step. None where it is legal. After the first illegal one nothing more is judged."""
        self.steps += 1
        state = NEXT[self.state].get((side, event))
        if state is None:
            illegal = Illegal(self.state, side, event)
            self.illegal = self.illegal or illegal
            self.state = State.ILLEGAL
            self.visited.add(State.ILLEGAL)
            return illegal
        if state is not self.state:
            self.state = state
            self.visited.add(state)
        return None

    def follow(self, steps: Iterable[Step]) -> Illegal | None:
        """Take these steps, up to the first that is illegal, which is returned."""
        state = self.state
        for step in steps:
            after = NEXT[state].get(step)
            if after is None:
                self.state = state
                return self.step(*step)
            self.steps += 1
            if after is not state:
                state = after
                self.visited.add(after)
        self.state = state
        return None

    @property
    def client_auth(self) -> ClientAuth:
        """What was seen of the client's certificate."""
        for answer, states in _CLIENT_AUTH:
            if not states.isdisjoint(self.visited):
                return answer
        return ClientAuth.UNKNOWN

    def __repr__(self) -> str:
        return f"<TlsStates {self.state.name} [{self.steps} steps]>"
