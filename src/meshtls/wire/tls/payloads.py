"""What is in records that carry no handshake message: alerts, ChangeCipherSpec, heartbeats, SSL 2.0's hello. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.wire.tls import names
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.names import ContentType, alert_name, name_of
from meshtls.wire.tls.reading import Decode, Reader
from meshtls.wire.tls.records import SSL_2_0_HELLO
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = ["decode_payload"]

_ALERT_NAMES: Mapping[int, str] = {int(one): alert_name(one) for one in names.Alert}
_ALERT_SIZE = 2


def decode_payload(content_type: int, payload: bytes) -> Field:
    """The fields of a record's payload, which is not encrypted. Offsets count from its first byte. Never raises.

    Of handshake records, ``decode_message`` reads the messages that are put together from them.
    """
    name, decode = _DECODERS.get(content_type, (f"type {content_type}", _data))
    return Reader(payload).whole(name, decode)


def _data(reader: Reader) -> None:
    reader.rest("data")


def _alert(reader: Reader) -> str:
    """RFC 8446, section 6. Longer ones are encrypted: in TLS 1.2 their record says no more than this."""
    if len(reader.data) > _ALERT_SIZE:
        reader.rest("data", "encrypted, or malformed")
        return ""
    level = reader.number("level", 1, names.ALERT_LEVELS)
    description = reader.number("description", 1, _ALERT_NAMES)
    return f"{name_of(names.ALERT_LEVELS, level, 2)} {alert_name(description)}"


def _change_cipher_spec(reader: Reader) -> None:
    """RFC 5246, section 7.1; RFC 8446, appendix D.4."""
    if reader.number("type", 1) != 1:
        reader.fail("wanted a ChangeCipherSpec with the type 1")


def _heartbeat(reader: Reader) -> str:
    """RFC 6520, section 4."""
    kind = reader.number("type", 1, names.HEARTBEAT_TYPES)
    reader.vector("payload", 2)
    reader.rest("padding")
    return name_of(names.HEARTBEAT_TYPES, kind, 2)


def _ssl_2_0_hello(reader: Reader) -> str:
    """RFC 5246, appendix E.2."""
    reader.number("msg_type", 1)
    version = reader.number("version", 2, names.VERSIONS)
    suites, session, challenge = (
        reader.number(f"{name}_length", 2) for name in ("cipher_spec", "session_id", "challenge")
    )
    if suites % 3:
        reader.fail("wanted cipher specs of 3 bytes each")
    reader.structure("cipher_specs", lambda one: one.all_numbers(3, "cipher_spec", CIPHER_SUITES), size=suites)
    reader.opaque("session_id", session)
    reader.opaque("challenge", challenge)
    return name_of(names.VERSIONS, version)


_DECODERS: Mapping[int, tuple[str, Decode]] = {
    ContentType.CHANGE_CIPHER_SPEC: ("ChangeCipherSpec", _change_cipher_spec),
    ContentType.ALERT: ("Alert", _alert),
    ContentType.HANDSHAKE: ("Handshake", _data),
    ContentType.APPLICATION_DATA: ("ApplicationData", _data),
    ContentType.HEARTBEAT: ("Heartbeat", _heartbeat),
    SSL_2_0_HELLO: ("ClientHello of SSL 2.0", _ssl_2_0_hello),
}
