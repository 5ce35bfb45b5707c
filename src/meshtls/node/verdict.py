"""The result of a handshake attempt, derived from the reports of both sidecars, and the reply that states it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from meshtls.node.mesh import Attempt
from meshtls.node.messages import LONGEST_DETAIL, Reply, bounded
from meshtls.observe.events import ConnectionResult, Outcome

__all__ = ["Party", "Verdict", "handshake_reply"]

_INVALID = "Invalid certificate"
#: The outcomes of a sidecar that refused its peer's certificate, and the reason in the reply.
_REFUSALS = {
    Outcome.POLICY_DENIED: "Not authorized",
    Outcome.NO_CLIENT_CERTIFICATE: _INVALID,
    Outcome.PEER_CERT_INVALID: _INVALID,
    Outcome.PEER_CERT_NOT_CURRENT: _INVALID,
    Outcome.PEER_UNTRUSTED: _INVALID,
    Outcome.PEER_REVOKED: _INVALID,
    Outcome.NO_BUNDLE: _INVALID,
}


class Party(Enum):
    """The party whose certificate was refused."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of an attempt.

    ``cipher_suite`` and the serials are what the sidecars negotiated and verified, None if the handshake did not
    complete. ``refused`` is the party whose certificate was refused, None if the attempt failed for another reason.
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
        """Combine both reports. Only the sidecar that refused knows the reason: the other received an alert at most."""
        if client.outcome in _REFUSALS:
            return cls(False, client.outcome, client.detail, refused=Party.SERVER)
        if server is not None and server.outcome in _REFUSALS:
            return cls(False, server.outcome, server.detail, refused=Party.CLIENT)
        for result in (server, client):
            if result is not None and result.outcome is not Outcome.OK:
                return cls(False, result.outcome, result.detail)
        if server is None or not echoed:
            return cls(False, Outcome.RESET, "the byte that was sent through both sidecars did not come back")
        # Each serial as the peer verified it.
        return cls(True, Outcome.OK, server.detail, server.cipher_suite, server.peer_serial, client.peer_serial)


def handshake_reply(msg_id: int, attempt: Attempt, verdict: Verdict) -> Reply:
    """``handshake_complete``, or ``handshake_failed`` with the reason and, in ``detail``, the message of the sidecar.

    ``refused`` is ``client`` or ``server`` if a certificate was refused, else it is absent.
    """
    if verdict.success:
        return {
            "type": "handshake_complete",
            "in_reply_to": msg_id,
            "success": True,
            "cipher_suite": verdict.cipher_suite,
            "client_serial": verdict.client_serial,
            "server_serial": verdict.server_serial,
        }
    client, server, refused = attempt.client, attempt.server, verdict.refused
    if refused is None and verdict.outcome is Outcome.HANDSHAKE_FAILED and client.own != server.own:
        # OpenSSL refuses some certificates without reporting whose. Here it can only be the one not issued for its use.
        refused = Party.SERVER if client.own else Party.CLIENT
    shown = [client] if refused is Party.CLIENT else [server] if refused is Party.SERVER else []
    invalid = any(not presented.own for presented in shown)
    notes = [presented.note for presented in shown or (client, server) if presented.note]
    return {
        "type": "handshake_failed",
        "in_reply_to": msg_id,
        "reason": _INVALID if invalid else _REFUSALS.get(verdict.outcome, "Handshake failed"),
        "success": False,
        "detail": ": ".join([*notes, bounded(verdict.detail, LONGEST_DETAIL)]),
        **({"refused": refused.value} if refused else {}),
    }
