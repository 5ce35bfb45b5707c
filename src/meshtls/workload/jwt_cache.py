"""Which of our JWT-SVIDs can still be used, and when to request the next one. Pure: the time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from meshtls.svid.jwt import JwtSvid
from meshtls.svid.lifetime import backoff, next_rotation

__all__ = ["JwtCache"]

W = TypeVar("W", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Entry:
    svid: JwtSvid
    renew_at: datetime
    failures: int = 0


class JwtCache(Generic[W]):
    """The newest token of each kind. ``jitter`` returns a number in [-1, 1]."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._entries: dict[W, _Entry] = {}

    def fresh(self, wanted: W, now: datetime) -> JwtSvid | None:
        """A token that need not be renewed yet."""
        entry = self._entries.get(wanted)
        return entry.svid if entry and now < min(entry.renew_at, entry.svid.expiry) else None

    def put(self, wanted: W, svid: JwtSvid, now: datetime) -> None:
        """Keep a new token, fresh for half of its remaining life, and drop all expired ones."""
        self._entries = {one: entry for one, entry in self._entries.items() if now < entry.svid.expiry}
        self._entries[wanted] = _Entry(svid, next_rotation(now, svid.expiry, self._jitter()))

    def after_failure(self, wanted: W, now: datetime) -> JwtSvid | None:
        """The present token after a failed renewal, None if it has expired. Delays the next attempt."""
        entry = self._entries.get(wanted)
        if entry is None or now >= entry.svid.expiry:
            return None
        wait = timedelta(seconds=backoff(entry.failures + 1, self._jitter()))
        self._entries[wanted] = replace(entry, renew_at=now + wait, failures=entry.failures + 1)
        return entry.svid

    def drop(self, wanted: W) -> None:
        """Drop the token of this kind."""
        self._entries.pop(wanted, None)

    def renew(self, due: Callable[[W, JwtSvid], bool], now: datetime) -> None:
        """Have every token for which ``due`` is true renewed before it is used again."""
        self._entries = {
            one: replace(entry, renew_at=min(now, entry.renew_at)) if due(one, entry.svid) else entry
            for one, entry in self._entries.items()
        }

    def forget(self, gone: Callable[[W, JwtSvid], bool]) -> None:
        """Drop every token for which ``gone`` is true."""
        self._entries = {one: entry for one, entry in self._entries.items() if not gone(one, entry.svid)}

    def __len__(self) -> int:
        return len(self._entries)
