"""Audit records, and the hash chain that joins them: who did what, by which credential, and what it changed. Pure.

A record's hash is SHA-256 over the hash before it and the record's own bytes. So a record can't be changed, removed or
put between others without changing every later hash. Whoever keeps one hash elsewhere can detect that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from meshtls.errors import LogProofError, RequestError

__all__ = ["FIRST", "AuditHead", "AuditLine", "AuditRecord", "ChainCheck", "bounded", "chained"]

#: The hash before the first record.
FIRST = bytes(32)
_LONGEST = 8192


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One act.

    - ``at``: seconds since 1970, by the server's clock.
    - ``role``, ``name``, ``credential``: who acted, and how that was established.
    - ``subject``: the identity or thing that it was about.
    - ``before``, ``after``: its state; None where it did not exist. Never a secret.
    """

    at: int
    act: str
    role: str
    name: str
    server_id: str
    credential: str = ""
    subject: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None

    def __bytes__(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, data: bytes) -> AuditRecord:
        """Raises RequestError."""
        try:
            return _DECODER.decode(data)
        except msgspec.DecodeError as error:
            raise RequestError(f"audit record: {error}") from error


_DECODER = msgspec.json.Decoder(AuditRecord)


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A stored record: ``number`` counts from 1 without gaps."""

    number: int
    record: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The number and the hash of the record that was written last; 0, if there is none."""

    number: int = 0
    hash: bytes = FIRST


def chained(previous: bytes, record: bytes) -> bytes:
    """The hash of a record after the one with this hash."""
    return sha256(previous + record).digest()


def bounded(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state itself, or its digest and size if it is longer than 8 KiB in JSON."""
    encoded = msgspec.json.encode(state)
    if len(encoded) <= _LONGEST:
        return state
    return {"sha256": sha256(encoded).hexdigest(), "bytes": len(encoded)}


class ChainCheck:
    """Checks lines in order. ``first`` and ``last`` are the lines at both ends so far.

    ``known``: hashes by number, noted elsewhere. ``head``: the store's, read before the lines, which have to reach it.
    """

    def __init__(self, known: Mapping[int, bytes] | None = None, head: AuditHead | None = None) -> None:
        self.first: AuditLine | None = None
        self.last: AuditLine | None = None
        self._known = dict(known or {})
        self._head = head or AuditHead()

    def add(self, lines: Sequence[AuditLine]) -> None:
        """Raises LogProofError for a line that does not continue the chain, or is not the one that is known."""
        for line in lines:
            self._check(line)
            self.first = self.first or line
            self.last = line

    def finish(self) -> None:
        """Raises LogProofError if a known line, or the head, was not among those checked."""
        last = self.last.number if self.last else 0
        if last < self._head.number:
            missing = f"{last + 1} is" if last + 1 == self._head.number else f"{last + 1} to {self._head.number} are"
            raise LogProofError(
                f"audit trail: it ends with record {last}, but the store says that {self._head.number} is the last one:"
                f" {missing} missing"
            )
        for number in self._known:
            raise LogProofError(f"audit record {number}: it is known to exist, and is missing")

    def _check(self, line: AuditLine) -> None:
        last = self.last
        if last is not None and line.number != last.number + 1:
            raise LogProofError(f"audit record {last.number + 1}: missing; {line.number} follows {last.number}")
        # The hash before the oldest record that is kept is not known, unless that is the very first.
        previous = last.hash if last else FIRST if line.number == 1 else None
        if previous is not None and chained(previous, line.record) != line.hash:
            raise LogProofError(f"audit record {line.number}: it, or its hash, was changed after it was written")
        if line.number == self._head.number and line.hash != self._head.hash:
            raise LogProofError(
                f"audit record {line.number}: its hash is not the one that the store has of it; the trail was rewritten"
            )
        if self._known.pop(line.number, line.hash) != line.hash:
            raise LogProofError(f"audit record {line.number}: its hash is not the known one; the trail was rewritten")
