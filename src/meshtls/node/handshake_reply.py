"""From a handshake's Verdict to the reply that tells it. Pure."""

from __future__ import annotations

from meshtls.node.mesh import Attempt
from meshtls.node.messages import Reply
from meshtls.node.verdict import Party, Verdict
from meshtls.node.words import LONGEST_DETAIL, bounded
from meshtls.observe.events import Outcome

__all__ = ["handshake_reply"]

_INVALID = "Invalid certificate"
_REASONS = {
    Outcome.POLICY_DENIED: "Not authorized",
    Outcome.NO_CLIENT_CERTIFICATE: _INVALID,
    Outcome.PEER_CERT_INVALID: _INVALID,
    Outcome.PEER_CERT_NOT_CURRENT: _INVALID,
    Outcome.PEER_UNTRUSTED: _INVALID,
    Outcome.PEER_REVOKED: _INVALID,
    Outcome.NO_BUNDLE: _INVALID,
}
_OTHERWISE = "Handshake failed"


def handshake_reply(msg_id: int, attempt: Attempt, verdict: Verdict) -> Reply:
    """``handshake_complete``, or ``handshake_failed`` with the reason, and in ``detail`` the words of who refused.

    ``refused`` is there where a certificate was refused: the client's or the server's.
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
    refused = _refused(attempt, verdict)
    shown = [attempt.client] if refused is Party.CLIENT else [attempt.server] if refused is Party.SERVER else []
    invalid = any(not presented.own for presented in shown)
    notes = [presented.note for presented in shown or (attempt.client, attempt.server) if presented.note]
    return {
        "type": "handshake_failed",
        "in_reply_to": msg_id,
        "reason": _INVALID if invalid else _REASONS.get(verdict.outcome, _OTHERWISE),
        "success": False,
        "detail": ": ".join([*notes, bounded(verdict.detail, LONGEST_DETAIL)]),
        **({"refused": refused.value} if refused else {}),
    }


def _refused(attempt: Attempt, verdict: Verdict) -> Party | None:
    if (
        verdict.refused is None
        and verdict.outcome is Outcome.HANDSHAKE_FAILED
        and attempt.client.own != attempt.server.own
    ):
        # OpenSSL refuses some certificates by itself, and does not say whose: here only one of the two can be it.
        return Party.SERVER if attempt.client.own else Party.CLIENT
    return verdict.refused
