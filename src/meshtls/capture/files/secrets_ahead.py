"""How many blocks of TLS secrets a pcapng file may still have, before any of it is read. Pure: the stream is given.

Such a block may come after the packets that it decrypts, at any place. Where it is known beforehand that none comes, or
that the last one was read, nothing has to be kept that waits for secrets. A search for four bytes takes a fraction of
the time that reading packets does. They may be in a packet as well, so that what is found is the most that there are.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from meshtls.capture.files.pcapng import SECTION_HEADER, TLS_KEY_LOG

__all__ = ["most_secrets"]

#: The type of these secrets, in either byte order.
_TYPES = tuple(TLS_KEY_LOG.to_bytes(4, order) for order in ("little", "big"))
_TYPE_BYTES = 4
_PIECE = 1 << 20
#: Bytes of the longest file that is looked through: reading a longer one twice may take long.
_MOST_BYTES = 4 << 30


def most_secrets(stream: BinaryIO) -> int | None:
    """The most blocks of TLS secrets from here on. None where that can't be known: of what is no pcapng file, of a
    pipe, of what is compressed, and of a file of more than 4 GiB. The stream is left where it was.
    """
    try:
        if not stream.seekable():
            return None
        begin = stream.tell()
        size = stream.seek(0, os.SEEK_END) - begin
        stream.seek(begin)
        try:
            return _counted(stream, size) if size <= _MOST_BYTES else None
        finally:
            stream.seek(begin)
    except (OSError, ValueError):
        return None


def _counted(stream: BinaryIO, size: int) -> int | None:
    count, last = 0, b""
    while size > 0 and (piece := stream.read(min(_PIECE, size))):
        if not last and not piece.startswith(SECTION_HEADER):
            return None
        size -= len(piece)
        looked_at = last[1 - _TYPE_BYTES :] + piece
        count += sum(map(looked_at.count, _TYPES))
        last = piece
    return count if last else None
