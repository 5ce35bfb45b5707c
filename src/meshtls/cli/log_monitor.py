"""Watches a log for SVIDs of one identity, and remembers how far it has come."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec
from cryptography import x509

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.leaf import Leaf, LeafKind
from meshtls.errors import ConfigError, LogProofError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import read_secret, replace_secrets
from meshtls.serverapi.log_reader import LogReader
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial

__all__ = ["Finding", "Monitor", "known_serials"]

_SVIDS = (LeafKind.X509_SVID, LeafKind.JWT_SVID)
#: A leaf's index and entry, and why it was not expected.
Finding = tuple[int, bytes, str]


class _State(msgspec.Struct, frozen=True, kw_only=True):
    origin: str
    size: int
    peaks: str
    #: Leaves that were unknown at the last look, which the owner may just have received.
    suspects: list[tuple[int, str]] = []


class Monitor:
    """Watches the log for the SVIDs of one identity. Continues from the ``state`` file if there is one. Raises
    ConfigError.
    """

    def __init__(self, spiffe_id: SpiffeId, agents: Collection[SpiffeId], state: Path | None) -> None:
        self._spiffe_id = str(spiffe_id)
        self._agents = frozenset(map(str, agents))
        self._path = state
        self._tree = Frontier()
        self._origin = ""
        self._suspects: list[tuple[int, bytes]] = []
        if state is not None and os.path.lexists(state):
            self._load(state)

    async def look(
        self, reader: LogReader, checkpoint: Checkpoint, known: Callable[[], Collection[str]], *, patient: bool
    ) -> list[Finding]:
        """What is new and not expected. Raises LogProofError where the log is not the one that was seen before.

        If ``patient``, an SVID that nobody knows is told of at the next look, since its owner may not have it yet.
        """
        if self._origin and checkpoint.origin != self._origin:
            raise LogProofError(
                f"the log is now {checkpoint.origin}, and was {self._origin}: ask its operators why it was abandoned;"
                f" then begin anew without {self._path}"
            )
        tree = self._tree
        mine: list[tuple[int, bytes]] = []
        async for part in reader.read(tree, checkpoint):
            mine += [(index, entry) for index, entry in enumerate(part.entries, part.start) if self._concerns(entry)]
            tree = part.tree
        serials = known()
        old, new = self._unexpected(self._suspects, serials), self._unexpected(mine, serials)
        self._tree, self._origin = tree, checkpoint.origin
        self._suspects = [(index, entry) for index, entry, _ in new] if patient else []
        return old if patient else [*old, *new]

    def save(self) -> None:
        """Store the progress, durably. Raises ConfigError."""
        if self._path is None:
            return
        state = _State(
            origin=self._origin,
            size=self._tree.size,
            peaks=base64.b64encode(self._tree.to_bytes()).decode(),
            suspects=[(index, base64.b64encode(entry).decode()) for index, entry in self._suspects],
        )
        replace_secrets({self._path: msgspec.json.encode(state)})

    def _load(self, path: Path) -> None:
        try:
            state = msgspec.json.decode(read_secret(path, "the monitor's state"), type=_State)
            self._tree = Frontier.from_bytes(state.size, base64.b64decode(state.peaks, validate=True))
            self._suspects = [(index, base64.b64decode(entry, validate=True)) for index, entry in state.suspects]
        except (msgspec.DecodeError, ValueError, LogProofError) as error:
            raise ConfigError(f"{path}: wanted the state of `meshtls log monitor`: {error}; remove the file") from error
        self._origin = state.origin

    def _concerns(self, entry: bytes) -> bool:
        try:
            leaf = Leaf.parse(entry)
        except RequestError as error:
            raise LogProofError(f"the log has a leaf that is none of its kind: {error}") from error
        return leaf.kind in _SVIDS and leaf.spiffe_id == self._spiffe_id

    def _unexpected(self, leaves: Iterable[tuple[int, bytes]], serials: Collection[str]) -> list[Finding]:
        found = []
        for index, entry in leaves:
            leaf = Leaf.parse(entry)
            if leaf.agent_id in self._agents or leaf.serial in serials:
                continue
            by = f"agent {leaf.agent_id}" if leaf.agent_id else "an administrator, without an entry"
            found.append((index, entry, f"not among the known ones; requested by {by}"))
        return found


def known_serials(paths: Iterable[Path]) -> frozenset[str]:
    """The serials of the leaf certificates in these PEM files, and in the ``*.pem`` files of these directories.

    Files in directories that are no certificates, such as keys, are left out. Raises ConfigError.
    """
    found = set()
    for path in paths:
        try:
            files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
            for file in files:
                found |= set(_serials(file, whole=not path.is_dir()))
        except OSError as error:
            raise ConfigError(f"--known: {path}: wanted certificates to read: {error.strerror}") from error
    return frozenset(found)


def _serials(file: Path, *, whole: bool) -> list[str]:
    try:
        return [format_serial(one) for one in x509.load_pem_x509_certificates(file.read_bytes())]
    except PARSE_ERRORS as error:
        if whole:
            raise ConfigError(f"--known: {file}: wanted certificates in PEM: {error}") from error
        return []
