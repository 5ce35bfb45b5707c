"""Collects connections for the page: rows of all, and the details of some. Bounded. Pure."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.figures import Figures
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.report.costs import State, state_of
from meshtls.capture.report.moments import Moment, moments_of

__all__ = ["MOST_DRAWN", "MOST_ROWS", "Drawn", "Report"]

#: Connections with a diagram. Half of them are for those with a problem, and half for those without.
MOST_DRAWN = 200
#: Rows of the table.
MOST_ROWS = 10_000


class Drawn(NamedTuple):
    """A connection with its details: the moments of its diagram, the first ones and the last ones."""

    connection: Connection
    first: tuple[Moment, ...]
    last: tuple[Moment, ...]
    left_out: int
    state: State


class Report:
    """Give ``keep`` to an Analysis, and to ``add`` each connection that it yields, in turn.

    ``rows_left_out``: connections that have no row. ``not_drawn``: connections that have no diagram.
    """

    def __init__(self, *, most_drawn: int = MOST_DRAWN, most_rows: int = MOST_ROWS) -> None:
        self.figures = Figures()
        self.rows: list[Connection] = []
        self.drawn: list[Drawn] = []
        self.rows_left_out = self.not_drawn = 0
        self._most_rows = most_rows
        self._left = {True: most_drawn // 2, False: most_drawn - most_drawn // 2}
        self._last: Watched | None = None

    def keep(self, watched: Watched) -> None:
        """The connection that comes next."""
        self._last = watched

    def add(self, one: Connection) -> None:
        """The connection that was last given to ``keep``."""
        watched, self._last = self._last, None
        self.figures.add(one)
        problem = bool(one.problem)
        if len(self.rows) >= self._most_rows:
            self.rows_left_out += 1
        else:
            self.rows.append(one)
        if watched is None or not self._left[problem]:
            self.not_drawn += 1
            return
        self._left[problem] -= 1
        self.drawn.append(Drawn(one, *moments_of(watched), state_of(watched)))
