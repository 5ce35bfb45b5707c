"""The text that scrapers read: Prometheus text format 0.0.4 and OpenMetrics 1.0, chosen by Accept. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from itertools import accumulate
from math import isinf, isnan
from typing import NamedTuple

from meshtls.observe.metrics.declaring import Family, Kind
from meshtls.observe.metrics.snapshot import Snapshot

__all__ = ["Format", "Scrape", "format_for", "render", "scrape"]

#: Ranges of an Accept header that are read; a scraper sends about five.
_MOST_RANGES = 32
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class Format(Enum):
    """A format; the value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Scrape(NamedTuple):
    """The answer to a scrape."""

    content_type: str
    content: bytes


def scrape(snapshot: Snapshot, accept: str = "") -> Scrape:
    """The answer to a request with this Accept header."""
    form = format_for(accept)
    return Scrape(form.value, render(snapshot, form))


def format_for(accept: str) -> Format:
    """OpenMetrics where the header (RFC 9110, section 12.5.1) prefers version 1.0.0, or names no version; else text.

    A wildcard is text: old scrapers and people send it.
    """
    best = {Format.TEXT: 0.0, Format.OPENMETRICS: 0.0}
    for part in accept.split(",")[:_MOST_RANGES]:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        pairs = (one.partition("=") for one in parameters)
        said = {name.strip(): value.strip().strip('"') for name, _, value in pairs}
        weight = said.get("q", "1")
        quality = float(weight) if _QUALITY.fullmatch(weight) else 0.0  # malformed
        if kind == "application/openmetrics-text" and said.get("version", "1.0.0") == "1.0.0":
            best[Format.OPENMETRICS] = max(best[Format.OPENMETRICS], quality)
        elif kind in ("text/plain", "text/*", "*/*") and said.get("version", "0.0.4") == "0.0.4":
            best[Format.TEXT] = max(best[Format.TEXT], quality)
    wanted = best[Format.OPENMETRICS]
    return Format.OPENMETRICS if wanted > 0 and wanted >= best[Format.TEXT] else Format.TEXT


def render(snapshot: Snapshot, form: Format) -> bytes:
    """The whole text. A family without a sample is left out."""
    lines: list[str] = []
    for one in snapshot.families:
        if one.values:
            lines += _head(one.family, form)
            for values, numbers in one.values:
                lines += _samples(one.family, values, numbers)
    if form is Format.OPENMETRICS:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _head(family: Family, form: Format) -> Iterator[str]:
    text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    if form is Format.TEXT:
        kind = Kind.GAUGE if family.kind is Kind.INFO else family.kind
        yield f"# HELP {family.name} {text}"
        yield f"# TYPE {family.name} {kind.value}"
        return
    quoted = text.replace('"', '\\"')
    yield f"# HELP {family.base} {quoted}"
    yield f"# TYPE {family.base} {family.kind.value}"
    if family.unit:
        yield f"# UNIT {family.base} {family.unit}"


def _samples(family: Family, values: tuple[str, ...], numbers: tuple[float, ...]) -> Iterator[str]:
    labels = ",".join(f'{label.name}="{_escaped(value)}"' for label, value in zip(family.labels, values, strict=True))
    braced = f"{{{labels}}}" if labels else ""
    if family.kind is not Kind.HISTOGRAM:
        yield f"{family.name}{braced} {_number(numbers[0])}"
        return
    *counts, total = numbers
    before = f"{labels}," if labels else ""
    bounds = (*map(_bound, family.buckets), "+Inf")
    for bound, count in zip(bounds, accumulate(counts), strict=True):
        yield f'{family.name}_bucket{{{before}le="{bound}"}} {_number(count)}'
    yield f"{family.name}_count{braced} {_number(sum(counts))}"
    yield f"{family.name}_sum{braced} {_number(total)}"


def _bound(bound: float) -> str:
    """OpenMetrics 1.0 wants a bound with a decimal point, and text 0.0.4 reads any."""
    return repr(float(bound))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
