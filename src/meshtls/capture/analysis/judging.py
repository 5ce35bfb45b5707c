"""How a connection ended, the first thing that went wrong, and what to do: from its facts. Pure.

What a sidecar knows and a capture does not show, such as which policy denied, stays open: the command in the advice
asks the sidecar for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from meshtls.capture.analysis.connection import Alert, Handshake, Peer
from meshtls.observe.events import Outcome

__all__ = ["ADVICE", "Facts", "Judgement", "judge"]

_O = Outcome
_BY_ALERT: Mapping[str, Outcome] = {
    "certificate_required": _O.NO_CLIENT_CERTIFICATE,
    "no_certificate": _O.NO_CLIENT_CERTIFICATE,
    "unknown_ca": _O.PEER_UNTRUSTED,
    "certificate_expired": _O.PEER_CERT_NOT_CURRENT,
    "certificate_revoked": _O.PEER_REVOKED,
    "bad_certificate": _O.PEER_CERT_INVALID,
    "unsupported_certificate": _O.PEER_CERT_INVALID,
    "certificate_unknown": _O.PEER_CERT_INVALID,
    "access_denied": _O.POLICY_DENIED,
}
#: Alerts that a side sends without being refused anything.
_HARMLESS = frozenset({"close_notify", "user_canceled", "no_renegotiation"})
_EXPLAIN = "meshtls explain connection ID"
#: What mends it, by how it ended; docs/troubleshooting.md has more of each.
ADVICE: Mapping[Outcome, str] = {
    _O.NO_CLIENT_CERTIFICATE: "call through a sidecar, which has an SVID; check it with `meshtls check --sidecar FILE`",
    _O.PEER_UNTRUSTED: (
        "compare the chain with the bundle: `meshtls x509 inspect HOST:PORT --bundle bundle.pem`; give both sides the "
        f"bundle that `meshtls bundle show` prints. `{_EXPLAIN}` has the refusing sidecar's own words"
    ),
    _O.NO_BUNDLE: "federate the trust domains: `meshtls bundle set`, and --federates-with of the entry",
    _O.PEER_CERT_NOT_CURRENT: "compare the clocks with `meshtls check`, and see why the peer's agent does not renew",
    _O.PEER_REVOKED: "`meshtls revoked` lists what is revoked; `meshtls readmit` lets an identity have SVIDs again",
    _O.PEER_CERT_INVALID: "`meshtls x509 inspect FILE` says which rule of an X509-SVID the certificate breaks",
    _O.POLICY_DENIED: "`meshtls policy explain` judges the same caller and names the clause",
    _O.PLAINTEXT_REFUSED: "send it through a sidecar; `meshtls x509 inspect HOST:PORT` says if the port speaks TLS",
    _O.HANDSHAKE_FAILED: f"`{_EXPLAIN}` has the sidecar's own words; `meshtls check --sidecar FILE` checks its setup",
    _O.CONNECT_FAILED: "see that the destination listens there: `meshtls check --sidecar FILE`",
    _O.RESET: f"`{_EXPLAIN}` says which side broke it off, and when",
    _O.LOCAL_IDENTITY: "`meshtls check --sidecar FILE` says why the sidecar has no SVID",
}
_KEYS = "; with the keys (--keylog FILE) the alert can be read"
_BY_VERSION = "protocol_version"


class Facts(NamedTuple):
    """What judging needs. ``client``, ``server``: who they are, in words.

    - ``ends``: for each side "closed", "reset", or "" (not seen to end), the client's first.
    - ``first_ended``: "client", "server" or "".
    - ``sent``, ``useful``: bytes of TCP, and of application data, the client's first.
    - ``answered``: the server accepted the TCP connection.
    - ``left_out``: there was no memory for all that was seen.
    - ``server_alert``: the server answered plaintext with a TLS alert.
    """

    client: str
    server: str
    protocol: str
    first_line: str
    handshake: Handshake | None
    alerts: tuple[Alert, ...]
    ends: tuple[str, str]
    first_ended: str
    sent: tuple[int, int]
    answered: bool
    useful: tuple[int, int] = (0, 0)
    server_alert: str = ""
    peers: tuple[Peer | None, Peer | None] = (None, None)
    lost: tuple[int, int] = (0, 0)
    from_start: bool = True
    troubles: tuple[str, ...] = ()
    left_out: bool = False


class Judgement(NamedTuple):
    """``outcome`` None: the capture does not show it."""

    outcome: Outcome | None
    problem: str = ""
    advice: str = ""


def judge(facts: Facts) -> Judgement:
    """Judge one connection."""
    for rule in _RULES:
        found = rule(facts)
        if found is not None:
            if found.problem and not found.advice and found.outcome is not None:
                return found._replace(advice=ADVICE.get(found.outcome, ""))
            return found
    return Judgement(None)


def _name(facts: Facts, side: str) -> str:
    return f"the {side} {facts.client if side == 'client' else facts.server}"


def _not_connected(facts: Facts) -> Judgement | None:
    if facts.answered or not facts.from_start or any(facts.sent):
        return None
    if facts.ends[1] == "reset":
        return Judgement(_O.CONNECT_FAILED, f"{_name(facts, 'server')} refused the TCP connection")
    return Judgement(_O.CONNECT_FAILED, f"{_name(facts, 'server')} did not answer the client's SYN")


def _plaintext(facts: Facts) -> Judgement | None:
    if facts.handshake is not None or not facts.sent[0]:
        return None
    said = f"{_name(facts, 'client')} sent plaintext that starts with {facts.first_line!r}"
    if facts.server_alert:
        problem = f"{said}, and the server answered with the TLS alert {facts.server_alert}"
        return Judgement(_O.PLAINTEXT_REFUSED, problem)
    if facts.from_start and not facts.sent[1] and facts.first_ended == "server":
        return Judgement(
            _O.PLAINTEXT_REFUSED, f"{said}, and the server closed without a byte, as one does that wants TLS"
        )
    return None


def _alert(facts: Facts) -> Judgement | None:
    alert = next((one for one in facts.alerts if one.name and one.name not in _HARMLESS), None)
    if facts.handshake is None or alert is None:
        return None
    outcome = _BY_ALERT.get(alert.name, _O.HANDSHAKE_FAILED)
    other = "server" if alert.side == "client" else "client"
    if alert.name == "handshake_failure" and facts.handshake.mutual_reason.endswith("sent none"):
        outcome = _O.NO_CLIENT_CERTIFICATE
    peer = facts.peers[0 if other == "client" else 1]
    if peer is not None and peer.refused_as is not None and outcome is not _O.HANDSHAKE_FAILED:
        outcome = peer.refused_as
    about = _ABOUT.get(outcome, "").format(other=_name(facts, other))
    problem = f"{_name(facts, alert.side)} sent the alert {alert.name}{about}"
    if peer is not None and peer.why_refused:
        problem = f"{problem}; by the bundle given: {peer.why_refused}"
    if alert.name == _BY_VERSION:
        return Judgement(
            outcome,
            f"{problem}: no TLS version in common",
            'update the peer, or let older clients in with `tls_min: "1.2"`; `meshtls check` tries TLS 1.3 here',
        )
    return Judgement(outcome, problem)


_ABOUT: Mapping[Outcome, str] = {
    _O.NO_CLIENT_CERTIFICATE: ": {other} presented no certificate",
    _O.PEER_UNTRUSTED: ": it does not trust the certificate of {other}, or does not allow its identity",
    _O.PEER_CERT_NOT_CURRENT: ": the certificate of {other} is expired or not yet valid by its clock",
    _O.PEER_REVOKED: ": the certificate of {other} was revoked",
    _O.PEER_CERT_INVALID: ": it takes the certificate of {other} for no valid one",
    _O.POLICY_DENIED: ": it does not allow {other}",
}


def _incomplete(facts: Facts) -> Judgement | None:
    handshake = facts.handshake
    if handshake is None or handshake.complete:
        return None
    if not facts.from_start:
        return Judgement(None, "the capture does not have the beginning of this connection")
    if any(facts.lost):
        return Judgement(None, f"{sum(facts.lost)} bytes of the handshake are not in the capture")
    if facts.left_out:
        return Judgement(None, "there was no memory to follow the handshake: analyze fewer connections at a time")
    hidden = next((one for one in facts.alerts if not one.name), None)
    if hidden is not None:
        side = _name(facts, hidden.side)
        return Judgement(_O.HANDSHAKE_FAILED, f"{side} ended the handshake with an encrypted alert{_KEYS}")
    if not facts.first_ended:
        return Judgement(None, "the handshake was not complete when the capture ended")
    how = facts.ends[0 if facts.first_ended == "client" else 1]
    problem = f"{_name(facts, facts.first_ended)} {how} the connection during the handshake, without an alert"
    return Judgement(_O.HANDSHAKE_FAILED, problem)


def _hidden(facts: Facts) -> Judgement | None:
    """An encrypted alert, and no answer: what a server of TLS 1.3 does that refuses the client's certificate."""
    handshake = facts.handshake
    if handshake is None or not handshake.inferred or facts.useful[1]:
        return None
    hidden = [one for one in facts.alerts if not one.name and one.side == "server"]
    if len(hidden) != 1 or any(one.side == "client" for one in facts.alerts) or handshake.decrypted:
        return None
    problem = (
        f"{_name(facts, 'server')} ended the connection after the client's Finished, with an encrypted alert{_KEYS}"
    )
    return Judgement(_O.HANDSHAKE_FAILED, problem)


def _state(facts: Facts) -> Judgement | None:
    if facts.handshake is None or facts.handshake.legal is not False or any(facts.lost):
        return None
    return Judgement(_ended(facts), f"a message that TLS does not allow here: {facts.handshake.state}", _EXPLAIN)


def _chains(facts: Facts) -> Judgement | None:
    for side, peer in zip(("client", "server"), facts.peers, strict=True):
        if peer is not None and peer.why_refused:
            problem = f"the chain of {_name(facts, side)} does not verify by the bundle given: {peer.why_refused}"
            return Judgement(_ended(facts), problem, ADVICE.get(peer.refused_as, "") if peer.refused_as else "")
    return None


def _rest(facts: Facts) -> Judgement | None:
    outcome = _ended(facts)
    if outcome is _O.RESET:
        side = "client" if facts.ends[0] == "reset" else "server"
        return Judgement(outcome, f"{_name(facts, side)} reset the connection")
    return Judgement(outcome)


def _ended(facts: Facts) -> Outcome | None:
    if "reset" in facts.ends:
        return _O.RESET
    return _O.OK if all(facts.ends) else None


_RULES = (_not_connected, _plaintext, _alert, _incomplete, _hidden, _state, _chains, _rest)
