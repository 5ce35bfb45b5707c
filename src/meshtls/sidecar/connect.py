"""The connect phase, the same for both directions."""

from __future__ import annotations

import socket

from meshtls.observe.events import Outcome
from meshtls.sidecar.address import Address
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.sockets import dial

__all__ = ["connect"]


async def connect(connection: Connection, address: Address, timeout: float) -> socket.socket:
    """Dial within ``timeout`` seconds. Raises EndedError CONNECT_FAILED."""
    try:
        with connection.phase("connect"):
            connection.dialled = await dial(address, timeout)
    except TimeoutError as error:
        raise EndedError(Outcome.CONNECT_FAILED, f"{address} did not answer within {timeout:g} s") from error
    except OSError as error:
        raise EndedError(Outcome.CONNECT_FAILED, f"{address} can't be reached: {error}") from error
    return connection.dialled
