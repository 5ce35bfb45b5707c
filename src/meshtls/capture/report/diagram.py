"""The sequence diagram of a connection: an SVG with an arrow for each moment, from top to bottom by time. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from meshtls.capture.report.collecting import Drawn
from meshtls.capture.report.markup import add, element
from meshtls.capture.report.moments import Moment
from meshtls.wire.side import Side

__all__ = ["diagram"]

_WIDTH, _CLIENT, _SERVER, _STEP, _TOP = 820, 110, 790, 26, 44
_MIDDLE = (_CLIENT + _SERVER) // 2


def diagram(drawn: Drawn) -> Element:
    """Time is not to scale: each arrow has its time at the left."""
    rows = len(drawn.first) + len(drawn.last) + bool(drawn.left_out)
    height = _TOP + rows * _STEP + 12
    number = str(drawn.connection.number)
    svg = element(
        "svg", viewBox=f"0 0 {_WIDTH} {height}", width=str(_WIDTH), height=str(height), role="img",
        aria_labelledby=f"t{number}",
    )  # fmt: skip
    add(svg, "title", f"Sequence diagram of connection {number}", id=f"t{number}")
    for x, title in ((_CLIENT, "client"), (_SERVER, "server")):
        anchor = "start" if x == _CLIENT else "end"
        add(svg, "text", title, x=str(x), y="18", text_anchor=anchor, class_="lane")
        add(svg, "line", x1=str(x), y1="26", x2=str(x), y2=str(height), class_="lane")
    y = _TOP
    for one in drawn.first:
        _arrow(svg, one, y)
        y += _STEP
    if drawn.left_out:
        add(svg, "text", f"not drawn: {drawn.left_out}", x=str(_MIDDLE), y=str(y), text_anchor="middle")
        y += _STEP
    for one in drawn.last:
        _arrow(svg, one, y)
        y += _STEP
    return svg


def _arrow(svg: Element, one: Moment, y: int) -> None:
    begin, end = (_CLIENT, _SERVER) if one.side is Side.CLIENT else (_SERVER, _CLIENT)
    back = -7 if one.side is Side.CLIENT else 7
    group = add(svg, "g", class_=one.kind)
    if one.ms is not None:
        add(group, "text", f"{one.ms:.3f} ms", x=str(_CLIENT - 8), y=str(y + 4), text_anchor="end", class_="time")
    add(group, "line", x1=str(begin), y1=str(y), x2=str(end), y2=str(y))
    points = f"{end},{y} {end + back},{y - 4} {end + back},{y + 4}"
    add(group, "polygon", points=points)
    add(group, "text", _label(one), x=str(_MIDDLE), y=str(y - 5), text_anchor="middle")


def _label(one: Moment) -> str:
    if one.kind == "end":
        return f"{one.side.value}: {one.words}"
    if one.kind in ("gap", "alert"):
        return f"{one.kind}: {one.words}"
    size = f", {one.length} byte{'s' * (one.length != 1)}" if one.length else ""
    return f"{one.words}{size}" + (f" in {one.records} records" if one.records > 1 else "")
