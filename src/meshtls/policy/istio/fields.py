"""How the fields of Istio's documents are declared: as data, once. Pure.

``fields_reading`` reads a document by these tables, and ``reference`` writes docs/reference/policy.md from them. A
``Table`` is an object of a document, a ``Field`` one of its fields. Names are Istio's JSON names, in camelCase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from meshtls.config.document import Place, Plain, Section

__all__ = ["Field", "Rule", "Shape", "Support", "Table", "Value", "last_of"]

#: Checks a constraint between the fields of an object, if all of them could be read. It gets the section and the values
#: by attribute, and gives for each problem the Place or the field's name, empty for the object itself, and the message.
Rule = Callable[[Section, Mapping[str, Any]], Iterable[tuple[str | Place, str]]]


class Support(Enum):
    """What happens to a field.

    - ENFORCED: it does what it does in Istio's sidecar.
    - NOT_ENFORCED: it is accepted, and has no effect here; a warning says so at load.
    - NO_EFFECT: it is accepted, and no policy depends on it, in Istio neither: Kubernetes' own bookkeeping.
    - REFUSED: a document with it is not loaded, since without it a policy would allow more than its author wants.
    """

    ENFORCED = "enforced"
    NOT_ENFORCED = "accepted, not enforced"
    NO_EFFECT = "accepted, no effect"
    REFUSED = "refused"


class Shape(Enum):
    ONE = "one"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Value:
    """A type of single value.

    - ``parse``: converts the text. Raises RequestError that says what was wanted.
    - ``plain``: what YAML may take the value for if it has no quotes.
    """

    name: str
    parse: Callable[[str], Any]
    plain: Plain = Plain.TEXT


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object.

    - ``of``: what it holds, or each item of the list or map does. None: anything, which is not looked at.
    - ``key``: the keys of a map.
    - ``attribute``: the parameter of the table's ``make``; empty if the value is not used.
    - ``most``: the most items of a list; 0 is no limit but the file's.
    - ``null``: null counts as a missing field, since Kubernetes' own tools write it.
    """

    name: str
    meaning: str
    of: Value | Table | None = None
    shape: Shape = Shape.ONE
    attribute: str = ""
    support: Support = Support.ENFORCED
    key: Value | None = None
    most: int = 0
    required: bool = False
    null: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """An object. ``make`` makes its value of its place and of the attributes that are in it."""

    name: str
    fields: tuple[Field, ...]
    make: Callable[..., Any]
    rules: tuple[Rule, ...] = ()
    by_name: Mapping[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {one.name: one for one in self.fields})


def last_of(place: Place, **values: Any) -> Any:
    """The ``make`` of an object that only wraps its one field."""
    return next(iter(values.values()), None)
