"""One connection as a row of the table: what ``meshtls capture analyze`` prints, as text and as HTML. Pure."""

from __future__ import annotations

from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection, End

__all__ = ["COLUMNS", "NUMBERS", "Marks", "bytes_of", "marks_of", "row_of"]

#: Columns of numbers.
NUMBERS = ("ms", "trips", "bytes", "overhead")
#: All columns, in their order.
COLUMNS = ("#", "client", "server", "protocol", "suite", "group", "mTLS", "resumed", *NUMBERS, "result")


class Marks(NamedTuple):
    """What is written before numbers that are computed from the lengths of encrypted records, or from a bound.

    ``amount``: before the bytes of applications. ``ratio``: before the overhead, which is more the fewer these are.
    """

    amount: str
    ratio: str


def marks_of(*, estimated: bool, at_most: bool) -> Marks:
    """The marks of a connection, or of several together. See ``Connection`` for what these mean."""
    if at_most:
        return Marks("<=", ">=")
    return Marks("~", "~") if estimated else Marks("", "")


def row_of(one: Connection) -> tuple[str, ...]:
    """The cells of a connection, one for each of COLUMNS."""
    shake = one.handshake
    marks = marks_of(estimated=one.estimated, at_most=one.at_most)
    result = one.outcome.name if one.outcome is not None else "-"
    return (
        str(one.number),
        _who(one.client),
        _who(one.server),
        (shake.version if shake is not None else "") or one.protocol,
        (shake.suite.removeprefix("TLS_") if shake is not None else "") or "-",
        (shake.group if shake is not None else "") or "-",
        shake.mutual_shown if shake is not None else "-",
        shake.resumed if shake is not None else "-",
        f"{shake.ms:.1f}" if shake is not None and shake.ms is not None else "-",
        str(shake.round_trips) if shake is not None and shake.round_trips is not None else "-",
        bytes_of(one),
        f"{marks.ratio}{one.overhead:.2f}" if one.overhead is not None else "-",
        result,
    )


def bytes_of(one: Connection) -> str:
    """The bytes of the applications; estimated ones have a mark: ``~``, or ``<=`` where records look padded."""
    return f"{marks_of(estimated=one.estimated, at_most=one.at_most).amount}{one.application_bytes}"


def _who(end: End) -> str:
    return f"{end.address} {end.peer.spiffe_id}" if end.peer is not None and end.peer.spiffe_id else end.address
