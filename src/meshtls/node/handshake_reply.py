"""From a handshake's Verdict to the reply that tells it. Pure."""

from __future__ import annotations

from meshtls.node.mesh import Attempt
from meshtls.node.messages import Reply
from meshtls.node.verdict import Verdict
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
    Outcome.NO_BUNDLE: _INVALID,
}
#: What is the certificate's fault where it is not one that the client may present. OpenSSL refuses some by itself.
_OF_ANY_OTHER = (Outcome.POLICY_DENIED, Outcome.HANDSHAKE_FAILED)
_ANY_OTHER_REASON = "Handshake failed"


def handshake_reply(msg_id: int, attempt: Attempt, verdict: Verdict) -> Reply:
    """``handshake_complete``, or ``handshake_failed`` with the reason and in ``detail`` the words of who refused."""
    if verdict.success:
        return {
            "type": "handshake_complete",
            "in_reply_to": msg_id,
            "success": True,
            "cipher_suite": verdict.cipher_suite,
            "client_serial": verdict.client_serial,
            "server_serial": verdict.server_serial,
        }
    detail = bounded(verdict.detail, LONGEST_DETAIL)
    return {
        "type": "handshake_failed",
        "in_reply_to": msg_id,
        "reason": _reason(attempt, verdict),
        "success": False,
        "detail": f"{attempt.note}: {detail}" if attempt.note else detail,
    }


def _reason(attempt: Attempt, verdict: Verdict) -> str:
    if not attempt.own and verdict.outcome in _OF_ANY_OTHER:
        return _INVALID
    return _REASONS.get(verdict.outcome, _ANY_OTHER_REASON)
