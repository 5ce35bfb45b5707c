"""What is kept of each certificate that was issued. Nothing leaves the CA before it was recorded."""

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
    """Where records go: a list in memory, a database."""

    def record(self, record: IssuanceRecord) -> None:
        """Keep it. What this raises stops the issuance."""


class IssuanceLog:
    """Records in memory, oldest first; those of expired leaves are dropped when a new one comes."""

    def __init__(self) -> None:
        # By their ends, so that a new record costs with those that it drops and not with all that are kept.
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
