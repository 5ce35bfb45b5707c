"""When an authority is replaced. Pure.

The rule is SPIRE's: the next one is prepared when half of the life is left, at most 30 days, and activated when a sixth
is left, at most 7 days. So an SVID that lives longer than a sixth of its authority may be cut short.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Life"]

_PREPARED_BEFORE = timedelta(days=30)
_ACTIVATED_BEFORE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Life:
    """The time in which an authority may sign."""

    start: datetime
    end: datetime

    @property
    def prepare_at(self) -> datetime:
        """When to prepare its successor."""
        return self.end - min((self.end - self.start) / 2, _PREPARED_BEFORE)

    @property
    def activate_at(self) -> datetime:
        """When to activate its successor."""
        return self.end - self._last_part

    @property
    def activate_anyway_at(self) -> datetime:
        """When to activate it even if some agents have not seen it yet: those agents then lose their server."""
        return self.end - self._last_part / 2

    @property
    def _last_part(self) -> timedelta:
        return min((self.end - self.start) / 6, _ACTIVATED_BEFORE)
