"""What a witness decides about a request to cosign a checkpoint (C2SP tlog-witness). Pure.

A witness cosigns only what continues what it has cosigned before. So a log that shows different trees to different
readers, or a server whose database was restored from a backup, gets no cosignature.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshtls.ca.tlog.checkpoint import Checkpoint, decimal
from meshtls.ca.tlog.hashing import EMPTY_ROOT
from meshtls.ca.tlog.note import Note, NoteKey
from meshtls.ca.tlog.proof_file import hash_lines
from meshtls.ca.tlog.proofs import verify_consistency
from meshtls.errors import LogProofError, RequestError

__all__ = ["LONGEST_SUBMISSION", "Refused", "Submission", "judge"]

LONGEST_SUBMISSION = 80 * 1024


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a request that is not cosigned; a conflict's text is the size of the last cosigned tree."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A request to cosign: the size of the checkpoint before, the proof from that one on, and the signed note."""

    old: int
    proof: Sequence[bytes]
    note: bytes

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Raises RequestError."""
        head, _, note = body.partition(b"\n\n")
        if not head.startswith(b"old ") or not note:
            raise RequestError("add-checkpoint: wanted `old N`, proof lines, an empty line and a checkpoint")
        try:
            first, *lines = head.decode().split("\n")
            return cls(decimal(first.removeprefix("old ")), hash_lines(lines), note)
        except ValueError as error:
            raise RequestError(f"add-checkpoint: {error}") from error

    def __bytes__(self) -> bytes:
        lines = [f"old {self.old}", *(base64.b64encode(one).decode() for one in self.proof), "", ""]
        return "\n".join(lines).encode() + self.note


def judge(
    submission: Submission, logs: Mapping[str, Sequence[NoteKey]], last: Mapping[str, Checkpoint]
) -> tuple[Checkpoint, Note] | Refused:
    """The checkpoint to cosign, once it is stored as the last one of its log; or why not.

    ``logs`` are the keys of each origin, ``last`` its last cosigned checkpoint.
    """
    try:
        note = Note.parse(submission.note)
        new = Checkpoint.parse(note.text)
    except RequestError as error:
        return Refused(400, str(error))
    keys = logs.get(new.origin)
    if keys is None:
        return Refused(404, "this witness does not know the log of this origin")
    try:
        if not note.signers(keys):
            return Refused(403, "the checkpoint is not signed by a key that this witness knows for its log")
    except LogProofError as error:
        return Refused(403, str(error))
    if submission.old > new.size:
        return Refused(400, f"old size {submission.old} is larger than the checkpoint's {new.size}")
    before = last.get(new.origin, Checkpoint(new.origin, 0, EMPTY_ROOT))
    if submission.old != before.size or (before.size == new.size and before.root != new.root):
        return Refused(409, f"{before.size}")
    try:
        verify_consistency(before.size, before.root, new.size, new.root, submission.proof)
    except LogProofError as error:
        return Refused(422, str(error))
    return new, note
