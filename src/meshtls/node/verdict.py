"""How a tried handshake ended, read from what both sidecars report of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from meshtls.observe.events import ConnectionResult, Outcome

__all__ = ["Party", "Verdict"]


class Party(Enum):
    """Whose certificate was refused."""

    CLIENT = "client"
    SERVER = "server"


#: Outcomes of a sidecar that refused its peer's certificate.
_REFUSALS = frozenset(
    {
        Outcome.POLICY_DENIED,
        Outcome.NO_CLIENT_CERTIFICATE,
        Outcome.PEER_CERT_INVALID,
        Outcome.PEER_CERT_NOT_CURRENT,
        Outcome.PEER_UNTRUSTED,
        Outcome.PEER_REVOKED,
        Outcome.NO_BUNDLE,
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``cipher_suite`` and the serials are what the sidecars negotiated and saw; None where it did not come so far.

    ``refused`` is the party whose certificate the other one refused, None where it was something else.
    """

    success: bool
    outcome: Outcome
    detail: str
    cipher_suite: str | None = None
    client_serial: str | None = None
    server_serial: str | None = None
    refused: Party | None = None

    @classmethod
    def of(cls, echoed: bool, client: ConnectionResult, server: ConnectionResult | None) -> Verdict:
        """A party that refused the other has the reason; the refused one has received an alert at most."""
        if client.outcome in _REFUSALS:
            return cls(False, client.outcome, client.detail, refused=Party.SERVER)
        if server is not None and server.outcome in _REFUSALS:
            return cls(False, server.outcome, server.detail, refused=Party.CLIENT)
        for result in (server, client):
            if result is not None and result.outcome is not Outcome.OK:
                return cls(False, result.outcome, result.detail)
        if server is None or not echoed:
            return cls(False, Outcome.RESET, "the byte that was sent through both sidecars did not come back")
        # Each serial as the other end verified it.
        return cls(True, Outcome.OK, server.detail, server.cipher_suite, server.peer_serial, client.peer_serial)
