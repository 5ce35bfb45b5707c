"""TLS sessions that a client may resume: kept by the context of one generation, and gone with it."""

from __future__ import annotations

import ssl
from collections import OrderedDict

from meshtls.memo import keep_newest

__all__ = ["Sessions"]


class Sessions:
    """One session for each key, the caller's name for a destination; at most ``size`` of them.

    A ticket is used until the server refuses it or it expires. RFC 8446 (C.4) advises to use each only once, so that an
    observer can't link connections. Ours are between the same two addresses anyway, and a new ticket costs the server
    as much as a signature.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._kept: OrderedDict[str, ssl.SSLSession] = OrderedDict()

    def get(self, key: str) -> ssl.SSLSession | None:
        return self._kept.get(key)

    def keep(self, key: str, session: ssl.SSLSession) -> None:
        keep_newest(self._kept, key, session, self._size)

    def drop(self, key: str) -> None:
        self._kept.pop(key, None)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Sessions [{len(self._kept)} of {self._size}]>"
