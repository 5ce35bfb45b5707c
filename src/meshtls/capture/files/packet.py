"""What a capture file holds, whichever format it has. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MAX_PACKET", "FileError", "Interface", "Packet", "Position"]

#: The most bytes of one packet: the largest snapshot length of tcpdump and Wireshark. More means a damaged file.
MAX_PACKET = 262_144


class Packet(NamedTuple):
    """One captured packet.

    - ``number``: counts from 1, as in Wireshark.
    - ``time_ns``: nanoseconds since the epoch; 0 where the file has no time (Simple Packet Blocks).
    - ``interface``: an index into the reader's ``interfaces``.
    - ``link_type``: a LINKTYPE_ value, which says what ``data`` begins with.
    - ``data``: the bytes that were captured, at most as many as the interface's snapshot length.
    - ``original_length``: the bytes that the packet had on the wire.
    """

    number: int
    time_ns: int
    interface: int
    link_type: int
    data: bytes
    original_length: int


class FileError(NamedTuple):
    """Why reading ended before the end of the file.

    - ``offset``: of the first byte that could not be used; of a compressed file, in the uncompressed bytes.
    - ``reason``: what was wanted and what came.
    """

    offset: int
    reason: str

    @property
    def words(self) -> str:
        """Both, for people."""
        return f"at byte {self.offset}: {self.reason}"


@dataclass(slots=True)
class Interface:
    """Where packets were captured.

    - ``name``: "" where the file has none; printable or not, as the file has it.
    - ``snapshot_length``: the most bytes kept of a packet, 0 for no limit.
    - ``description``: as the file has it; "" for none.
    - ``received``, ``dropped``: what the capturing program counted, None where the file does not say.
    """

    link_type: int
    name: str = ""
    snapshot_length: int = 0
    received: int | None = None
    dropped: int | None = None
    description: str = ""


class Position(NamedTuple):
    """Bytes that were read of a stream, and where in them the next one is."""

    buffer: bytes
    at: int
