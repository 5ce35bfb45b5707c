"""What an alert means for a connection: how it ended, and why, in words (RFC 8446, section 6). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from meshtls.observe.events import Outcome

__all__ = ["ABOUT", "AFTER_SERVER_HELLO", "ALERTS", "Meaning"]

_O = Outcome


class Meaning(NamedTuple):
    """The outcome of a connection that this alert ended. ``about``: of an alert that is not told by its outcome;
    ``{other}`` is the end that received it.
    """

    outcome: Outcome
    about: str = ""


#: By its name. Any other alert is HANDSHAKE_FAILED, without more words.
ALERTS: Mapping[str, Meaning] = {
    "certificate_required": Meaning(_O.NO_CLIENT_CERTIFICATE),
    "no_certificate": Meaning(_O.NO_CLIENT_CERTIFICATE),
    "unknown_ca": Meaning(_O.PEER_UNTRUSTED),
    "certificate_expired": Meaning(_O.PEER_CERT_NOT_CURRENT),
    "certificate_revoked": Meaning(_O.PEER_REVOKED),
    "bad_certificate": Meaning(_O.PEER_CERT_INVALID),
    "unsupported_certificate": Meaning(_O.PEER_CERT_INVALID),
    "certificate_unknown": Meaning(_O.PEER_CERT_INVALID),
    "access_denied": Meaning(_O.POLICY_DENIED),
    "handshake_failure": Meaning(
        _O.HANDSHAKE_FAILED, ": it found no cipher suite, group or signature scheme in common with {other}"
    ),
    "insufficient_security": Meaning(_O.HANDSHAKE_FAILED, ": what {other} offers is too weak for it"),
    "protocol_version": Meaning(_O.HANDSHAKE_FAILED, ": no TLS version in common"),
    "inappropriate_fallback": Meaning(
        _O.HANDSHAKE_FAILED, ": {other} offers an older version than both of them can (RFC 7507)"
    ),
    "no_application_protocol": Meaning(_O.HANDSHAKE_FAILED, ": it speaks none of the protocols that {other} offers"),
    "unrecognized_name": Meaning(_O.HANDSHAKE_FAILED, ": it does not know the server name that {other} asks for"),
    "internal_error": Meaning(
        _O.HANDSHAKE_FAILED, ": the fault is its own, and not that of {other}; a sidecar without an SVID sends it"
    ),
    "decrypt_error": Meaning(_O.HANDSHAKE_FAILED, ": a signature or a Finished of {other} did not verify"),
    "bad_record_mac": Meaning(
        _O.HANDSHAKE_FAILED, ": a record of {other} did not authenticate, as one that was altered on its way"
    ),
    "unexpected_message": Meaning(
        _O.HANDSHAKE_FAILED,
        ": a message of {other} was not the one that had to come; a sidecar also refuses so after the handshake",
    ),
    "decode_error": Meaning(_O.HANDSHAKE_FAILED, ": it could not read a message of {other}"),
    "illegal_parameter": Meaning(_O.HANDSHAKE_FAILED, ": a message of {other} has a value that TLS forbids"),
    "missing_extension": Meaning(_O.HANDSHAKE_FAILED, ": a message of {other} lacks an extension"),
    "unsupported_extension": Meaning(_O.HANDSHAKE_FAILED, ": {other} sent an extension that it did not offer"),
    "record_overflow": Meaning(_O.HANDSHAKE_FAILED, ": a record of {other} is longer than TLS allows"),
}

#: Of handshake_failure, once the ServerHello has chosen a suite.
AFTER_SERVER_HELLO = (
    "; a cipher suite was agreed on before that, and the alert does not say what else of {other} is not acceptable"
)

#: What follows the alert's name, by how the connection ended.
ABOUT: Mapping[Outcome, str] = {
    _O.NO_CLIENT_CERTIFICATE: ": {other} presented no certificate",
    _O.PEER_UNTRUSTED: ": it does not trust the chain of {other}",
    _O.PEER_CERT_NOT_CURRENT: ": the certificate of {other} is expired or not yet valid by its clock",
    _O.PEER_REVOKED: ": the certificate of {other} was revoked",
    _O.PEER_CERT_INVALID: ": it takes the certificate of {other} for no valid one",
    _O.POLICY_DENIED: ": it does not allow {other}",
}
