"""Logs complaints about a state that is reported repeatedly: each once when it appears, and once when it is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterable

__all__ = ["Complaints"]


class Complaints:
    """The complaints about the latest state, as logged."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._present: tuple[str, ...] = ()

    def update(self, present: Iterable[str]) -> None:
        """Log what has changed: ``present`` are all current complaints."""
        before, self._present = self._present, tuple(dict.fromkeys(present))
        for one in self._present:
            if one not in before:
                self._log.warning("%s", one)
        for one in before:
            if one not in self._present:
                self._log.info("no longer: %s", one)

    def __repr__(self) -> str:
        return f"<Complaints [{len(self._present)}]>"
