"""Complaints about a state that is told again and again: each is logged when it comes, and when it has gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["Complaints"]


class Complaints:
    """What is wrong with the newest state, in the words that were logged."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._present: tuple[str, ...] = ()

    def update(self, present: Iterable[str]) -> None:
        """``present`` is all that is wrong now: what is new is a warning, what has gone is logged as that."""
        before, self._present = self._present, tuple(dict.fromkeys(present))
        for one in self._present:
            if one not in before:
                self._log.warning("%s", one)
        for one in before:
            if one not in self._present:
                self._log.info("no longer: %s", one)

    def __repr__(self) -> str:
        return f"<Complaints [{len(self._present)}]>"
