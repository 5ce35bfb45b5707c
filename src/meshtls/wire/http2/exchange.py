"""One request and its response: how far they are, as a table. Pure."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from meshtls.wire.http import Cancel, Forward
from meshtls.wire.http2.flow import Flow
from meshtls.wire.http2.requests import RequestHead
from meshtls.wire.http2.side import HttpStream

__all__ = ["NEXT", "Exchange", "Phase", "Turn"]


class Phase(IntEnum):
    """How far a request is.

    - JUDGING: the ruling is awaited. Nothing goes to the app.
    - WAITING: allowed, but the app's connection takes no stream yet.
    - SENT: the head has gone to the app.
    - ANSWERED: the app's final response has begun.
    - OVER: refused, reset, or lost. What still arrives is dropped.
    """

    JUDGING = 0
    WAITING = 1
    SENT = 2
    ANSWERED = 3
    OVER = 4


class Turn(IntEnum):
    """What moves an exchange on. OUTDATED: the ruling stands no more."""

    ALLOWED = 0
    OPENED = 1
    RESPONDED = 2
    STOPPED = 3
    OUTDATED = 4


#: A step that is not here can't be taken.
NEXT: dict[Phase, dict[Turn, Phase]] = {
    Phase.JUDGING: {Turn.ALLOWED: Phase.WAITING, Turn.STOPPED: Phase.OVER},
    Phase.WAITING: {Turn.OPENED: Phase.SENT, Turn.STOPPED: Phase.OVER, Turn.OUTDATED: Phase.JUDGING},
    Phase.SENT: {Turn.RESPONDED: Phase.ANSWERED, Turn.STOPPED: Phase.OVER},
    Phase.ANSWERED: {Turn.STOPPED: Phase.OVER},
    Phase.OVER: {Turn.STOPPED: Phase.OVER},
}


class Exchange(msgspec.Struct, eq=False):
    """One request and its response.

    - ``client``, ``app``: its streams at both sides. ``request``, ``response``: the bodies, if there are any.
    - ``forward``: the ruling, if it was allowed. ``cancel``: stops the work on a ruling that is still to come.
    - ``connects``: after the heads, DATA alone may come (CONNECT).
    """

    client: HttpStream
    head: RequestHead
    request: Flow | None
    connects: bool = False
    app: HttpStream | None = None
    response: Flow | None = None
    forward: Forward | None = None
    cancel: Cancel | None = None
    phase: Phase = Phase.JUDGING

    def step(self, turn: Turn) -> None:
        """Raises KeyError if there is no such step."""
        self.phase = NEXT[self.phase][turn]

    def stop(self, may_drop: int = 0, status: int = 0) -> None:
        """End it: nothing more goes on in either direction. ``may_drop``: bytes of the request that may still come.

        What forwarded it is told of an end without an answer of the app's; ``status`` is that of ours, if there is one.
        """
        if self.cancel is not None:
            self.cancel()
            self.cancel = None
        unanswered = self.phase < Phase.ANSWERED
        self.step(Turn.STOPPED)
        for flow in (self.request, self.response):
            if flow is not None:
                flow.drop(may_drop)
        if unanswered and self.forward is not None and self.forward.answered is not None:
            self.forward.answered(status)

    def is_open(self) -> bool:
        """Whether bytes may still pass, once it is answered."""
        if self.phase is not Phase.ANSWERED or self.app is None:
            return False
        to_app = self.request is not None and not self.request.dropping and self.app.sends
        return to_app or self.client.sends

    def __repr__(self) -> str:
        return f"<Exchange {self.client.number} {self.phase.name}>"
