"""One connection in full: its figures, and each record, message and alert with its time and fields."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from meshtls.capture.analysis.connection import Connection, as_json
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.certificates import with_certificates
from meshtls.capture.events import AlertSeen, ApplicationBytes, Event, MessageSeen, RecordSeen, Trouble
from meshtls.capture.session import TlsSession
from meshtls.cli.output import tell
from meshtls.cli.wire_dump import print_fields, record_of
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.fields import Field, masked
from meshtls.wire.tls.messages import decode_message, message_name
from meshtls.wire.tls.names import ALERT_LEVELS, CONTENT_TYPES, HandshakeType, alert_name

__all__ = ["detail_lines", "detail_record", "print_detail"]

_MS = 1e6
_SECOND = 10**9
#: How it ended, and why.
_RESULT = ("verdict", "outcome", "outcome_words", "problem", "advice", "unknown_because")
_WIDTH = 24


def detail_lines(connection: Connection) -> Iterator[str]:
    """The record, a field a line: first how the connection ended."""
    record = as_json(connection)
    start = datetime.fromtimestamp(record.pop("start_ns") // _SECOND, UTC)
    for alert in record["alerts"]:
        alert["name"] = alert["name"] or "encrypted, or a record of this length"
    head = {"number": record.pop("number"), "start": start.isoformat()}
    yield from _lines(head | {name: record.pop(name) for name in _RESULT} | record, "")


def _lines(record: dict[str, object], indent: str) -> Iterator[str]:
    for name, value in record.items():
        title = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, dict):
            yield title
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            yield title
            for one in value:
                yield f"{indent}  - " + ", ".join(
                    f"{key} {told}" for key, told in one.items() if told not in ("", None)
                )
        elif value not in ("", None, [], ()):
            words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else _text(value)
            yield f"{title:<{_WIDTH}}{words}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def print_detail(watched: Watched) -> None:
    """Print the events of its TLS session."""
    session = watched.carried.tls
    if session is None:
        return
    for event in session.events:
        kind, words = _words(event)
        ms = _ms(watched, event)
        time = f"{ms:10.3f} ms" if ms is not None else " " * 13
        tell(f"{time}  {event.side.value:<7}{kind}: {words}")
        if isinstance(event, MessageSeen):
            tree = _tree(session, event)
            print_fields(masked(event.data, tree), with_certificates(tree))
            if event.kind == HandshakeType.COMPRESSED_CERTIFICATE:
                held = decompressed_certificate(event.data)
                if isinstance(held, bytes):
                    tell("decompressed:")
                    print_fields(held, _certificate_tree(session, held))
                else:
                    tell(f"can't be decompressed: {held.text}")
            tell("")
    if session.events_dropped:
        tell(f"{session.events_dropped} more events are not kept")


def detail_record(watched: Watched, connection: Connection) -> dict[str, object]:
    """The connection for JSON: the record, and ``events``."""
    session = watched.carried.tls
    events = [_event_record(watched, session, event) for event in session.events] if session is not None else []
    dropped = session.events_dropped if session is not None else 0
    return as_json(connection) | {"events": events, "events_dropped": dropped}


def _tree(session: TlsSession, event: MessageSeen) -> Field:
    return decode_message(event.kind, event.data, session.version, suite=session.suite or None)


def _certificate_tree(session: TlsSession, held: bytes) -> Field:
    return with_certificates(decode_message(HandshakeType.CERTIFICATE, held, session.version))


def _words(event: Event) -> tuple[str, str]:
    """What it is, and more of it."""
    if isinstance(event, RecordSeen):
        kind = CONTENT_TYPES.get(event.content_type, str(event.content_type))
        inner = CONTENT_TYPES.get(event.inner_type, "unknown") if event.decrypted else ""
        inside = f", decrypted: {inner}" if event.decrypted else ""
        return "record", f"{kind}, {event.length} bytes at byte {event.offset}{inside}"
    if isinstance(event, MessageSeen):
        decrypted = ", decrypted" if event.decrypted else ""
        return "message", f"{message_name(event.kind, event.data)}, {len(event.data)} bytes{decrypted}"
    if isinstance(event, AlertSeen):
        if event.description < 0:
            return "alert", "encrypted"
        return "alert", f"{ALERT_LEVELS.get(event.level, str(event.level))} {alert_name(event.description)}"
    if isinstance(event, ApplicationBytes):
        return "early data" if event.early else "application data", f"{event.length} bytes"
    return "trouble", f"at byte {event.offset}: {event.reason}"


def _ms(watched: Watched, event: Event) -> float | None:
    return None if isinstance(event, Trouble) else (event.time_ns - watched.flow.first_ns) / _MS


def _event_record(watched: Watched, session: TlsSession, event: Event) -> dict[str, object]:
    kind, words = _words(event)
    record: dict[str, object] = {"ms": _ms(watched, event), "side": event.side.value, "kind": kind, "text": words}
    if isinstance(event, MessageSeen):
        record["fields"] = record_of(with_certificates(_tree(session, event)))
        if event.kind == HandshakeType.COMPRESSED_CERTIFICATE:
            held = decompressed_certificate(event.data)
            record["decompressed"] = (
                record_of(_certificate_tree(session, held)) if isinstance(held, bytes) else {"error": held.text}
            )
    return record
