"""One request on a connection with what becomes of it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from meshtls.wire.http import Ruling
from meshtls.wire.http1.request import RequestHead

__all__ = ["Exchange", "Stage"]


class Stage(IntEnum):
    """How far a request is.

    - JUDGED: the judge has it; there is no ruling yet.
    - FORWARDED: the app has its head, and its answer has not begun.
    - ANSWERING: the head of the app's answer went to the client.
    - REFUSED: our own answer is ready, and waits for its turn.
    """

    JUDGED = 0
    FORWARDED = 1
    ANSWERING = 2
    REFUSED = 3


class Exchange(msgspec.Struct, eq=False):
    """One request and its response. ``rule`` is the Answer that the judge gets.

    ``closes`` says that the connection ends with the answer, and ``refusal`` is the answer in the app's place.
    ``added`` are lines for the head of the app's final answer. ``sent_names`` are those of the head's fields that the
    app got: see ``trailers_of``.
    """

    head: RequestHead
    on_ruling: Callable[[Exchange], None]
    closes: bool
    stage: Stage = Stage.JUDGED
    ruling: Ruling | None = None
    refusal: bytes = b""
    answered: Callable[[int], object] | None = None
    added: bytes = b""
    sent_names: frozenset[str] = frozenset()

    def rule(self, ruling: Ruling) -> None:
        """Raises RuntimeError at the second call."""
        if self.ruling is not None:
            raise RuntimeError("a request has one ruling, got a second")
        self.ruling = ruling
        self.on_ruling(self)

    def tell(self, status: int) -> None:
        """Tell what forwarded the request the status of the answer, once."""
        answered, self.answered = self.answered, None
        if answered is not None:
            answered(status)
