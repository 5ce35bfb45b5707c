"""The result of a handshake attempt, derived from the reports of both sidecars, and the reply that states it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from meshtls.node.mesh import Attempt
from meshtls.node.messages import LONGEST_DETAIL, Reply, bounded
from meshtls.observe.events import UNRULED, ConnectionResult, Outcome, RequestResult, Ruled

__all__ = ["Party", "Verdict", "handshake_reply"]

_INVALID = "Invalid certificate"
#: The outcomes of a sidecar that refused its peer's certificate, and the reason in the reply.
_REFUSALS = {
    Outcome.POLICY_DENIED: "Not authorized",
    Outcome.PATH_REFUSED: "Not authorized",
    Outcome.TOKEN_REFUSED: "Not authorized",
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
    ``ruled`` is what policies of Istio's said, and ``status`` the HTTP status that a request was answered with.
    """

    success: bool
    outcome: Outcome
    detail: str
    cipher_suite: str | None = None
    client_serial: str | None = None
    server_serial: str | None = None
    refused: Party | None = None
    ruled: Ruled = UNRULED
    status: int | None = None

    @classmethod
    def of_request(
        cls,
        status: int | None,
        client: ConnectionResult | None,
        server: ConnectionResult | None,
        request: RequestResult | None,
    ) -> Verdict:
        """The verdict on an HTTP request; ``client`` is None for plaintext, ``request`` if none was judged."""
        connected = cls.of(True, client, server)
        if not connected.success:
            return connected
        if request is not None and request.outcome is not Outcome.OK:
            refused = Party.CLIENT if request.outcome in _REFUSALS else None
            detail = request.detail
            return cls(False, request.outcome, detail, refused=refused, ruled=request.ruled, status=status)
        if request is None or status is None:
            words = "no answer came" if status is None else f"it was answered with {status}"
            return cls(False, Outcome.RESET, f"the request reached no policy: {words}", status=status)
        return replace(connected, detail=request.detail, ruled=request.ruled, status=status)

    @classmethod
    def of(cls, echoed: bool, client: ConnectionResult | None, server: ConnectionResult | None) -> Verdict:
        """Combine both reports. Only the sidecar that refused knows the reason: the other received an alert at most."""
        if client is not None and client.outcome in _REFUSALS:
            return cls(False, client.outcome, client.detail, refused=Party.SERVER)
        if server is not None and server.outcome in _REFUSALS:
            return cls(False, server.outcome, server.detail, refused=Party.CLIENT, ruled=server.ruled)
        for result in (server, client):
            if result is not None and result.outcome is not Outcome.OK:
                return cls(False, result.outcome, result.detail)
        if server is None or not echoed:
            return cls(False, Outcome.RESET, "the byte that was sent through both sidecars did not come back")
        # Each serial as the peer verified it.
        by_client = None if client is None else client.peer_serial
        return cls(
            True, Outcome.OK, server.detail, server.cipher_suite, server.peer_serial, by_client, ruled=server.ruled
        )


def handshake_reply(msg_id: int, attempt: Attempt, verdict: Verdict) -> Reply:
    """The reply ``handshake_complete``, or ``handshake_failed`` with the reason and, in ``detail``, the message of the
    sidecar.

    ``refused`` is ``client`` or ``server`` if a certificate was refused, else it is absent. So are ``status``,
    ``policy``, ``rule``, ``clause`` and ``shadow`` where there is none.
    """
    said = {
        name: value
        for name, value in (
            ("status", verdict.status),
            ("policy", verdict.ruled.policy),
            ("rule", verdict.ruled.rule),
            ("clause", verdict.ruled.clause),
            ("shadow", list(verdict.ruled.shadow) or None),
        )
        if value is not None
    }
    if verdict.success:
        return {
            "type": "handshake_complete",
            "in_reply_to": msg_id,
            "success": True,
            "cipher_suite": verdict.cipher_suite,
            "client_serial": verdict.client_serial,
            "server_serial": verdict.server_serial,
            **said,
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
        **said,
    }
