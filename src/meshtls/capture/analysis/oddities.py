"""Packets that the streams do not show: cut off, in conflict, or refused by the receiver. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.capture.analysis.connection import Connection

__all__ = ["oddities", "oddities_of"]


def oddities(cut_bytes: int, conflicts: int, strange: int) -> Iterator[str]:
    """A sentence for each count that is not 0; the counts are those of ``End``."""
    if cut_bytes:
        yield f"{cut_bytes} bytes were cut off by the snapshot length: capture whole packets (tcpdump: -s 0)"
    if conflicts:
        yield (
            f"{_segments(conflicts)} sent again with other bytes than before, of which the first count: a device on the"
            " way changes packets, or someone forges them"
        )
    if strange:
        yield (
            f"{_segments(strange)} ignored, which the receiver can't have accepted: outside of the window, after the"
            " end, or a FIN, RST or SYN after which the connection went on"
        )


def oddities_of(one: Connection) -> Iterator[str]:
    """The oddities of both ends of a connection."""
    ends = (one.client, one.server)
    return oddities(*(sum(getattr(end, name) for end in ends) for name in ("cut_bytes", "conflicts", "strange")))


def _segments(count: int) -> str:
    return f"{count} segment was" if count == 1 else f"{count} segments were"
