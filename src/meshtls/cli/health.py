"""The question and the answer of every healthcheck."""

from __future__ import annotations

from meshtls.cli.http import HttpError, get
from meshtls.cli.output import Output
from meshtls.sidecar.address import Address

__all__ = ["awaited_at", "tell_health"]

_SECONDS = 3.0


async def awaited_at(address: Address, path: str) -> str | None:
    """What is still awaited by what answers probes there, in its words or in ours; None where it is ready."""
    try:
        answer = await get(address, path, _SECONDS)
    except HttpError as error:
        return str(error)
    if answer.status == 200:
        return None
    return answer.body.decode("utf-8", "replace").strip() or f"{address} answered {answer.status}"


def tell_health(out: Output, awaited: str | None) -> int:
    """Say ready, or what is awaited; the exit code."""
    text = f"not ready: {awaited}" if awaited else "ready"
    out.record({"ready": not awaited, "waiting_for": awaited or ""}, text)
    return 1 if awaited else 0
