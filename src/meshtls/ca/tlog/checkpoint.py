"""Checkpoints: the size and root of a log at one moment, as the text of a signed note (C2SP tlog-checkpoint). Pure."""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshtls.ca.tlog.hashing import HASH_BYTES
from meshtls.ca.tlog.note import KeyType, Note, NoteKey, base64_bytes
from meshtls.errors import LogProofError, RequestError
from meshtls.scalars import shown

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Checkpoint", "decimal", "opened_checkpoint"]

_MAX_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log that ``origin`` names: its number of leaves and its root hash."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """The checkpoint in the text of a note; lines after the third are ignored. Raises RequestError."""
        wanted = f"wanted a checkpoint: origin, size and root, got {shown(text)}"
        lines = text.split("\n", 3)
        if len(lines) < 4 or not lines[0]:
            raise RequestError(wanted)
        try:
            size, root = decimal(lines[1]), base64_bytes(lines[2])
        except ValueError as error:
            raise RequestError(wanted) from error
        if len(root) != HASH_BYTES:
            raise RequestError(wanted)
        return cls(lines[0], size, root)

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def __str__(self) -> str:
        return f"{self.origin} with {self.size} leaves and root {self.root.hex()}"


def opened_checkpoint(
    data: bytes, keys: Collection[NoteKey], witnesses: Collection[NoteKey] = ()
) -> tuple[Checkpoint, Note]:
    """The checkpoint in a signed note, once one of the log's keys and all of the witnesses have signed it.

    Raises RequestError, LogProofError.
    """
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    own = [key for key in keys if key.type is KeyType.NOTE and key.name == checkpoint.origin]
    if not note.signers(own):
        names = ", ".join(map(str, keys)) or "no key"
        raise LogProofError(
            f"checkpoint of {shown(checkpoint.origin)}: not signed by a key of this log; known: {names}"
        )
    signed, wanted = note.signers(witnesses), len(witnesses)
    if len(signed) < wanted:
        missing = ", ".join(key.name for key in witnesses if key not in signed)
        raise LogProofError(
            f"checkpoint of {checkpoint.origin}: wanted {wanted} cosignatures, got {len(signed)}; missing: {missing}"
        )
    return checkpoint, note


def decimal(text: str) -> int:
    """A size or index: ASCII digits without leading zeroes, below 2**63. Raises ValueError."""
    if not (text.isascii() and text.isdigit()) or (text[0] == "0" and text != "0") or len(text) > 19:
        raise ValueError("wanted a decimal number without leading zeroes")
    number = int(text)
    if number > _MAX_SIZE:
        raise ValueError("wanted a number below 2**63")
    return number
