"""Reads a transparency log, and verifies all that it reads: over HTTP, or over the server's API.

Nothing is accepted that does not lead to the root of a checkpoint that the log's key has signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from typing import Protocol

from meshtls.ca.tlog.checkpoint import Checkpoint, decimal, opened_checkpoint
from meshtls.ca.tlog.frontier import Frontier, TileNode
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.note import NoteKey
from meshtls.ca.tlog.proof_file import ProofFile
from meshtls.ca.tlog.proofs import Range, inclusion_ranges, peak_ranges, proof_from, tiles_for
from meshtls.ca.tlog.tiles import TILE_WIDTH, Tile, entries_in, entry_tiles
from meshtls.errors import LocalIdentityError, LogProofError, NotFoundError, RequestError
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.log_http import HttpFailureError, http_exchange

__all__ = ["AdminLog", "HttpLog", "LogReader", "LogSource", "Read"]

_SECONDS = 20.0
_POLL_SECONDS = 0.2


class LogSource(Protocol):
    """Where a log's resources come from."""

    async def get(self, path: str) -> bytes:
        """Raises NotFoundError for a path without a resource, LocalIdentityError where there is no answer."""


class HttpLog:
    """A log that is served below this URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def get(self, path: str) -> bytes:
        url = f"{self._url}/{path}"
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await http_exchange("GET", url)
        except HttpFailureError as error:
            raise LocalIdentityError(str(error)) from error
        except TimeoutError as error:
            raise LocalIdentityError(f"{url}: no answer within {_SECONDS:g} s") from error
        if answer.status == 404:
            raise NotFoundError(f"{url}: the log has no such resource")
        if answer.status != 200:
            raise LocalIdentityError(f"{url}: wanted 200, got {answer.status}")
        return answer.body


class AdminLog:
    """The log of a server, through its administrators' API."""

    def __init__(self, api: AdminClient) -> None:
        self._api = api

    async def get(self, path: str) -> bytes:
        return await self._api.read_log(path)


@dataclass(frozen=True, slots=True)
class Read:
    """Entries from index ``start`` on, the tree after them, and the nodes of tiles above level 0 that they complete."""

    start: int
    entries: list[bytes]
    tree: Frontier
    nodes: list[TileNode]


class LogReader:
    """A log whose ``keys`` are trusted, and whose checkpoints ``witnesses`` must all have cosigned."""

    def __init__(self, source: LogSource, keys: Collection[NoteKey], witnesses: Collection[NoteKey] = ()) -> None:
        self._source = source
        self._keys = keys
        self._witnesses = witnesses

    async def checkpoint(self) -> tuple[Checkpoint, bytes]:
        """The newest checkpoint, and its signed note. Raises RequestError, LogProofError, LocalIdentityError."""
        note = await self._source.get("checkpoint")
        checkpoint, _ = opened_checkpoint(note, self._keys, self._witnesses)
        return checkpoint, note

    async def index_of(self, serial: str) -> int:
        """The leaf of the SVID with this serial, as the log says; ``prove`` checks it. Raises NotFoundError."""
        text = (await self._source.get(f"lookup/{serial}")).decode("utf-8", "replace").strip()
        try:
            return decimal(text)
        except ValueError as error:
            raise LogProofError("lookup: wanted the index of a leaf, got another answer") from error

    async def prove(self, index: int, patience: float = 0.0) -> ProofFile:
        """The verified proof of this leaf. Waits up to ``patience`` seconds for a checkpoint that covers it.

        Raises RequestError for a leaf that the log does not have, LogProofError, LocalIdentityError.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            checkpoint, note = await self._covering(deadline)
            if index < checkpoint.size or loop.time() >= deadline:
                break
            await asyncio.sleep(_POLL_SECONDS)
        ranges = inclusion_ranges(index, checkpoint.size)
        tile = next(entry_tiles(index, checkpoint.size))
        entry = entries_in(await self._source.get(tile.path), tile)[index - tile.first]
        proof = ProofFile(index, tuple(await self._hashes(ranges, checkpoint.size)), note, entry)
        proof.verify(self._keys, self._witnesses)
        return proof

    async def tree_at(self, size: int, within: int) -> Frontier:
        """The tree of the first ``size`` of ``within`` leaves; ``read`` from there on proves it."""
        return Frontier(size, tuple(await self._hashes(peak_ranges(size), within)))

    async def read(self, tree: Frontier, checkpoint: Checkpoint) -> AsyncGenerator[Read]:
        """The entries after ``tree`` up to the checkpoint, in parts.

        The last part is only given once the root shows that all of them, and ``tree``, are in the log. Until then a
        part is not proven: act on none before the last. Raises LogProofError, LocalIdentityError.
        """
        if tree.size > checkpoint.size:
            raise LogProofError(f"{checkpoint}: it had {tree.size} leaves before: a log never shrinks")
        pending: Read | None = None
        for tile in entry_tiles(tree.size, checkpoint.size):
            try:
                found = entries_in(await self._source.get(tile.path), tile)
            except RequestError as error:
                raise LogProofError(f"{checkpoint.origin}: {error}") from error
            start = tree.size
            new = found[start - tile.first :]
            tree, nodes = tree.append(map(leaf_hash, new))
            if pending is not None:
                yield pending
            pending = Read(start, new, tree, nodes)
        if tree.root != checkpoint.root:
            raise LogProofError(f"{checkpoint}: its entries lead to another root: the log was rewritten or has forked")
        if pending is not None:
            yield pending

    async def check_tiles(self, size: int, nodes: dict[int, list[bytes]]) -> None:
        """Check that the served tiles above level 0 have these hashes. Raises LogProofError."""
        for level, hashes in nodes.items():
            for first in range(0, len(hashes), TILE_WIDTH):
                row = hashes[first : first + TILE_WIDTH]
                tile = Tile(level, first // TILE_WIDTH, len(row))
                if await self._source.get(tile.path) != b"".join(row):
                    raise LogProofError(f"{tile}: it has other hashes than the entries of the {size} leaves lead to")

    async def _covering(self, deadline: float) -> tuple[Checkpoint, bytes]:
        """The newest checkpoint; one that is not cosigned yet is asked for again until the deadline."""
        while True:
            try:
                return await self.checkpoint()
            except LogProofError:
                if not self._witnesses or asyncio.get_running_loop().time() >= deadline:
                    raise
            await asyncio.sleep(_POLL_SECONDS)

    async def _hashes(self, ranges: list[Range], size: int) -> list[bytes]:
        tiles = tiles_for(ranges, size)
        contents = await asyncio.gather(*(self._source.get(tile.path) for tile in tiles))
        return proof_from(ranges, size, dict(zip(tiles, contents, strict=True)))
