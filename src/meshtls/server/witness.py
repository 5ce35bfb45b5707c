"""A witness: cosigns the checkpoints of logs that it knows, each after a proof that it continues the last (C2SP).

What it has cosigned is in its directory before the cosignature leaves it, so it never cosigns two trees of a log, even
if it is killed. It needs no data store and can run anywhere, best under somebody else's control.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.tlog.note import KeyType, NoteKey, cosign
from meshtls.ca.tlog.witness import LONGEST_SUBMISSION, Refused, Submission, judge
from meshtls.clock import Clock
from meshtls.errors import RequestError
from meshtls.private_files import replace_secrets
from meshtls.rpc.small_http import Answer, Request, serve_http
from meshtls.server.log_guard import stored_checkpoint

__all__ = ["Witness", "running_witness"]

_SIZE_TYPE = "text/x.tlog.size"


class Witness:
    """A witness, ``name``, of the logs with these keys. Its directory is locked until ``close``. Raises ConfigError."""

    def __init__(self, name: str, directory: Path, logs: Collection[NoteKey], clock: Clock) -> None:
        self._name = name
        self._directory = directory
        self._keys = DiskKeys(directory)
        self._signer = self._keys.log_key()
        self._clock = clock
        self._logs: dict[str, list[NoteKey]] = {}
        for key in logs:
            self._logs.setdefault(key.name, []).append(key)
        self._last = {origin: last for origin in self._logs if (last := stored_checkpoint(self._path(origin)))}
        self._one_at_a_time = asyncio.Lock()

    @property
    def key(self) -> NoteKey:
        """The key that verifies its cosignatures."""
        return NoteKey.of(self._name, self._signer, KeyType.COSIGNATURE)

    async def answer(self, request: Request) -> Answer:
        """The response to one request. Raises ConfigError if the checkpoint can't be stored; nothing is cosigned."""
        if request.path != "/add-checkpoint":
            return Answer(404, b"wanted /add-checkpoint\n")
        if request.method != "POST":
            return Answer(405, b"wanted POST\n")
        try:
            submission = Submission.parse(request.body)
        except RequestError as error:
            return Answer(400, f"{error}\n".encode())
        async with self._one_at_a_time:
            judged = judge(submission, self._logs, self._last)
            if isinstance(judged, Refused):
                text = f"{judged.text}\n".encode()
                return Answer(judged.status, text, _SIZE_TYPE) if judged.status == 409 else Answer(judged.status, text)
            checkpoint, note = judged
            if self._last.get(checkpoint.origin) != checkpoint:  # anyone may send again the one that is public
                await asyncio.to_thread(replace_secrets, {self._path(checkpoint.origin): str(note).encode()})
                self._last[checkpoint.origin] = checkpoint
            signature = cosign(note.text, self._name, self._signer, int(self._clock.now().timestamp()))
        return Answer(200, str(signature).encode())

    def close(self) -> None:
        self._keys.close()

    def _path(self, origin: str) -> Path:
        return self._directory / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.checkpoint"


@asynccontextmanager
async def running_witness(witness: Witness, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the body runs. Yields the port. Raises ConfigError."""
    async with serve_http("witness", host, port, witness.answer, longest_body=LONGEST_SUBMISSION) as bound:
        yield bound
