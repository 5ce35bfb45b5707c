"""From a line of text to a typed message, or to the error reply that says what is wrong with it and where. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from meshtls.errors import RequestError
from meshtls.node.json_line import read_json
from meshtls.node.lines import MAX_LINE, Oversized
from meshtls.node.messages import (
    ErrorCode,
    Handshake,
    IssueCertificate,
    Message,
    Policy,
    Reply,
    Rotate,
    VerifyIdentity,
    error_reply,
)
from meshtls.scalars import shown

__all__ = ["Request", "decode"]


class _Envelope(msgspec.Struct, frozen=True):
    body: dict[str, Any]
    src: str | None = None
    dest: str | None = None


_KINDS: dict[str, type[Message]] = {
    "handshake": Handshake,
    "issue_certificate": IssueCertificate,
    "verify_identity": VerifyIdentity,
    "rotate": Rotate,
    "policy": Policy,
}


@dataclass(frozen=True, slots=True)
class Request:
    """One line: its message, or the error reply to it; ``src`` and ``dest`` of its envelope if it had one.

    ``unknown`` are the fields, as ``handshake.colour``, that were ignored because no message of this type has them.
    """

    content: Message | Reply
    enveloped: bool = False
    src: str | None = None
    dest: str | None = None
    unknown: tuple[str, ...] = ()

    def wrap(self, reply: Reply) -> Reply:
        """The reply in an envelope on the way back; bare where the request was bare."""
        return {"src": self.dest, "dest": self.src, "body": reply} if self.enveloped else reply


def decode(line: bytes | Oversized) -> Request:
    """Read one line, bare or in a ``{src, dest, body}`` envelope. Unknown fields are ignored, and named."""
    if isinstance(line, Oversized):
        return Request(_malformed(None, f"line: wanted at most {MAX_LINE} bytes, got more; it was skipped"))
    try:
        top, twice = read_json(line)
    except RequestError as error:
        return Request(_malformed(None, f"line: {error}"))
    if not isinstance(top, dict):
        return Request(_malformed(None, f"line: wanted a JSON object, got {_kind(top)}"))
    if "type" not in top and any(name in top for name in _Envelope.__struct_fields__):
        return _enveloped(top, twice)
    return Request(_malformed(top, f"line: {twice}") if twice else _content(top, "$"), unknown=_unknown(top))


def _enveloped(top: dict[str, Any], twice: str | None) -> Request:
    # Whom to answer is known even where the envelope will not do.
    src, dest = (one if isinstance(one, str) else None for one in (top.get("src"), top.get("dest")))
    beside = tuple(f"envelope.{name}" for name in top if name not in _Envelope.__struct_fields__)
    return Request(_inside(top, twice), True, src, dest, beside + _unknown(top.get("body")))


def _inside(top: dict[str, Any], twice: str | None) -> Message | Reply:
    body = top.get("body")
    if twice:
        return _malformed(body, f"line: {twice}")
    try:
        envelope = msgspec.convert(top, _Envelope)
    except msgspec.ValidationError as error:
        return _malformed(body, f"envelope: {_place(str(error), '$')}")
    return _content(envelope.body, "$.body")


def _content(body: dict[str, Any], path: str) -> Message | Reply:
    name = body.get("type")
    if not isinstance(name, str):
        found = _kind(name) if "type" in body else "none"
        return _malformed(body, f"message: wanted a string in `type`, got {found} - at `{path}`")
    kind = _KINDS.get(name)
    if kind is None:
        text = f"message: wanted a type of {', '.join(_KINDS)}, got {shown(name)} - at `{path}.type`"
        return error_reply(_msg_id(body), ErrorCode.UNSUPPORTED, text)
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        return _malformed(body, f"{name}: {_place(str(error), path)}")


def _unknown(body: object) -> tuple[str, ...]:
    name = body.get("type") if isinstance(body, dict) else None
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(body, dict):
        return ()
    return tuple(f"{name}.{field}" for field in body if field != "type" and field not in kind.__struct_fields__)


def _malformed(body: object, text: str) -> Reply:
    return error_reply(_msg_id(body), ErrorCode.MALFORMED, text)


def _msg_id(body: object) -> int | None:
    found = body.get("msg_id") if isinstance(body, dict) else None
    return found if type(found) is int else None


def _place(text: str, path: str) -> str:
    # msgspec names a place within what it was given, and none for the whole of it.
    what, at, place = text.rpartition(" - at `$")
    return f"{what}{at.removesuffix('$')}{path}{place}" if at else f"{text} - at `{path}`"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
