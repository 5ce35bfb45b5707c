"""Decodes standard input: bytes into lines, a line into JSON, JSON into a typed message or an error reply. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn

import msgspec

from meshtls.errors import RequestError
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

__all__ = ["MAX_LINE", "LineCutter", "Oversized", "Request", "decode", "read_json"]

MAX_LINE = 1 << 20
#: An integer with more digits is out of the range of a double.
_MOST_DIGITS = 308
_KINDS: dict[str, type[Message]] = {
    "handshake": Handshake,
    "issue_certificate": IssueCertificate,
    "verify_identity": VerifyIdentity,
    "rotate": Rotate,
    "policy": Policy,
}
#: Fields of Istio's documents, which in the message itself would have no effect.
_OF_DOCUMENTS = ("action", "metadata", "mode", "mtls", "portLevelMtls", "rules", "selector", "spec")


class Oversized(Enum):
    """Stands for a line that was dropped."""

    LINE = "a line over the limit"


class LineCutter:
    """Cuts a byte stream into lines. ``feed`` yields each complete line without its line feed.

    Nothing is kept of a line of more than ``limit`` bytes: ``Oversized.LINE`` is yielded once, when the limit is
    exceeded, and the rest of the line is skipped. ``finish`` yields a last line that has no line feed.
    """

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        *complete, rest = data.split(b"\n")
        for piece in complete:
            yield from self._take(piece)
            if not self._skipping:
                yield bytes(self._rest)
            self._rest.clear()
            self._skipping = False
        yield from self._take(rest)

    def finish(self) -> Iterator[bytes | Oversized]:
        if self._rest:
            yield bytes(self._rest)
        self._rest.clear()

    def _take(self, piece: bytes) -> Iterator[Oversized]:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > self._limit:
            self._rest.clear()
            self._skipping = True
            yield Oversized.LINE
        else:
            self._rest += piece


class _Envelope(msgspec.Struct, frozen=True):
    body: dict[str, Any]
    src: str | None = None
    dest: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One line: its message, or the error reply to it; ``src`` and ``dest`` are those of its envelope, if it had one.

    ``unknown`` lists the fields, such as ``handshake.colour``, that were ignored because the message type lacks them.
    """

    content: Message | Reply
    enveloped: bool = False
    src: str | None = None
    dest: str | None = None
    unknown: tuple[str, ...] = ()

    def wrap(self, reply: Reply) -> Reply:
        """The reply in an envelope with ``src`` and ``dest`` swapped, or bare if the request was bare."""
        return {"src": self.dest, "dest": self.src, "body": reply} if self.enveloped else reply


def decode(line: bytes | Oversized) -> Request:
    """Read one line, bare or in a ``{src, dest, body}`` envelope. Unknown fields are ignored and listed.

    Only with Istio's documents, and in place of them, an unknown field is an error.
    """
    if isinstance(line, Oversized):
        return Request(_malformed(None, f"line: wanted at most {MAX_LINE} bytes, got more; it was skipped"))
    try:
        top, twice = read_json(line)
    except RequestError as error:
        return Request(_malformed(None, f"line: {error}"))
    if not isinstance(top, dict):
        return Request(_malformed(None, f"line: wanted a JSON object, got {_kind(top)}"))
    if "type" in top or not any(name in top for name in _Envelope.__struct_fields__):
        return Request(_malformed(top, f"line: {twice}") if twice else _content(top, "$"), unknown=_unknown(top))
    body = top.get("body")
    # An invalid envelope may still say whom to answer.
    src, dest = (one if isinstance(one, str) else None for one in (top.get("src"), top.get("dest")))
    beside = tuple(f"envelope.{name}" for name in top if name not in _Envelope.__struct_fields__)
    content: Message | Reply
    if twice:
        content = _malformed(body, f"line: {twice}")
    else:
        try:
            content = _content(msgspec.convert(top, _Envelope).body, "$.body")
        except msgspec.ValidationError as error:
            content = _malformed(body, f"envelope: {_place(str(error), '$')}")
    return Request(content, True, src, dest, beside + _unknown(body))


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
        message = msgspec.convert(body, kind)
    except msgspec.ValidationError as error:
        return _malformed(body, f"{name}: {_place(str(error), path)}")
    if isinstance(message, Policy):
        for field in (one.partition(".")[2] for one in _unknown(body)):
            # Ignored, it would leave open what it was to close.
            if message.documents is not msgspec.UNSET or field in _OF_DOCUMENTS:
                return _malformed(
                    body,
                    f"{name}: unknown field {shown(field)}; what a policy says stands in `documents` - at `{path}`",
                )
    return message


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
    # msgspec gives a path relative to the object that it converts, and none for the object itself.
    what, at, place = text.rpartition(" - at `$")
    return f"{what}{at.removesuffix('$')}{path}{place}" if at else f"{text} - at `{path}`"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def read_json(line: bytes) -> tuple[Any, str | None]:
    """Read one line of JSON (RFC 8259), and reject what two readers could interpret differently.

    Returns the value, and a complaint if an object has a duplicate key. That key is then missing from the object, but
    the message's ID and the envelope's addresses can still be read for the error reply.

    Raises RequestError for invalid UTF-8 or JSON, half of a surrogate pair, and a number out of the range of a double.
    """
    twice: list[str] = []

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            for key, times in Counter(key for key, _ in pairs).items():
                if times > 1:
                    del fields[key]
                    twice.append(key)
        return fields

    def read_float(text: str) -> float:
        number = float(text)
        if math.isinf(number):
            refuse_number(text)
        return number

    def read_int(text: str) -> int:
        if len(text.lstrip("-")) > _MOST_DIGITS:
            refuse_number(text)
        return int(text)

    def refuse_number(text: str) -> NoReturn:
        raise RequestError(f"wanted numbers between -1e308 and 1e308, got {shown(text)}")

    def refuse_constant(name: str) -> NoReturn:
        raise RequestError(f"wanted a JSON object, got invalid JSON: {name} is not a JSON value")

    try:
        value = json.loads(
            line.decode(),
            object_pairs_hook=read_object,
            parse_float=read_float,
            parse_int=read_int,
            parse_constant=refuse_constant,
        )
        if b"\\u" in line:  # UTF-8 itself can't encode half of a pair
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise RequestError("wanted a JSON object, got one that is nested too deeply") from error
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
        raise RequestError(f"wanted a JSON object in UTF-8, got {found}") from error
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise RequestError(
            f"wanted characters in each string, got {half}, which is half of a surrogate pair"
        ) from error
    except json.JSONDecodeError as error:
        what = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
        raise RequestError(f"wanted a JSON object, got invalid JSON: {what}") from error
    return value, f"wanted each key once in an object, got {shown(twice[0])} twice" if twice else None
