"""The transparency log of a trust domain, which all servers of one data store append to and sign.

An entry is appended in the transaction that records what it is about, so it is durable before an SVID leaves the
server. Signing is separate: ``publish`` signs the present tree, once it has proven from the stored tiles that the tree
continues the last one that this server has signed (``log_guard``). A tree that does not continue it is never signed,
and from then on nothing is appended, so nothing is issued.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.note import Note, NoteKey, NoteSignature, NoteSigner, sign_note
from meshtls.ca.tlog.proofs import consistency_ranges, proof_from, tiles_for, verify_consistency
from meshtls.errors import ConfigError, LogProofError, MeshtlsError
from meshtls.logs import logger
from meshtls.server.log_guard import LogGuard
from meshtls.server.store import transparency
from meshtls.server.store.database import Database, Step, run_steps
from meshtls.server.store.transparency import LogState
from meshtls.spiffeid import TrustDomain

__all__ = ["Appending", "TransparencyLog", "new_origin"]

log = logger("meshtls.server")

_WAY_ON = (
    "Restore the newest state of the data store. If it is lost, run `meshtls log abandon --history-is-lost` with this"
    " server's file: that ends this log for all who watch it, and begins another"
)


def new_origin(trust_domain: TrustDomain) -> str:
    """A name for a new log, which no other log has."""
    return f"{trust_domain}/log/{secrets.token_hex(4)}"


class Appending(NamedTuple):
    """Entries to append: the index of the first, the tree afterwards, and the steps; the first one is a condition."""

    first: int
    after: Frontier
    steps: list[Step]


class TransparencyLog:
    """Call ``open`` before use. ``published`` is the newest checkpoint of this server.

    ``failures``: how many times ``publish`` has failed.
    """

    def __init__(self, database: Database, guard: LogGuard, signer: NoteSigner, server_id: str) -> None:
        self._database = database
        self._guard = guard
        self._signer = signer
        self._server_id = server_id
        self._refusal: ConfigError | None = None
        # The tree after our last append, which may have been rolled back, or followed by another server's.
        self._expected = Frontier()
        self._publishing = asyncio.Lock()
        self.published = Checkpoint("", 0, b"")
        self.failures = 0

    async def open(self, trust_domain: TrustDomain) -> None:
        """Begin the log at the first start, and check the present one. Raises ConfigError, StoreError."""
        async with self._database.write() as tx:
            await transparency.create_state(tx, new_origin(trust_domain))
            origin = (await transparency.read_state(tx)).origin
            key = str(NoteKey.of(origin, self._signer))
            has_signed = key in await transparency.known_log_keys(tx, origin)
        last = await asyncio.to_thread(self._guard.load)
        if last is None and has_signed:
            raise ConfigError(
                f"{self._guard.path}: missing, though this server has signed the transparency log {origin}: without it"
                f" a restored data store could not be noticed. Restore the file. {_WAY_ON}"
            )
        if last is not None:
            self.published = last
        await self.publish()
        if not has_signed:
            async with self._database.write() as tx:
                await transparency.add_log_key(tx, key, origin, self._server_id)

    async def append(self, tx: AsyncConnection, entries: Sequence[bytes]) -> int:
        """Append the entries in this transaction, and return the index of the first.

        It should come last in the transaction, since other writers of the log wait until that ends. Raises ConfigError
        if the log no longer continues what this server has signed, and StoreError.
        """
        appending = self.plan(entries)
        if not await run_steps(tx, appending.steps):
            await self.catch_up(tx)
            appending = self.plan(entries)
            await run_steps(tx, appending.steps)
        self.appended(appending)
        return appending.first

    def plan(self, entries: Sequence[bytes]) -> Appending:
        """What ``append`` does, if the tree is the expected one. Raises ConfigError as that does."""
        if self._refusal is not None:
            raise self._refusal
        before = self._expected
        after, nodes = before.append([leaf_hash(entry) for entry in entries])
        return Appending(before.size, after, transparency.append_steps(before, entries, after, nodes))

    async def catch_up(self, tx: AsyncConnection) -> None:
        """Expect the present tree, which stays so until the transaction ends. Raises ConfigError, StoreError."""
        present = (await transparency.read_state(tx, lock=True)).frontier
        if present.size < self.published.size:
            raise self._refuse(f"it has {present.size} leaves")
        self._expected = present

    def appended(self, appending: Appending) -> None:
        """The steps of this plan are done."""
        self._expected = appending.after

    @property
    def size(self) -> int:
        """The leaves of the tree that this server knows of."""
        return self._expected.size

    @property
    def has_grown(self) -> bool:
        """Whether entries may have been appended since ``publish``."""
        return self._database.shared or self._expected.size != self.published.size

    @property
    def has_refused(self) -> bool:
        """Whether its tree does not continue what this server has signed, so that nothing is appended or signed."""
        return self._refusal is not None

    async def publish(self) -> Checkpoint:
        """Sign the present tree, and store the checkpoint for readers. Raises ConfigError, StoreError.

        The guard's file is written before the signature can be read by anybody.
        """
        try:
            return await self._publish()
        except MeshtlsError:
            self.failures += 1
            raise

    async def _publish(self) -> Checkpoint:
        async with self._publishing:
            async with self._database.read() as tx:
                state = await transparency.read_state(tx)
                await self._check(tx, state)
            present = Checkpoint(state.origin, state.frontier.size, state.frontier.root)
            signed = bool(state.note) and state.signed_size == present.size
            note = Note.parse(state.note.encode()) if signed else sign_note(present.text, state.origin, self._signer)
            if note.text != present.text:
                raise self._refuse(f"it was signed with another root at {present.size} leaves")
            if present != self.published:
                await asyncio.to_thread(self._guard.store, str(note))
                self.published = present
            if not signed:
                async with self._database.write() as tx:
                    await transparency.store_checkpoint(tx, state.origin, present.size, str(note))
            # An append that went on beside this one may have gone further already: then the next call signs its tree.
            if state.frontier.size > self._expected.size:
                self._expected = state.frontier
            return present

    async def consistency(self, old: int) -> tuple[list[bytes], Note]:
        """The proof from ``old`` leaves to the newest signed checkpoint, and that. Raises RequestError, StoreError."""
        async with self._database.read() as tx:
            state = await transparency.read_state(tx)
            return await _proof(tx, old, state.signed_size), Note.parse(state.note.encode())

    async def add_cosignatures(self, note: Note, cosignatures: Sequence[NoteSignature]) -> None:
        """Add the signatures of witnesses to this checkpoint if it is still the newest. Raises StoreError."""
        async with self._database.write() as tx:
            state = await transparency.read_state(tx, lock=True)
            stored = Note.parse(state.note.encode())
            if stored.text == note.text:
                whole = str(stored.with_signatures(cosignatures))
                await transparency.store_checkpoint(tx, state.origin, state.signed_size, whole)

    async def _check(self, tx: AsyncConnection, state: LogState) -> None:
        last, tree = self.published, state.frontier
        if not last.origin:
            return
        if last.origin != state.origin:
            raise self._refuse(f"it is the log {state.origin}")
        try:
            proof = await _proof(tx, last.size, tree.size) if last.size <= tree.size else []
            verify_consistency(last.size, last.root, tree.size, tree.root, proof)
        except LogProofError as error:
            raise self._refuse(f"it has {tree.size} leaves: {error}") from error

    def _refuse(self, found: str) -> ConfigError:
        self._refusal = ConfigError(
            f"transparency log: this server has signed {self.published} ({self._guard.path}), which the log in the data"
            f" store {self._database.where} does not continue: {found}. The data store was restored from a backup, or"
            f" is another one. Nothing is issued, as its log would be a fork. {_WAY_ON}"
        )
        log.error("%s", self._refusal)
        return self._refusal

    def __repr__(self) -> str:
        state = "refused" if self._refusal else f"{self._expected.size} leaves, {self.published.size} signed"
        return f"<TransparencyLog {self.published.origin} [{state}]>"


async def _proof(tx: AsyncConnection, old: int, new: int) -> list[bytes]:
    ranges = consistency_ranges(old, new)
    tiles = {tile: await transparency.tile_content(tx, tile) for tile in tiles_for(ranges, new)}
    return proof_from(ranges, new, tiles)
