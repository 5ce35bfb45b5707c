"""What is in a handshake message of TLS 1.3, in words: the fields that matter to a reader of the handshake. Pure.

The bytes may be anybody's, and cut off. ``tls/messages.py`` decodes them; here is chosen what a page shows.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.wire.tls import TLS_1_3
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message, message_name

__all__ = ["fields_of", "message_name"]

#: Fields that say the same in every message of TLS 1.3, or only how long something is.
_LEFT_OUT = frozenset(
    (
        "type",
        "length",
        "legacy_version",
        "legacy_session_id_echo",
        "legacy_compression_method",
        "legacy_compression_methods",
        "certificate_request_context",
    )
)
_MOST_BYTES = 16


def fields_of(kind: int, message: bytes) -> list[tuple[str, str]]:
    """Names and values; ``message`` begins with its header."""
    tree = decode_message(kind, message, TLS_1_3)
    return [pair for field in tree.children if field.name not in _LEFT_OUT for pair in _shown(field)]


def _shown(field: Field) -> Iterator[tuple[str, str]]:
    match field.name:
        case "undecoded":
            yield "the rest", "cut off, or malformed"
        case "random":
            yield field.name, _hex(field, len(field.value) if isinstance(field.value, bytes) else 0)
        case "legacy_session_id":
            yield field.name, f"{field.length - 1} bytes"
        case "certificate_list":
            certificates = [one.child("cert_data") for one in field.children]
            yield "certificates", ", ".join(f"{one.length - 3} bytes" for one in certificates if one) or "none"
        case "extensions":
            for extension in field.children:
                if extension.text:
                    yield extension.name, extension.text
            yield field.name, field.text or "none"
        case _:
            yield field.name, field.text or _hex(field, _MOST_BYTES)
    if field.name != "undecoded" and any(field.errors()):
        yield "the rest", "cut off, or malformed"


def _hex(field: Field, most: int) -> str:
    if not isinstance(field.value, bytes):
        return str(field.value)
    size = len(field.value)
    return field.value[:most].hex() + (f"... ({size} bytes)" if size > most else "")
