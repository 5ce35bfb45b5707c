"""Whether a valid identity can be served now, why not, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from meshtls.svid.lifetime import BACKDATE, overdue_at
from meshtls.svid.x509 import X509Svid, format_moment

__all__ = ["Readiness", "ReportsReadiness", "readiness_of"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """``text`` says what is awaited or, where ``ready``, what endangers it; empty where nothing does."""

    ready: bool
    text: str = ""


@runtime_checkable
class ReportsReadiness(Protocol):
    """Met by sources that renew by themselves."""

    def readiness(self) -> Readiness:
        """Whether ``snapshot`` gives a valid SVID now, and how its renewal fares."""


def readiness_of(
    svid: X509Svid,
    now: datetime,
    *,
    received: datetime | None = None,
    failing_since: datetime | None = None,
    why: object = "",
) -> Readiness:
    """Of one SVID that was not withdrawn.

    - ``received``: when its holder got it; None where that is not known. Its life counts from then, without backdating.
    - ``failing_since``: when its renewal began to fail, ``why`` it failed last; None if it does not.
    """
    left = int((svid.not_after - now).total_seconds())
    valid = now <= svid.not_after
    when = f"SVID {svid.spiffe_id} {f'expires in {left} s' if valid else f'expired {-left} s ago'}"
    if failing_since is not None:
        return Readiness(valid, f"{when}, renewal failing since {format_moment(failing_since)}: {why}")
    if not valid or now > overdue_at(received or svid.not_before + BACKDATE, svid.not_after):
        return Readiness(valid, f"{when}, and no newer one has come")
    return Readiness(True)
