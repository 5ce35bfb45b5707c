"""Whether a valid identity can be served now, why not, and for how long. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from meshtls.svid.x509 import X509Svid

__all__ = ["Readiness", "ReportsReadiness", "readiness_of"]

#: A holder renews at half of an SVID's life, give or take 10 % of that; after this part of the life it is late.
_OVERDUE = 2 / 3


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


def readiness_of(svid: X509Svid, now: datetime, failing_since: datetime | None = None, why: object = "") -> Readiness:
    """Of one SVID that was not withdrawn. ``failing_since`` is when its renewal began to fail, None if it does not."""
    left = int((svid.not_after - now).total_seconds())
    if now > svid.not_after:
        when = f"SVID {svid.spiffe_id} expired {-left} s ago"
    else:
        when = f"SVID {svid.spiffe_id} expires in {left} s"
    if failing_since is not None:
        return Readiness(
            now <= svid.not_after, f"{when}, renewal failing since {failing_since:%Y-%m-%dT%H:%M:%SZ}: {why}"
        )
    if now > svid.not_before + timedelta(seconds=_OVERDUE * (svid.not_after - svid.not_before).total_seconds()):
        return Readiness(now <= svid.not_after, f"{when}, and no newer one has come")
    return Readiness(True)
