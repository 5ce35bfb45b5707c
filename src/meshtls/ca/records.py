"""Records of issued certificates. No certificate leaves the CA before it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from typing import Protocol

from cryptography import x509

from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial

__all__ = ["IssuanceLog", "IssuanceRecord", "IssuanceRecorder"]


@dataclass(frozen=True, slots=True)
class IssuanceRecord:
    """One issued leaf. ``serial`` is hexadecimal, as ``openssl x509 -serial`` shows it."""

    serial: str
    spiffe_id: SpiffeId
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, spiffe_id: SpiffeId, leaf: x509.Certificate) -> IssuanceRecord:
        return cls(format_serial(leaf), spiffe_id, leaf.not_valid_before_utc, leaf.not_valid_after_utc)


class IssuanceRecorder(Protocol):
    """Stores records, in memory or in a database."""

    def record(self, record: IssuanceRecord) -> None:
        """Store the record. An exception prevents the issuance."""


class IssuanceLog:
    """Records in memory, oldest first. Records of expired leaves are dropped when a new one is added."""

    def __init__(self) -> None:
        # A heap by expiry, so that adding a record takes time for those that it drops, not for all.
        self._by_end: list[tuple[datetime, int, IssuanceRecord]] = []
        self._count = 0

    def record(self, record: IssuanceRecord) -> None:
        while self._by_end and self._by_end[0][0] <= record.not_before:
            heappop(self._by_end)
        self._count += 1
        heappush(self._by_end, (record.not_after, self._count, record))

    @property
    def records(self) -> tuple[IssuanceRecord, ...]:
        return tuple(record for _, _, record in sorted(self._by_end, key=lambda kept: kept[1]))
