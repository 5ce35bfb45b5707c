"""One connection as a row of the table: what ``meshtls capture analyze`` prints, as text and as HTML. Pure."""

from __future__ import annotations

from meshtls.capture.analysis.connection import Connection, End

__all__ = ["COLUMNS", "NUMBERS", "bytes_of", "row_of"]

#: Columns of numbers.
NUMBERS = ("ms", "trips", "bytes", "overhead")
#: All columns, in their order.
COLUMNS = ("#", "client", "server", "protocol", "suite", "group", "mTLS", "resumed", *NUMBERS, "result")


def row_of(one: Connection) -> tuple[str, ...]:
    """The cells of a connection, one for each of COLUMNS."""
    shake = one.handshake
    result = one.outcome.name if one.outcome is not None else "-"
    return (
        str(one.number),
        _who(one.client),
        _who(one.server),
        (shake.version if shake is not None else "") or one.protocol,
        (shake.suite.removeprefix("TLS_") if shake is not None else "") or "-",
        (shake.group if shake is not None else "") or "-",
        _mutual(one),
        shake.resumed if shake is not None else "-",
        f"{shake.ms:.1f}" if shake is not None and shake.ms is not None else "-",
        str(shake.round_trips) if shake is not None and shake.round_trips is not None else "-",
        bytes_of(one),
        f"{_mark(one, '>=')}{one.overhead:.2f}" if one.overhead is not None else "-",
        result,
    )


def bytes_of(one: Connection) -> str:
    """The bytes of the applications; estimated ones have a mark: ``~``, or ``<=`` where records look padded."""
    return f"{_mark(one, '<=')}{one.application_bytes}"


def _mark(one: Connection, of_padded: str) -> str:
    return of_padded if one.at_most else "~" if one.estimated else ""


def _mutual(one: Connection) -> str:
    shake = one.handshake
    if shake is None:
        return "-"
    if shake.mutual == "unknown" and shake.mutual_likely != "unknown":
        return f"likely {shake.mutual_likely}"
    return shake.mutual


def _who(end: End) -> str:
    return f"{end.address} {end.peer.spiffe_id}" if end.peer is not None and end.peer.spiffe_id else end.address
