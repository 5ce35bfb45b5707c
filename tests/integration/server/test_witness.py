"""A witness: what it keeps on disk of the checkpoints that it cosigns."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.note import KeyType, Note, NoteKey, sign_note, signature_lines
from meshtls.ca.tlog.witness import Submission
from meshtls.rpc.small_http import Request
from meshtls.server.witness import Witness
from tests.support.clock import ManualClock

ORIGIN = "log.test"


async def test_a_checkpoint_that_is_sent_again_is_cosigned_and_not_stored_again(tmp_path: Path) -> None:
    directory = tmp_path / "witness"
    directory.mkdir(0o700)
    key = Ed25519PrivateKey.generate()
    witness = Witness("witness.test", directory, [NoteKey.of(ORIGIN, key, KeyType.NOTE)], ManualClock())
    note = sign_note(Checkpoint(ORIGIN, 1, hashlib.sha256(b"a leaf").digest()).text, ORIGIN, key)

    async def cosigned(old: int) -> int:
        """Have it cosigned, and return the number of the file that keeps it."""
        body = bytes(Submission(old, (), str(note).encode()))
        answer = await witness.answer(Request("POST", "/add-checkpoint", body))
        assert answer.status == 200
        whole = Note(note.text, signature_lines(answer.content.decode()))
        assert whole.signers([witness.key]) == [witness.key]
        [kept] = directory.glob("*.checkpoint")
        return kept.stat().st_ino

    try:
        first = await cosigned(0)
        assert await cosigned(1) == first
    finally:
        witness.close()
