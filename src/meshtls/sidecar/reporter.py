"""The one place that gives a ConnectionResult to whoever consumes it, and contains what the consumer raises.

A closed log or a full disk must not end a tunnel, a listener or the sidecar. The failure is told once when it begins
and once when it is over, with the number of results that were lost in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshtls.logs import logger
from meshtls.observe.events import ConnectionResult

__all__ = ["OnResult", "Reporter"]

log = logger("meshtls.sidecar")

OnResult = Callable[[ConnectionResult], None]


class Reporter:
    """Call it with each ConnectionResult. ``lost`` counts those that ``on_result`` failed on since it last worked."""

    def __init__(self, on_result: OnResult) -> None:
        self.lost = 0
        self._on_result = on_result

    def __call__(self, result: ConnectionResult) -> None:
        """Never raises, except what ends the process."""
        try:
            self._on_result(result)
        except (Exception, asyncio.CancelledError):  # it is anybody's function; see above
            self.lost += 1
            if self.lost == 1:
                log.exception(
                    "sidecar %s: on_result failed on a connection's result; connections go on unreported",
                    result.sidecar,
                )
        else:
            if self.lost:
                log.warning("sidecar %s: on_result works again; %d results were lost", result.sidecar, self.lost)
                self.lost = 0

    def close(self, sidecar: str) -> None:
        """Say how many results were lost, where that has not been said."""
        if self.lost:
            log.warning("sidecar %s: on_result did not work to the end; %d results were lost", sidecar, self.lost)
            self.lost = 0

    def __repr__(self) -> str:
        return f"<Reporter [{self.lost} lost]>"
