"""The question and the answer of every healthcheck."""

from __future__ import annotations

from meshtls.cli.http import HttpError, get
from meshtls.cli.output import Output
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.address import Address

__all__ = ["readiness_at", "tell_health"]

_SECONDS = 3.0
_READY = "ready; "


async def readiness_at(address: Address, path: str) -> Readiness:
    """What answers probes there, in its words or in ours."""
    try:
        answer = await get(address, path, _SECONDS)
    except HttpError as error:
        return Readiness(False, str(error))
    text = answer.body.decode("utf-8", "replace").strip()
    if answer.status == 200:
        return Readiness(True, text.removeprefix(_READY) if text.startswith(_READY) else "")
    return Readiness(False, text or f"{address} answered {answer.status}")


def tell_health(out: Output, state: Readiness) -> int:
    """Say ready, and what endangers that, or what is awaited; the exit code."""
    record = {"ready": state.ready, "waiting_for": "" if state.ready else state.text}
    if state.ready and state.text:
        record["warning"] = state.text
    ready = f"{_READY}{state.text}" if state.text else "ready"
    out.record(record, ready if state.ready else f"not ready: {state.text}")
    return 0 if state.ready else 1
