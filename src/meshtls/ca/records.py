"""What is kept of each certificate that was issued. Nothing leaves the CA before it was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
        self._records: list[IssuanceRecord] = []

    def record(self, record: IssuanceRecord) -> None:
        self._records = [old for old in self._records if old.not_after > record.not_before]
        self._records.append(record)

    @property
    def records(self) -> tuple[IssuanceRecord, ...]:
        return tuple(self._records)
