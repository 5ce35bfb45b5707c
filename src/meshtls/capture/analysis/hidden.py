"""What can be told of how a connection ended whose alerts are encrypted. Pure.

A record of TLS 1.3 with the length of an alert may be a refusal, close_notify, or two bytes of data; in TLS 1.2 its
type says that it is an alert, but not which. So nothing is concluded from one: how likely it is a refusal is told in
words. What the server sent of application data shows that it accepted the client.
"""

from __future__ import annotations

from meshtls.capture.analysis.connection import Alert
from meshtls.capture.analysis.facts import Facts, Judgement

__all__ = ["KEYS", "encrypted_alert", "hidden"]

#: What would show more.
KEYS = "the keys (--keylog FILE) show it"
_ADVICE = (
    "give the keys (--keylog FILE); `meshtls explain connection {connection} --sidecar FILE` has a sidecar's own words"
)
#: A side that refuses the other does it at once, within this time.
_AT_ONCE_MS = 1000.0


def encrypted_alert(facts: Facts) -> str:
    """In words, a record that may be an alert."""
    version = facts.handshake.version if facts.handshake is not None else ""
    return "an encrypted record of the length of an alert" if version == "TLS 1.3" else "an encrypted alert"


def hidden(facts: Facts) -> Judgement | None:
    """Part of the rules: the handshake was complete, and the server sent no application data that can be told from
    session tickets.
    """
    if not facts.hidden or not facts.from_start or facts.useful[1]:
        return None
    alerts = [one for one in facts.alerts if not one.name]
    first = alerts[0] if alerts else None
    by_server = any(one.side == "server" for one in alerts)
    if first is not None and first.side == "server" and not _client_had_ended(facts, first):
        return _server_first(facts, first, answered=any(one.side == "client" for one in alerts))
    if not all(facts.ends):
        return None
    if first is not None and not facts.useful[0]:
        return _client_first(facts, first)
    if not by_server and facts.first_ended == "client":
        return None  # a server that refuses the client sends an alert, or closes
    words = f"{facts.who('server')} sent no application data that can be told from session tickets"
    if by_server:
        return Judgement(None, unknown_because=f"{words}, and {encrypted_alert(facts)}: {KEYS}")
    return Judgement(None, unknown_because=f"{words}, and closed the connection: {KEYS}")


def _server_first(facts: Facts, alert: Alert, *, answered: bool) -> Judgement:
    """``answered``: by a record of the client like it. close_notify is answered, a refusal is not."""
    after = _after(facts, alert)
    words = (
        f"{facts.who('server')} sent {encrypted_alert(facts)} {after:.1f} ms after the client's Finished, and no"
        " application data that can be told from session tickets"
    )
    if after < _AT_ONCE_MS and not answered:
        shown = facts.handshake.mutual_likely if facts.handshake is not None else ""
        what = ", which likely presented no certificate" if shown == "no" else "'s certificate or identity"
        return Judgement(None, f"{words}: likely it refused the client{what}; {KEYS}", _ADVICE)
    return Judgement(None, unknown_because=f"{words}: likely it closed an idle connection; {KEYS}")


def _client_first(facts: Facts, alert: Alert) -> Judgement:
    words = f"{facts.who('client')} sent {encrypted_alert(facts)} {_after(facts, alert):.1f} ms after its Finished"
    likely = "likely it only probed the server, or refused its identity"
    return Judgement(None, unknown_because=f"{words}, and neither side sent application data: {likely}; {KEYS}")


def _client_had_ended(facts: Facts, alert: Alert) -> bool:
    ended_ms = facts.ended_ms if facts.first_ended == "client" else None
    return ended_ms is not None and alert.ms is not None and ended_ms <= alert.ms


def _after(facts: Facts, alert: Alert) -> float:
    return max(0.0, (alert.ms or 0.0) - (facts.done_ms or 0.0))
