"""The keys of a configuration file, declared once: on the fields of the struct that the file is read into.

A field says all that there is to a key::

    class Limits(msgspec.Struct, frozen=True, kw_only=True):
        connections: Annotated[int, Key("Connections at once, over all listeners.", COUNT)] = 1024

From that come the reading (``reading``), its messages, ``meshtls config schema`` and docs/reference (``schema``). A
field of a struct type is a section, of a tuple of structs a list of them, of a tuple with a ``value`` a list of single
values. What keys have to do with each other is a rule: a function in the struct's ``RULES`` (see ``reading``). Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from meshtls.address import Address
from meshtls.errors import RequestError
from meshtls.scalars import (
    LEVELS,
    duration,
    log_level,
    log_level_notice,
    port,
    shown,
    size,
    size_text,
    whole_number,
    word,
    workload_id,
)
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = [
    "ADDRESS",
    "COUNT",
    "DURATION",
    "FLAG",
    "LISTENING_PORT",
    "LOG_LEVEL",
    "PATH",
    "PORT",
    "SECONDS",
    "TEXT",
    "TRUST_DOMAIN",
    "WORKLOAD_ID",
    "Key",
    "KeyField",
    "Shape",
    "Value",
    "choice",
    "duration_text",
    "keys_of",
    "number",
    "rate",
    "size_between",
]

T = TypeVar("T")
E = TypeVar("E", bound=Enum)
#: The most connections, streams and the like that a limit takes.
MOST = 10_000_000


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """A kind of single value. ``parse`` takes the text as written, or raises RequestError that says what was wanted;
    ``show`` is its inverse; ``json`` is its JSON Schema; ``notice`` is what the operator is told of a text, if
    anything.
    """

    name: str
    parse: Callable[[str], T]
    json: Mapping[str, object]
    show: Callable[[T], str] = str
    notice: Callable[[str], str] = lambda text: ""


@dataclass(frozen=True, slots=True)
class Key:
    """What a key means, and what kind of value it takes: none for a section or a list of sections.

    ``name`` is the key in the file where it is not the field's, ``old`` what it was called before. ``default`` says in
    words a default that is worked out, ``required`` when a key that has a default must be there. ``live``: a reload
    puts a new value to work; without it, a changed value needs a restart.
    """

    meaning: str
    value: Value[Any] | None = None
    name: str = ""
    old: tuple[str, ...] = ()
    default: str = ""
    required: str = ""
    live: bool = False


class Shape(Enum):
    """What stands under a key."""

    VALUE = "value"
    VALUES = "list of values"
    SECTION = "section"
    SECTIONS = "list of sections"


@dataclass(frozen=True, slots=True)
class KeyField:
    """A key as its struct declares it. ``section`` is the struct of a section, or of each in a list of them."""

    field: str
    key: Key
    shape: Shape
    section: type[Any] | None
    required: bool
    make_default: Callable[[], Any]

    @property
    def name(self) -> str:
        return self.key.name or self.field

    def default(self, base: object | None) -> Any:
        """What holds where the key is missing: as in ``base``, the default of its section, if that has one."""
        return self.make_default() if base is None else getattr(base, self.field)

    def default_section(self, base: object | None) -> object | None:
        """The default of a section under this key; None where a section without keys would not be the same as none."""
        return None if self.required or self.shape is not Shape.SECTION else self.default(base)


_KNOWN: dict[type[Any], tuple[KeyField, ...]] = {}


def keys_of(kind: type[Any]) -> tuple[KeyField, ...]:
    """The keys of a section, in the order of the fields of its struct, or dataclass. A field that is not annotated with
    a Key is none.
    """
    if kind not in _KNOWN:
        hints = get_type_hints(kind, include_extras=True)
        _KNOWN[kind] = tuple(
            _key_field(name, required, make_default, *get_args(hints[name])[:2])
            for name, required, make_default in _fields(kind)
            if get_origin(hints[name]) is Annotated
        )
    return _KNOWN[kind]


def _key_field(name: str, required: bool, make_default: Callable[[], Any], hint: Any, key: Key) -> KeyField:
    if get_origin(hint) in (Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not NoneType)
    listed = get_origin(hint) is tuple
    section = None if key.value else get_args(hint)[0] if listed else hint
    shape = (Shape.VALUES if listed else Shape.VALUE) if key.value else (Shape.SECTIONS if listed else Shape.SECTION)
    return KeyField(name, key, shape, section, required, make_default)


def _fields(kind: type[Any]) -> Iterator[tuple[str, bool, Callable[[], Any]]]:
    """The name of each field, whether it has no default, and what makes its default."""
    fields: Iterable[Any] = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else msgspec.structs.fields(kind)
    for one in fields:
        given = one.default not in (msgspec.NODEFAULT, dataclasses.MISSING)
        made = one.default_factory not in (msgspec.NODEFAULT, dataclasses.MISSING)
        yield one.name, not given and not made, one.default_factory if made else _constant(one.default)


def _constant(value: T) -> Callable[[], T]:
    return lambda: value


def number(lowest: int, highest: int) -> Value[int]:
    """Whole numbers from one to the other, both included."""
    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Value(f"number, {lowest} to {highest}", whole_number(lowest, highest), schema)


def rate(highest: int) -> Value[float]:
    """Whole numbers a second."""
    schema = {"type": "integer", "minimum": 1, "maximum": highest}
    parse = whole_number(1, highest)
    return Value(f"number a second, 1 to {highest}", lambda text: float(parse(text)), schema, lambda one: f"{one:g}")


def size_between(lowest: int, highest: int) -> Value[int]:
    """Bytes, such as ``256KiB``, from one to the other, both included."""
    schema = {"type": ["integer", "string"], "minimum": lowest, "maximum": highest, "pattern": "^[0-9]+(KiB|MiB|GiB)?$"}
    return Value(f"size, {size_text(lowest)} to {size_text(highest)}", size(lowest, highest), schema, size_text)


def choice(kind: type[E]) -> Value[E]:
    """The values of this enum, which are texts."""
    words = [str(member.value) for member in kind]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}"

    def parse(text: str) -> E:
        if text not in words:
            raise RequestError(f"wanted {wanted}, got {shown(text)}")
        return kind(text)

    # What looks like a number is one to a YAML reader that gives values.
    numbers = [float(one) for one in words if one.replace(".", "", 1).isdecimal()]
    return Value(wanted, parse, {"enum": [*words, *numbers]}, lambda member: str(member.value))


def duration_text(time: timedelta) -> str:
    """The shortest way to write it: ``1h30m``, ``5s``, ``100ms``."""
    left, text = time // timedelta(milliseconds=1), ""
    for unit, milliseconds in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, milliseconds)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise RequestError(f"wanted true or false, got {shown(text)}")
    return text == "true"


def _listening_port(text: str) -> int:
    listening = port(text)
    if not listening:
        raise RequestError("wanted a port, 1 to 65535, got '0'")
    return listening


_DURATION_JSON = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"}

ADDRESS: Value[Address] = Value("host:port", Address.parse, {"type": "string", "pattern": "^.+:[0-9]{1,5}$"})
TEXT: Value[str] = Value("text", word, {"type": "string", "minLength": 1})
PATH: Value[Path] = Value("path", lambda text: Path(word(text)), {"type": "string", "minLength": 1})
#: A port to bind, where 0 takes a free one.
PORT: Value[int] = Value("port, 0 to 65535", port, {"type": "integer", "minimum": 0, "maximum": 65535})
#: A port that somebody listens on.
LISTENING_PORT: Value[int] = Value(
    "port, 1 to 65535", _listening_port, {"type": "integer", "minimum": 1, "maximum": 65535}
)
COUNT = number(1, MOST)
FLAG: Value[bool] = Value("true or false", _flag, {"type": "boolean"}, lambda value: "true" if value else "false")
#: A time of at most ``LONGEST``, as a timedelta.
DURATION: Value[timedelta] = Value("time such as 1h30m", duration, _DURATION_JSON, duration_text)
#: The same in seconds.
SECONDS: Value[float] = Value(
    "time such as 1h30m",
    lambda text: duration(text).total_seconds(),
    _DURATION_JSON,
    lambda seconds: duration_text(timedelta(seconds=seconds)),
)
LOG_LEVEL: Value[str] = Value(
    "DEBUG, INFO, WARN or ERROR",
    log_level,
    {"enum": [form(level) for level in LEVELS for form in (str.upper, str.lower, str.title)]},
    notice=log_level_notice,
)
TRUST_DOMAIN: Value[TrustDomain] = Value("trust domain", TrustDomain.parse, {"type": "string", "minLength": 1})
WORKLOAD_ID: Value[SpiffeId] = Value(
    "SPIFFE ID with a path", workload_id, {"type": "string", "pattern": "^spiffe://[^/]+/."}
)
