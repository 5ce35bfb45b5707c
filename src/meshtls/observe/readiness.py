"""Whether there is a valid identity to serve now, why not, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from meshtls.errors import LocalIdentityError
from meshtls.svid.context import X509ContextSource
from meshtls.svid.lifetime import BACKDATE, overdue_at
from meshtls.svid.x509 import X509Svid, format_moment

__all__ = ["Readiness", "ReportsReadiness", "readiness_from", "readiness_of"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """``text`` says what is missing or, if ``ready``, what endangers it; empty if nothing does. ``waits``: what is
    missing may still come.
    """

    ready: bool
    text: str = ""
    waits: bool = True

    def telling(self, *more: str) -> Readiness:
        """The same, with these at the end of its text; empty ones say nothing."""
        return Readiness(self.ready, "; ".join(filter(None, (self.text, *more))), self.waits)


@runtime_checkable
class ReportsReadiness(Protocol):
    """Implemented by sources that renew by themselves."""

    def readiness(self) -> Readiness:
        """Whether ``snapshot`` returns a valid SVID now, and the state of its renewal."""


def readiness_of(
    svid: X509Svid,
    now: datetime,
    *,
    received: datetime | None = None,
    failing_since: datetime | None = None,
    why: object = "",
) -> Readiness:
    """The readiness of one SVID that was not withdrawn.

    - ``received``: when its holder got it, None if unknown. Its lifetime counts from then, which ignores backdating.
    - ``failing_since``, ``why``: since when its renewal fails, and the latest error; None if it does not fail.
    """
    left = int((svid.not_after - now).total_seconds())
    valid = now <= svid.not_after
    when = f"SVID {svid.spiffe_id} {f'expires in {left} s' if valid else f'expired {-left} s ago'}"
    if failing_since is not None:
        return Readiness(valid, f"{when}, renewal failing since {format_moment(failing_since)}: {why}")
    if not valid or now > overdue_at(received or svid.not_before + BACKDATE, svid.not_after):
        return Readiness(valid, f"{when}, and no newer one was received")
    return Readiness(True)


def readiness_from(source: X509ContextSource, now: datetime) -> Readiness:
    """What the source reports, or that of its SVID if it reports nothing."""
    if isinstance(source, ReportsReadiness):
        return source.readiness()
    try:
        return readiness_of(source.snapshot().svid, now)
    except LocalIdentityError as error:
        return Readiness(False, f"a valid SVID: {error}")
