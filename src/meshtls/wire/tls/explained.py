"""The bytes that one side sent, as one tree of fields: its records, and the messages in them. Pure.

Made for a person with a hex dump: of a handshake message that goes on in the next record only the records are shown.
The text of an error counts bytes from the message, or the payload, that has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.wire.side import Side
from meshtls.wire.tls import names
from meshtls.wire.tls.assembling import MESSAGE_HEADER
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import TLS_1_2, ContentType, name_of
from meshtls.wire.tls.payloads import decode_payload
from meshtls.wire.tls.records import RECORD_HEADER, SSL_2_0_HELLO, Record, RecordReader

__all__ = ["begins_like_tls", "tls_fields"]

_CONTENT_TYPES = frozenset(names.CONTENT_TYPES)


def begins_like_tls(data: bytes) -> bool:
    """Whether the first bytes can be those of a record (RFC 8446, section 5.1): a content type, a version 3.x."""
    return len(data) > 1 and data[0] in _CONTENT_TYPES and data[1] == names.TLS_1_2 >> 8


def tls_fields(data: bytes) -> Field:
    """The records of ``data``, with the messages that are not encrypted. Never raises: see the fields' ``error``.

    After a ChangeCipherSpec handshake records and alerts are encrypted, and left as they are. In TLS 1.3 it means
    nothing, but what follows it is in records of application data.
    """
    reader = RecordReader(Side.CLIENT)
    fields: list[Field] = []
    changed, at = False, 0
    for record in reader.feed(data):
        field = _record(record, encrypted=changed)
        fields.append(field)
        at = field.end
        changed = changed or record.content_type == ContentType.CHANGE_CIPHER_SPEC
    if at < len(data):
        error = reader.error.text if reader.error is not None else "the record is not whole"
        fields.append(Field("undecoded", at, len(data) - at, data[at:], error=error))
    return Field("TLS", 0, len(data), children=tuple(fields))


def _record(record: Record, *, encrypted: bool) -> Field:
    if record.content_type == SSL_2_0_HELLO:
        return _moved(decode_payload(record.content_type, record.payload), record.offset)
    kind = name_of(names.CONTENT_TYPES, record.content_type, 2)
    start = record.offset
    header = (
        Field("content type", start, 1, record.content_type, kind),
        Field("version", start + 1, 2, record.version, name_of(names.VERSIONS, record.version)),
        Field("length", start + 3, 2, record.length),
    )
    at = start + RECORD_HEADER
    inside = tuple(_inside(record.content_type, record.payload, at, encrypted=encrypted))
    return Field("record", start, RECORD_HEADER + record.length, text=kind, children=header + inside)


def _inside(kind: int, payload: bytes, at: int, *, encrypted: bool) -> Iterator[Field]:
    if not payload:
        return
    if encrypted and kind != ContentType.APPLICATION_DATA:
        yield Field("payload", at, len(payload), payload, "encrypted")
    elif kind == ContentType.HANDSHAKE:
        yield from _messages(payload, at)
    else:
        yield _moved(decode_payload(kind, payload), at)


def _messages(payload: bytes, at: int) -> Iterator[Field]:
    here = 0
    while len(payload) - here >= MESSAGE_HEADER:
        end = here + MESSAGE_HEADER + int.from_bytes(payload[here + 1 : here + MESSAGE_HEADER], "big")
        if end > len(payload):
            break
        # Messages whose structure depends on the version are encrypted in TLS 1.3.
        yield _moved(decode_message(payload[here], payload[here:end], TLS_1_2), at + here)
        here = end
    if here < len(payload):
        rest = payload[here:]
        yield Field("fragment", at + here, len(rest), rest, "of a message that is not whole in this record")


def _moved(field: Field, by: int) -> Field:
    children = tuple(_moved(one, by) for one in field.children)
    return field._replace(offset=field.offset + by, children=children)
