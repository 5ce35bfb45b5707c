"""How a connection ended, the first thing that went wrong, and what to do: from its facts. Pure.

An outcome is what the capture proves. What it only suggests is told in words, and the outcome is None. What a sidecar
knows and a capture does not show, such as which policy denied, stays open: the command in the advice asks the sidecar.
"""

from __future__ import annotations

from meshtls.capture.analysis.advice import (
    BY_MTU,
    BY_PLAINTEXT,
    BY_RENEGOTIATION,
    BY_SIDECAR,
    BY_VERSION,
    WAITED,
    advice_of,
    filled,
    of_unknown_ca,
)
from meshtls.capture.analysis.alert_words import ABOUT, AFTER_SERVER_HELLO, ALERTS, Meaning
from meshtls.capture.analysis.connection import Alert, Peer
from meshtls.capture.analysis.facts import Facts, Judgement
from meshtls.capture.analysis.hidden import begun_before, encrypted_alert, hidden, keys_show, sent_all, unproven
from meshtls.observe.events import Outcome
from meshtls.spiffeid import SpiffeId

__all__ = ["judge"]

_O = Outcome
#: The least time, in milliseconds, for which a side that gave up has to have waited.
_TIMEOUT_MS = 1000.0
#: Alerts of a side that gave up waiting, beside none at all.
_OF_TIMEOUTS = frozenset({"", "close_notify", "user_canceled", "unexpected_message"})


def judge(facts: Facts) -> Judgement:
    """Judge one connection."""
    for rule in _RULES:
        found = rule(facts)
        if found is not None:
            advice = found.advice or (advice_of(found.outcome) if found.problem else "")
            return found._replace(advice=filled(advice, facts)) if advice else found
    return Judgement(None)


def _not_connected(facts: Facts) -> Judgement | None:
    if facts.answered or not facts.from_start or any(facts.sent) or facts.after_header:
        return None
    server = facts.who("server")
    if facts.ends[1] == "reset":
        return Judgement(_O.CONNECT_FAILED, f"{server} refused the TCP connection")
    if facts.syns < 2:
        return Judgement(None, unknown_because=f"the capture has one SYN of the client, and no answer of {server}")
    tries = f"{facts.syns} packets of the client in {_seconds(facts.duration_ms)}"
    return Judgement(_O.CONNECT_FAILED, f"{server} did not answer the client's SYN: {tries}")


def _silent(facts: Facts) -> Judgement | None:
    """The client sent no byte, or a PROXY protocol header alone, and the server none but those of an alert."""
    if facts.sent[0] or not facts.syns or not facts.from_start or facts.ended_ms is None:
        return None
    answered = facts.handshake is not None and facts.handshake.version
    if facts.sent[1] and (answered or not facts.server_alert or not facts.alerts):
        return None
    if any(facts.lost):
        return Judgement(None, unknown_because="what was sent is not in the capture")
    nothing = "a PROXY protocol header alone" if facts.after_header else "no byte"
    alert = facts.alerts[0] if facts.alerts else None
    words = f"{facts.who(facts.first_ended)} {facts.how(facts.first_ended)} the connection after"
    if alert is None:
        sent = f"the client sent {nothing}" if facts.after_header else "neither side sent a byte"
        words = f"{words} {_seconds(facts.ended_ms)}, in which {sent}"
    elif _answers_end(facts, alert):
        said = f"{facts.who('server')} then {_alerted(facts, alert)}"
        words = f"{words} {_seconds(facts.ended_ms)}, in which it sent {nothing}, and {said}"
    else:
        said = f"{facts.who('server')} {_alerted(facts, alert)} after {_seconds(alert.ms or 0.0)}"
        return Judgement(None, f"{said}, in which the client sent {nothing}", WAITED)
    if facts.first_ended == "client":
        return Judgement(None, unknown_because=f"{words}: likely it only probed the port")
    return Judgement(None, words, WAITED)


def _plaintext(facts: Facts) -> Judgement | None:
    if facts.handshake is not None or not facts.sent[0] or begun_before(facts):
        return None
    said = f"{facts.who('client')} sent plaintext"
    if facts.first_line:
        said = f"{said} that starts with {facts.first_line!r}"
    if facts.server_alert:
        problem = f"{said}, and the server answered with the TLS alert {facts.server_alert}"
        return Judgement(_O.PLAINTEXT_REFUSED, problem)
    if not facts.from_start or facts.sent[1] or facts.first_ended != "server":
        return None
    words = f"{said}, and the server {facts.how('server')} the connection without a byte"
    if facts.protocol.startswith("HTTP/") and facts.server_is_local:
        return Judgement(None, f"{words}: likely it is a sidecar whose own call failed, or it wants TLS", BY_SIDECAR)
    if facts.protocol.startswith("HTTP/"):
        return Judgement(None, f"{words}: likely it wants TLS", advice_of(_O.PLAINTEXT_REFUSED))
    return Judgement(None, unknown_because=f"{words}, as a port that only receives does, and one that wants TLS")


def _undelivered(facts: Facts) -> Judgement | None:
    """A side got no answer to large packets, and one of both gave up."""
    progress = facts.progress
    if progress is None or not _is_whole(facts) or facts.server_answer or facts.ended_ms is None:
        return None
    if any(one.name not in _OF_TIMEOUTS and not _answers_end(facts, one) for one in facts.alerts):
        return None
    side, count = ("server", facts.undelivered[1]) if facts.undelivered[1] else ("client", facts.undelivered[0])
    waited = facts.ended_ms - progress.since_ms
    if not count or waited < _TIMEOUT_MS:
        return None
    other, ended = "client" if side == "server" else "server", facts.first_ended
    problem = (
        f"{facts.who(other)} did not acknowledge {count} bytes of {facts.who(side)}, which sent some of them again"
        f" during the handshake, {progress.after}, and {facts.who(ended)} {facts.how(ended)} the connection after"
        f" {_seconds(waited)}: likely large packets of the {side} do not arrive"
    )
    return Judgement(_O.HANDSHAKE_TIMEOUT, problem, BY_MTU)


def _timeout(facts: Facts) -> Judgement | None:
    """A side waited for the other's next message, and gave up."""
    progress = facts.progress
    if progress is None or not _is_whole(facts) or facts.server_answer:
        return None
    waiting = "server" if progress.turn == "client" else "client"
    alerts = [one for one in facts.alerts if not _answers_end(facts, one)]
    if any(one.side == progress.turn for one in alerts):
        return None
    alert = next((one for one in alerts if one.side == waiting), None)
    if alert is not None and alert.name not in _OF_TIMEOUTS:
        return None
    gave_up_ms = alert.ms if alert is not None else facts.ended_ms if facts.first_ended == waiting else None
    if gave_up_ms is None or not facts.first_ended:
        return None
    waited = gave_up_ms - progress.since_ms
    if waited < _TIMEOUT_MS:
        return None
    how = _alerted(facts, alert) if alert is not None else f"{facts.how(waiting)} the connection"
    problem = f"{facts.who(progress.turn)} did not go on with the handshake {progress.after}, and {facts.who(waiting)}"
    problem = f"{problem} {how} after {_seconds(waited)}"
    if progress.cut:
        return Judgement(_O.HANDSHAKE_TIMEOUT, f"{problem}: likely large packets of the server do not arrive", BY_MTU)
    return Judgement(_O.HANDSHAKE_TIMEOUT, problem)


def _alert(facts: Facts) -> Judgement | None:
    if facts.handshake is None:
        return None
    alert = next((one for one in facts.alerts if one.fatal), None) or _last_warning(facts)
    if alert is None:
        return None
    meaning = ALERTS.get(alert.name, Meaning(_O.HANDSHAKE_FAILED))
    outcome, about = meaning
    other = "server" if alert.side == "client" else "client"
    if any((one.side, one.name) == (other, "no_renegotiation") for one in facts.alerts):
        refused = f"{facts.who(other)} refused the renegotiation of this established connection"
        return Judgement(outcome, f"{facts.who(alert.side)} {_alerted(facts, alert)}: {refused}", BY_RENEGOTIATION)
    if _answers_a_cut(facts, alert):
        return None
    if alert.name == "decode_error" and facts.handshake.complete and _was_cut_off(facts, alert):
        cut = f"{facts.who(other)} had closed the connection without close_notify: the end may be cut off"
        return Judgement(None, f"{facts.who(alert.side)} {_alerted(facts, alert)}, since {cut}")
    if alert.name == "handshake_failure":
        if alert.side == "server" and facts.handshake.mutual_reason.endswith("sent none"):
            outcome = _O.NO_CLIENT_CERTIFICATE
        elif not _is_whole(facts):
            return _unknown_cause(facts, alert)
        elif facts.handshake.version:
            about = AFTER_SERVER_HELLO
    peer = facts.peer(other)
    if outcome is _O.PEER_UNTRUSTED and (peer is None or peer.refused_as is None):
        return _unknown_ca(facts, alert, peer)
    if peer is not None and peer.refused_as is not None and outcome is not _O.HANDSHAKE_FAILED:
        outcome = peer.refused_as
    about = ABOUT.get(outcome, about).format(other=facts.who(other))
    problem = f"{facts.who(alert.side)} {_alerted(facts, alert)}{about}"
    if peer is not None and peer.why_refused:
        return Judgement(outcome, f"{problem}; by the bundle given: {peer.why_refused}")
    if alert.name == "protocol_version":
        return Judgement(outcome, problem, BY_VERSION)
    return Judgement(outcome, problem)


def _unknown_cause(facts: Facts, alert: Alert) -> Judgement:
    """Judge handshake_failure, where not all that came before it is in the capture. TLS 1.2 has it also for a client
    without a certificate (RFC 5246, section 7.4.6).
    """
    missing = "not all of the handshake is in the capture"
    problem = f"{facts.who(alert.side)} {_alerted(facts, alert)}; {missing}, so that its cause is not shown"
    if alert.side == "client":
        return Judgement(_O.HANDSHAKE_FAILED, problem)
    words = "nothing in common with the client, or a client without a certificate"
    return Judgement(None, f"{problem}: {words}", advice_of(_O.HANDSHAKE_FAILED))


def _unknown_ca(facts: Facts, alert: Alert, peer: Peer | None) -> Judgement:
    """Judge unknown_ca for a chain that no bundle was seen to refuse. A sidecar, which can't choose its alerts, sends
    unknown_ca also where the chain verifies, and its policy does not allow the identity.
    """
    other = facts.who("server" if alert.side == "client" else "client")
    said = f"{facts.who(alert.side)} {_alerted(facts, alert)}"
    if peer is not None and peer.verified:
        words = f"it does not allow the identity of {other}, whose chain verifies by the bundle given"
        return Judgement(None, f"{said}: likely POLICY_DENIED: {words}", of_unknown_ca(alert.side, verified=True))
    words = f"it does not trust the chain of {other}, or does not allow its identity"
    problem = f"{said}: likely PEER_UNTRUSTED or POLICY_DENIED: {words}"
    if peer is not None and peer.unverified_because:
        problem = f"{problem}; {peer.unverified_because}"
    claimed = {peer.spiffe_id for peer in facts.peers if peer is not None and peer.spiffe_id}
    domains = sorted({SpiffeId.parse(one).trust_domain.name for one in claimed})
    if len(domains) > 1:
        differ = f"the trust domains differ, {' and '.join(domains)}: likely it has no bundle of the other's"
        return Judgement(None, f"{problem}; {differ}", advice_of(_O.NO_BUNDLE))
    return Judgement(None, problem, of_unknown_ca(alert.side, verified=False))


def _was_cut_off(facts: Facts, alert: Alert) -> bool:
    """Whether the other side had closed, and TLS was not told (RFC 8446, section 6.1). OpenSSL answers decode_error."""
    notified = any(one.name == "close_notify" and one.side != alert.side for one in facts.alerts)
    return _answers_end(facts, alert) and not notified


def _answers_end(facts: Facts, alert: Alert) -> bool:
    """Whether the other side had ended before this alert was sent."""
    if facts.first_ended in ("", alert.side) or facts.ended_ms is None or alert.ms is None:
        return False
    return facts.ended_ms <= alert.ms


def _answers_a_cut(facts: Facts, alert: Alert) -> bool:
    """Whether the other side had ended before its next message of the handshake, and this alert, or an encrypted one,
    says only that: OpenSSL sends decode_error for the missing message.
    """
    turn = facts.progress.turn if facts.progress is not None else ""
    return alert.name in ("decode_error", "") and turn == facts.first_ended and _answers_end(facts, alert)


def _last_warning(facts: Facts) -> Alert | None:
    """A warning of the side that then ended the connection within the handshake."""
    if facts.handshake is None or facts.handshake.complete:
        return None
    named = [one for one in facts.alerts if one.side == facts.first_ended and one.name in ALERTS]
    return named[-1] if named else None


def _incomplete(facts: Facts) -> Judgement | None:
    if facts.handshake is None or facts.handshake.complete:
        return None
    if not facts.from_start:
        return Judgement(None, "the capture does not have the beginning of this connection")
    if any(facts.lost):
        words = f"{sum(facts.lost)} bytes of this connection are not in the capture"
        return Judgement(None, f"{words}, and the rest does not show that its handshake was complete")
    if facts.left_out:
        return Judgement(None, "there was no memory to follow the handshake: analyze fewer connections at a time")
    if facts.server_answer:
        problem = f"{facts.who('server')} answered the ClientHello with {facts.server_answer}"
        return Judgement(_O.HANDSHAKE_FAILED, problem, BY_PLAINTEXT)
    if not facts.first_ended:
        return Judgement(None, "the handshake was not complete when the capture ended")
    after = f" {facts.progress.after}" if facts.progress is not None else ""
    answer = next((one for one in facts.alerts if _answers_a_cut(facts, one)), None)
    alert = next((one for one in facts.alerts if not one.name), None)
    if alert is not None and answer is None:
        words = f"{facts.who(alert.side)} ended the handshake{after} with {encrypted_alert(facts)}; {keys_show(facts)}"
        return Judgement(_O.HANDSHAKE_FAILED, words)
    if facts.handshake.legal is False:
        return Judgement(_O.HANDSHAKE_FAILED, _illegal(facts.handshake.state))
    named = next((one.name for one in facts.alerts if one.side == facts.first_ended), "")
    words = f"with the alert {named}" if named else "without an alert"
    side = facts.first_ended
    problem = f"{facts.who(side)} {facts.how(side)} the connection during the handshake,{after}, {words}"
    if answer is not None:
        problem = f"{problem}; {facts.who(answer.side)} then {_alerted(facts, answer)}"
    return Judgement(_O.CLOSED_EARLY if side == "client" else _O.HANDSHAKE_FAILED, problem)


def _renegotiation(facts: Facts) -> Judgement | None:
    """Without keys: the client began a further handshake, and the server answered with an alert alone."""
    alert = next((one for one in facts.alerts if not one.name), None)
    if alert is None or alert.side != "server" or facts.renegotiation != {"client"}:
        return None
    if not facts.hidden or not _is_whole(facts) or _answers_end(facts, alert):
        return None
    asked = f"{facts.who('client')} asked to renegotiate this established connection"
    words = f"{asked}, and {facts.who('server')} {_alerted(facts, alert)}: likely it refused that; {keys_show(facts)}"
    return Judgement(None, words, BY_RENEGOTIATION)


def _state(facts: Facts) -> Judgement | None:
    if facts.handshake is None or facts.handshake.legal is not False or any(facts.lost):
        return None
    return Judgement(_ended(facts), _illegal(facts.handshake.state), advice_of(_O.HANDSHAKE_FAILED))


def _chains(facts: Facts) -> Judgement | None:
    for side in ("client", "server"):
        peer = facts.peer(side)
        if peer is not None and peer.why_refused:
            problem = f"the chain of {facts.who(side)} does not verify by the bundle given: {peer.why_refused}"
            return Judgement(_ended(facts), problem, advice_of(peer.refused_as))
    return None


def _rest(facts: Facts) -> Judgement | None:
    outcome = _ended(facts)
    if outcome is _O.RESET:
        after = ", which it had closed" if facts.how(facts.reset_by) == "closed" else ""
        return Judgement(outcome, f"{facts.who(facts.reset_by)} reset the connection{after}")
    words = unproven(facts) or f"the connection was {facts.open_because}"
    if facts.midway and facts.midway not in words:
        words = f"{words}; {facts.midway}"
    return Judgement(outcome, unknown_because=words if outcome is None else "")


def _ended(facts: Facts) -> Outcome | None:
    """A RST harms nothing once both sides have sent all: it answers what comes after the socket was closed."""
    if unproven(facts):
        return None
    if facts.reset_by:
        return _O.OK if sent_all(facts) else _O.RESET
    return _O.OK if all(facts.ends) else None


def _is_whole(facts: Facts) -> bool:
    return facts.from_start and not facts.left_out and not any(facts.lost)


def _illegal(state: str) -> str:
    return f"a message that TLS does not allow here: {state.removeprefix('illegal: ')}"


def _alerted(facts: Facts, alert: Alert) -> str:
    return f"sent the alert {alert.name}" if alert.name else f"sent {encrypted_alert(facts)}"


def _seconds(ms: float) -> str:
    return f"{ms / 1000:.1f} s"


_RULES = (
    _not_connected,
    _silent,
    _plaintext,
    _undelivered,
    _timeout,
    _alert,
    _incomplete,
    _renegotiation,
    hidden,
    _state,
    _chains,
    _rest,
)
