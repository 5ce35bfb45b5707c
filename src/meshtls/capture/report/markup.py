"""Elements of the page. Text and attributes are escaped when they are written, whatever they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from meshtls.printable import printable

__all__ = ["add", "element", "table", "written"]


def element(tag: str, text: str = "", **attributes: str) -> Element:
    """An element. Of an attribute's name a ``_`` at the end is left out, and others are "-"."""
    made = Element(tag, _attributes(attributes))
    made.text = printable(text) or None
    return made


def add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """An element inside of ``parent``."""
    made = SubElement(parent, tag, _attributes(attributes))
    made.text = printable(text) or None
    return made


def table(parent: Element, head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str) -> None:
    """A table; the first cell of each row is its header."""
    made = add(parent, "table")
    add(made, "caption", caption)
    if head:
        line = add(add(made, "thead"), "tr")
        for title in head:
            add(line, "th", title, scope="col")
    body = add(made, "tbody")
    for row in rows:
        line = add(body, "tr")
        for at, cell in enumerate(row):
            if at:
                add(line, "td", cell)
            else:
                add(line, "th", cell, scope="row")


def written(made: Element) -> str:
    """As HTML, on one line."""
    return tostring(made, encoding="unicode", method="html")


def _attributes(named: dict[str, str]) -> dict[str, str]:
    return {name.rstrip("_").replace("_", "-"): printable(value) for name, value in named.items()}
