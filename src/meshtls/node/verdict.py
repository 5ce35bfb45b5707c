"""How a tried handshake ended, read from what both sidecars report of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.observe.events import ConnectionResult, Outcome

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``cipher_suite`` and the serials are what the sidecars negotiated and saw; None where it did not come so far."""

    success: bool
    outcome: Outcome
    detail: str
    cipher_suite: str | None = None
    client_serial: str | None = None
    server_serial: str | None = None

    @classmethod
    def of(cls, echoed: bool, client: ConnectionResult, server: ConnectionResult | None) -> Verdict:
        """The server's refusal comes first: of it the client has heard an alert at most."""
        for result in (server, client):
            if result is not None and result.outcome is not Outcome.OK:
                return cls(False, result.outcome, result.detail)
        if server is None or not echoed:
            return cls(False, Outcome.RESET, "the byte that was sent through both sidecars did not come back")
        # Each serial as the other end verified it.
        return cls(True, Outcome.OK, server.detail, server.cipher_suite, server.peer_serial, client.peer_serial)
