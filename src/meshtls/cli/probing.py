"""Asks a process for its readiness by its health port, and tells it from another process that has the port."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.address import Address
from meshtls.cli.http import HttpError, HttpTimeoutError, NotHttpError, get
from meshtls.observe.health import read_ready
from meshtls.observe.process_name import ProcessName
from meshtls.observe.readiness import Readiness

__all__ = ["PROBE_SECONDS", "Probed", "probed"]

#: Seconds that a healthcheck waits for an answer.
PROBE_SECONDS = 3.0
_UNNAMED = "it does not say which process it is, as a meshtls of an older version: restart it with this version"


class Probed(NamedTuple):
    """What a probe found. ``is_other``: another process than the wanted one has the port, so that ``state`` is not
    ready.
    """

    state: Readiness
    is_other: bool = False


async def probed(address: Address, wanted: ProcessName, seconds: float = PROBE_SECONDS) -> Probed:
    """What ``/ready`` says at this address, if ``wanted`` answers there, or the error in asking."""
    port = f"the health port {address}"
    try:
        answer = await get(address, "/ready", seconds)
    except HttpTimeoutError:
        why = (
            f"{port} gives no answer within {seconds:g} s, wanted that of {wanted}: it hangs, or another process has it"
        )
        return Probed(Readiness(False, why))
    except NotHttpError as error:
        return _other(port, f"something else than meshtls: {error}", wanted)
    except HttpError as error:
        return Probed(Readiness(False, str(error)))
    found = read_ready(answer.status, answer.body)
    if found is None:
        return _other(port, f"something else than meshtls (an HTTP server, with status {answer.status})", wanted)
    if found.process is None:
        return Probed(found.state.telling(_UNNAMED))
    if mismatch := wanted.mismatch(found.process, port):
        return Probed(Readiness(False, mismatch), is_other=True)
    return Probed(found.state)


def _other(port: str, found: str, wanted: ProcessName) -> Probed:
    why = f"{port} is answered by {found}; wanted {wanted}: another process has it"
    return Probed(Readiness(False, why), is_other=True)
