"""``/drain`` of an agent or a server: from then on it is not ready, so that new callers go elsewhere."""

from __future__ import annotations

from meshtls.admin.pages import Page, Query, Record
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness

__all__ = ["Draining"]

log = logger("meshtls.admin")


class Draining:
    """Whether it was told to drain; that lasts until the process ends."""

    def __init__(self) -> None:
        self.begun = False

    @property
    def state(self) -> str:
        return "draining" if self.begun else "serving"

    def readiness(self, state: Readiness) -> Readiness:
        """This state, unless it drains."""
        return Readiness(False, "draining", waits=False) if self.begun else state

    def page(self) -> Page:
        meaning = (
            "POST: /ready is 503 from now on, so that callers go elsewhere. Whoever calls is still served. It can't be"
            " undone: restart the process."
        )
        return Page("/drain", meaning, change=self._drain)

    def _drain(self, query: Query) -> Record:
        if not self.begun:
            log.warning("draining, by %s", query.caller.name)
        self.begun = True
        return {"state": self.state}
