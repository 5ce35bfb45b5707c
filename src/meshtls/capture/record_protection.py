"""Decrypts the records of one direction in one epoch (RFC 8446, section 5.2; RFC 5246, section 6.2.3.3). Pure.

A record's number is not in it, but in its nonce or in what its tag covers. So a record that was lost makes all later
ones unreadable, unless its number is found again: ``search`` tries the next ones, up to a bound.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

from cryptography.exceptions import InvalidTag

from meshtls.capture.aead import SuiteAead
from meshtls.capture.key_schedule import IV_BYTES, TrafficKeys

__all__ = ["NumberedRecords", "RecordProtection"]

_HEADER = struct.Struct(">BHH")
_COVERED = struct.Struct(">QBHH")
_TLS_1_3 = 0x0304
#: Records that one key can protect: their number has 64 bits.
_LAST = (1 << 64) - 1


class NumberedRecords(ABC):
    """Records of one direction, of which the next has the number ``sequence``."""

    __slots__ = ("sequence",)

    def __init__(self) -> None:
        self.sequence = 0

    def open(self, content_type: int, version: int, payload: bytes) -> bytes | None:
        """The content of the next record; for TLS 1.3 with the content type and the padding after it.

        None if it can't be decrypted: the number stays, then.
        """
        opened = self._open(content_type, version, payload, self.sequence)
        if opened is not None:
            self.sequence += 1
        return opened

    def search(self, content_type: int, version: int, payload: bytes, most: int) -> tuple[int, bytes] | None:
        """The content of a record before which up to ``most`` records were lost, and how many were. None if it is none
        of these.
        """
        first = self.sequence
        for number in range(first, min(first + most, _LAST) + 1):
            opened = self._open(content_type, version, payload, number)
            if opened is not None:
                self.sequence = number + 1
                return number - first, opened
        return None

    @abstractmethod
    def _open(self, content_type: int, version: int, payload: bytes, number: int) -> bytes | None:
        """The content of a record, if it is the one of this number."""


class RecordProtection(NumberedRecords):
    """``sequence`` is the number of the next record."""

    __slots__ = ("_cipher", "_explicit", "_iv", "_iv_number", "_tag", "_tls13", "aead")

    def __init__(self, version: int, aead: SuiteAead, keys: TrafficKeys) -> None:
        """``version`` is TLS 1.2's (0x0303) or 1.3's (0x0304)."""
        super().__init__()
        self.aead = aead
        self._tls13 = version >= _TLS_1_3
        self._cipher = aead.cipher_of(keys.key)
        self._iv = keys.iv
        self._iv_number = int.from_bytes(keys.iv, "big")
        self._explicit = 0 if self._tls13 else aead.explicit_bytes
        self._tag = aead.tag_bytes

    def _open(self, content_type: int, version: int, payload: bytes, number: int) -> bytes | None:
        explicit = self._explicit
        length = len(payload) - explicit - self._tag
        if length < 0 or number > _LAST:
            return None
        if explicit:
            nonce = self._iv + payload[:explicit]
            payload = payload[explicit:]
        else:
            nonce = (self._iv_number ^ number).to_bytes(IV_BYTES, "big")
        covered = (
            _HEADER.pack(content_type, version, len(payload))
            if self._tls13
            else _COVERED.pack(number, content_type, version, length)
        )
        try:
            return self._cipher.decrypt(nonce, payload, covered)
        except InvalidTag:
            return None

    def __repr__(self) -> str:
        version = "1.3" if self._tls13 else "1.2"
        return f"<RecordProtection [TLS {version}, {self.aead.cipher.value}, record {self.sequence}]>"
