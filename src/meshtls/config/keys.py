"""Declares the keys of a configuration file, once: on the fields of the struct that the file is read into.

The annotation of a field describes its key completely::

    class Limits(msgspec.Struct, frozen=True, kw_only=True):
        connections: Annotated[int, Key("Connections at once, over all listeners.", COUNT)] = 1024

The reader and its messages (``reading``), ``meshtls config schema`` and docs/reference (``schema``) derive from it. A
field whose type is a struct is a section; a tuple of structs is a list of sections; a tuple with a ``value`` is a list
of single values; a tuple of pairs is a section of free keys, each with a single value. A constraint between keys is a
rule: a function in the struct's ``RULES`` (see ``reading``). Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from meshtls.address import Address, host
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
    "HOST",
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
#: The largest value of a limit such as connections or streams.
MOST = 10_000_000


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """A type of single value.

    - ``parse``: converts the text as written in the file. Raises RequestError that says what was wanted.
    - ``show``: the inverse of ``parse``.
    - ``json``: the JSON Schema.
    - ``notice``: a remark for the operator on a text, or an empty string.
    """

    name: str
    parse: Callable[[str], T]
    json: Mapping[str, object]
    show: Callable[[T], str] = str
    notice: Callable[[str], str] = lambda text: ""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's meaning and the type of its value.

    - ``value``: None for a section or a list of sections.
    - ``name``: the key in the file, if it differs from the field's name; ``old``: former names, which still work.
    - ``default``: describes a default that is computed.
    - ``required``: the condition under which a key with a default is required.
    - ``live``: a reload applies a new value; otherwise a new value needs a restart.
    - ``secret``: its value is never shown by a running process.
    """

    meaning: str
    value: Value[Any] | None = None
    name: str = ""
    old: tuple[str, ...] = ()
    default: str = ""
    required: str = ""
    live: bool = False
    secret: bool = False


class Shape(Enum):
    """The kinds of keys."""

    VALUE = "value"
    VALUES = "list of values"
    PAIRS = "free keys with values"
    SECTION = "section"
    SECTIONS = "list of sections"


@dataclass(frozen=True, slots=True)
class KeyField:
    """A key as declared by its struct. ``section`` is the struct of the section, or of each section in a list."""

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
        """The value if the key is missing: that of ``base``, the default of its section, if there is one."""
        return self.make_default() if base is None else getattr(base, self.field)

    def default_section(self, base: object | None) -> object | None:
        """The default of this section; None if an empty section differs from a missing one."""
        return None if self.required or self.shape is not Shape.SECTION else self.default(base)


_KNOWN: dict[type[Any], tuple[KeyField, ...]] = {}


def keys_of(kind: type[Any]) -> tuple[KeyField, ...]:
    """The keys of a section, in the order of the fields of its struct or dataclass.

    Fields without a Key in their annotation are not keys.
    """
    if kind in _KNOWN:
        return _KNOWN[kind]
    keys = []
    hints = get_type_hints(kind, include_extras=True)
    fields: Iterable[Any] = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else msgspec.structs.fields(kind)
    for one in fields:
        if get_origin(hints[one.name]) is not Annotated:
            continue
        hint, key = get_args(hints[one.name])[:2]
        if get_origin(hint) in (Union, UnionType):
            hint = next(member for member in get_args(hint) if member is not NoneType)
        listed = get_origin(hint) is tuple
        section = None if key.value else get_args(hint)[0] if listed else hint
        value_shape, section_shape = (Shape.VALUES, Shape.SECTIONS) if listed else (Shape.VALUE, Shape.SECTION)
        shape = value_shape if key.value else section_shape
        if listed and get_origin(get_args(hint)[0]) is tuple:
            shape = Shape.PAIRS
        has_default = one.default not in (msgspec.NODEFAULT, dataclasses.MISSING)
        has_factory = one.default_factory not in (msgspec.NODEFAULT, dataclasses.MISSING)
        make_default = one.default_factory if has_factory else partial(getattr, one, "default")
        keys.append(KeyField(one.name, key, shape, section, not has_default and not has_factory, make_default))
    _KNOWN[kind] = tuple(keys)
    return _KNOWN[kind]


def number(lowest: int, highest: int) -> Value[int]:
    """Integers from ``lowest`` to ``highest``, both included."""
    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return Value(f"number, {lowest} to {highest}", whole_number(lowest, highest), schema)


def rate(highest: int) -> Value[float]:
    """Integers per second, from 1 to ``highest``."""
    schema = {"type": "integer", "minimum": 1, "maximum": highest}
    parse = whole_number(1, highest)
    return Value(f"number per second, 1 to {highest}", lambda text: float(parse(text)), schema, lambda one: f"{one:g}")


def size_between(lowest: int, highest: int) -> Value[int]:
    """Sizes in bytes, such as ``256KiB``, from ``lowest`` to ``highest``, both included."""
    schema = {"type": ["integer", "string"], "minimum": lowest, "maximum": highest, "pattern": "^[0-9]+(KiB|MiB|GiB)?$"}
    return Value(f"size, {size_text(lowest)} to {size_text(highest)}", size(lowest, highest), schema, size_text)


def choice(kind: type[E]) -> Value[E]:
    """The values of this enum, which are strings."""
    words = [str(member.value) for member in kind]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}"

    def parse(text: str) -> E:
        if text not in words:
            raise RequestError(f"wanted {wanted}, got {shown(text)}")
        return kind(text)

    # A YAML parser that constructs values reads a word such as 1.3 as a number.
    numbers = [float(one) for one in words if one.replace(".", "", 1).isdecimal()]
    return Value(wanted, parse, {"enum": [*words, *numbers]}, lambda member: str(member.value))


def duration_text(time: timedelta) -> str:
    """The duration in its shortest form: ``1h30m``, ``5s``, ``100ms``."""
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

#: A host name or an IP address, without a port.
HOST: Value[str] = Value("host name or IP address", host, {"type": "string", "minLength": 1})
ADDRESS: Value[Address] = Value("host:port", Address.parse, {"type": "string", "pattern": "^.+:[0-9]{1,5}$"})
TEXT: Value[str] = Value("text", word, {"type": "string", "minLength": 1})
PATH: Value[Path] = Value("path", lambda text: Path(word(text)), {"type": "string", "minLength": 1})
#: A port to bind; 0 selects a free one.
PORT: Value[int] = Value("port, 0 to 65535", port, {"type": "integer", "minimum": 0, "maximum": 65535})
#: A port to connect to.
LISTENING_PORT: Value[int] = Value(
    "port, 1 to 65535", _listening_port, {"type": "integer", "minimum": 1, "maximum": 65535}
)
COUNT = number(1, MOST)
FLAG: Value[bool] = Value("true or false", _flag, {"type": "boolean"}, lambda value: "true" if value else "false")
#: A duration of at most ``LONGEST``, as a timedelta.
DURATION: Value[timedelta] = Value("duration such as 1h30m", duration, _DURATION_JSON, duration_text)
#: The same as a float, in seconds.
SECONDS: Value[float] = Value(
    "duration such as 1h30m",
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
