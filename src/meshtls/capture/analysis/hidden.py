"""What can be told of how a connection ended whose alerts are encrypted. Pure.

A record of TLS 1.3 with the length of an alert may be a refusal, close_notify, or two bytes of data; in TLS 1.2 its
type says that it is an alert, but not which. So nothing is concluded from one: how likely it is a refusal is told in
words. What the server sent of application data shows that it accepted the client.

Of a connection that was captured from its middle, it is not known what was said before, nor, if it is TLS, whether
close_notify ended it.
"""

from __future__ import annotations

from meshtls.capture.analysis.connection import Alert
from meshtls.capture.analysis.facts import Facts, Judgement
from meshtls.capture.analysis.server_data import ServerData

__all__ = ["NO_SECRETS", "begun_before", "encrypted_alert", "hidden", "keys_show", "sent_all", "unproven"]

_KEYS = "the keys (--keylog FILE) show it"
#: Of a key log that was given.
NO_SECRETS = "the key log has no secrets of this connection"
_ASK = "`meshtls explain connection {connection} --sidecar FILE` has a sidecar's own words"
_ADVICE = f"give the keys (--keylog FILE); {_ASK}"
_OTHER_KEYS = f"give the keys of this run (--keylog FILE): each connection has its own; {_ASK}"
_MIDWAY = "it can't be known whether the server accepted the client"
#: A side that refuses the other does it at once, within this time.
_AT_ONCE_MS = 1000.0


def keys_show(facts: Facts) -> str:
    """In words, what would show more."""
    return f"{NO_SECRETS}, which would show it" if facts.without_secrets else _KEYS


def encrypted_alert(facts: Facts) -> str:
    """In words, a record that may be an alert."""
    version = facts.handshake.version if facts.handshake is not None else ""
    return "an encrypted record of the length of an alert" if version == "TLS 1.3" else "an encrypted alert"


def hidden(facts: Facts) -> Judgement | None:
    """Part of the rules: the handshake was complete, and the server sent no application data that can be told from
    session tickets.
    """
    if not facts.hidden or not facts.from_start or facts.server_data is ServerData.SHOWN:
        return None
    if facts.server_data is ServerData.PADDED:
        return _padded(facts)
    alerts = [one for one in facts.alerts if not one.name]
    first = alerts[0] if alerts else None
    if facts.server_data is ServerData.THEN_ALERT:
        return _alert_last(facts, alerts)
    by_server = any(one.side == "server" for one in alerts)
    if first is not None and first.side == "server" and not _client_had_ended(facts, first):
        return _server_first(facts, first, answered=any(one.side == "client" for one in alerts))
    over = all(facts.ends) or (facts.reset_by and sent_all(facts))
    if not over or (facts.handshake is not None and facts.handshake.version != "TLS 1.3"):
        return None  # before TLS 1.3 the server's Finished shows that it accepted the client
    if first is not None and not facts.useful[0]:
        return _client_first(facts, first)
    if not by_server and facts.first_ended == "client":
        return None  # a server that refuses the client sends an alert, or closes
    words = f"{facts.who('server')} sent no application data that can be told from session tickets"
    if by_server:
        return Judgement(None, unknown_because=f"{words}, and {encrypted_alert(facts)}: {keys_show(facts)}")
    return Judgement(None, unknown_because=f"{words}, and closed the connection: {keys_show(facts)}")


def sent_all(facts: Facts) -> bool:
    """Whether both sides have closed, or seem to have sent close_notify."""
    return all(end == "closed" or notified for end, notified in zip(facts.ends, facts.notified, strict=True))


def unproven(facts: Facts) -> str:
    """Why the end of a connection whose sides have sent all, or one of which reset it, proves no outcome; or ""."""
    if not (all(facts.ends) or facts.reset_by):
        return ""
    reset = f"{facts.who(facts.reset_by)} reset the connection" if facts.reset_by else ""
    if begun_before(facts):
        what = _MIDWAY if facts.protocol == "TLS" else "it can't be known whether this is TLS"
        what = f"{what}; {facts.midway}" if facts.midway else what
        end = f"; {reset}, and it can't be known whether both sides had sent close_notify" if reset else ""
        return f"the connection was captured from its middle: {what}{end}"
    if reset and sent_all(facts) and not _ended_as_closed(facts):
        words = f"{reset}; before that came {encrypted_alert(facts)}, which may be close_notify or not"
        return f"{words}: {keys_show(facts)}"
    return ""


def begun_before(facts: Facts) -> bool:
    """Whether it is TLS or may be, and was captured from its middle, so that nothing is known of its handshake."""
    if facts.from_start or facts.protocol not in ("TLS", "other", "nothing"):
        return False
    return facts.handshake is None or (facts.hidden and facts.server_data is not ServerData.SHOWN)


def _ended_as_closed(facts: Facts) -> bool:
    """Whether the encrypted alerts in place of FINs are close_notify. In TLS 1.3 a record of that length is taken for
    it where it is the only one of its side, and the RST is of a side that had closed: its FIN came after such a record.
    Other records of two bytes are data, such as MQTT's pings, and a client answers an end without close_notify with an
    alert that refuses it. So two such records and a RST alone, as Go's close() sends it, prove nothing.
    """
    if facts.handshake is None or facts.handshake.version != "TLS 1.3":
        return True
    sides = list(zip(("client", "server"), facts.ends, facts.notified, strict=True))
    encrypted = [one.side for one in facts.alerts if not one.name]
    if not any(side in encrypted and end != "closed" for side, end, _ in sides):
        return True
    if any(encrypted.count(side) > 1 for side, _, _ in sides):
        return False
    closed = {side: notified for side, end, notified in sides if end == "closed"}
    return facts.reset_by in closed and all(closed.values())


def _alert_last(facts: Facts, alerts: list[Alert]) -> Judgement | None:
    last = next((one for one in reversed(alerts) if one.side == "server"), None)
    if last is None or _client_had_ended(facts, last):
        return None
    words = (
        f"{facts.who('server')} answered the client's last record with {encrypted_alert(facts)}, and the client did not"
        " answer that: it may have refused what the client sent, such as a certificate that it asked for after the"
        " handshake, or have closed the connection"
    )
    return Judgement(None, unknown_because=f"{words}; {keys_show(facts)}")


def _padded(facts: Facts) -> Judgement | None:
    if not all(facts.ends):
        return None
    words = (
        f"no record of {facts.who('server')} has the length of a short message of TLS, as where records are padded: its"
        " application data can't be told from session tickets and alerts"
    )
    return Judgement(None, unknown_because=f"{words}; {keys_show(facts)}")


def _server_first(facts: Facts, alert: Alert, *, answered: bool) -> Judgement:
    """``answered``: by a record of the client like it. close_notify is answered. A refusal is by some clients, too, as
    by Go's, which send close_notify whenever they close. A server that sent session tickets has accepted the client,
    though it may refuse it afterwards.
    """
    after = _after(facts, alert)
    words = (
        f"{facts.who('server')} sent {encrypted_alert(facts)} {after:.1f} ms after the client's Finished, and no"
        " application data that can be told from session tickets"
    )
    refused = not answered or facts.server_data is ServerData.NONE
    if after < _AT_ONCE_MS and refused:
        shown = facts.handshake.mutual_likely if facts.handshake is not None else ""
        what = ", which likely presented no certificate" if shown == "no" else "'s certificate or identity"
        advice = _OTHER_KEYS if facts.without_secrets else _ADVICE
        return Judgement(None, f"{words}: likely it refused the client{what}; {keys_show(facts)}", advice)
    return Judgement(None, unknown_because=f"{words}: likely it closed an idle connection; {keys_show(facts)}")


def _client_first(facts: Facts, alert: Alert) -> Judgement:
    words = f"{facts.who('client')} sent {encrypted_alert(facts)} {_after(facts, alert):.1f} ms after its Finished"
    likely = "likely it only probed the server, or refused its identity"
    return Judgement(
        None, unknown_because=f"{words}, and neither side sent application data: {likely}; {keys_show(facts)}"
    )


def _client_had_ended(facts: Facts, alert: Alert) -> bool:
    ended_ms = facts.ended_ms if facts.first_ended == "client" else None
    return ended_ms is not None and alert.ms is not None and ended_ms <= alert.ms


def _after(facts: Facts, alert: Alert) -> float:
    return max(0.0, (alert.ms or 0.0) - (facts.done_ms or 0.0))
