"""The file that proves, offline, that an entry is in a log (C2SP tlog-proof): it goes beside an SVID. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from dataclasses import dataclass

from meshtls.ca.tlog.checkpoint import Checkpoint, decimal, opened_checkpoint
from meshtls.ca.tlog.hashing import HASH_BYTES, leaf_hash
from meshtls.ca.tlog.note import NoteKey, base64_bytes
from meshtls.ca.tlog.proofs import verify_inclusion
from meshtls.errors import LogProofError, RequestError

__all__ = ["HEADER", "LONGEST_PROOF_FILE", "ProofFile", "hash_lines"]

HEADER = "c2sp.org/tlog-proof@v1"
LONGEST_PROOF_FILE = 256 * 1024
_MOST_HASHES = 63
_HEAD = re.compile(rb"c2sp\.org/tlog-proof@v1\n(?:extra ([^\n]+)\n)?index ([0-9]+)((?:\n[^\n]+)*)")


@dataclass(frozen=True, slots=True)
class ProofFile:
    """A proof that an SVID is in the log, as a file. ``extra`` is the logged entry itself, which the SVID alone does
    not determine; ``checkpoint`` the signed note.
    """

    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> ProofFile:
        """Raises RequestError. Nothing is verified."""
        head, blank, checkpoint = data.partition(b"\n\n")
        wanted = f"wanted a file that begins with {HEADER}, an entry and its index"
        found = _HEAD.fullmatch(head) if blank and len(data) <= LONGEST_PROOF_FILE else None
        if found is None:
            raise RequestError(f"{wanted}; it is cut short or another file")
        try:
            extra, index, hashes = (one.decode() for one in found.groups(b""))
            return cls(decimal(index), hash_lines(hashes.split("\n")[1:]), checkpoint, base64_bytes(extra))
        except ValueError as error:
            raise RequestError(f"{wanted}: {error}") from error

    def verify(self, keys: Collection[NoteKey], witnesses: Collection[NoteKey] = ()) -> Checkpoint:
        """Check that the entry in ``extra`` is in the log of these keys, and return the checkpoint that proves it.

        Raises RequestError, LogProofError.
        """
        if not self.extra:
            raise LogProofError("the proof file has no entry (extra)")
        checkpoint, _ = opened_checkpoint(self.checkpoint, keys, witnesses)
        verify_inclusion(leaf_hash(self.extra), self.index, checkpoint.size, checkpoint.root, self.proof)
        return checkpoint

    def __bytes__(self) -> bytes:
        lines = [HEADER]
        if self.extra:
            lines.append(f"extra {base64.b64encode(self.extra).decode()}")
        lines += [f"index {self.index}", *(base64.b64encode(one).decode() for one in self.proof), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def hash_lines(lines: Collection[str]) -> tuple[bytes, ...]:
    """The hashes of a proof, one in base64 a line. Raises ValueError."""
    hashes = tuple(map(base64_bytes, lines))
    if len(hashes) > _MOST_HASHES or any(len(one) != HASH_BYTES for one in hashes):
        raise ValueError(f"wanted at most {_MOST_HASHES} hashes of {HASH_BYTES} bytes")
    return hashes
