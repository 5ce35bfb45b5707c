"""The newest checkpoint that this server has signed, in a file beside the data store, not in it.

A data store that is restored from a backup knows nothing of the leaves that came later. If the server appended others
and signed, its log would have forked. This file knows: the log of the data store has to continue its checkpoint.
"""

from __future__ import annotations

import os
from pathlib import Path

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.note import Note
from meshtls.errors import ConfigError, RequestError
from meshtls.private_files import read_secret, replace_secrets, sync_directory

__all__ = ["LogGuard", "stored_checkpoint"]

_FILE = "transparency-log.checkpoint"


class LogGuard:
    """The file in a server's data directory. Its calls block for the disk."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / _FILE

    def load(self) -> Checkpoint | None:
        """None where there is no file. Raises ConfigError."""
        return stored_checkpoint(self.path)

    def store(self, note: str) -> None:
        """Replace the checkpoint, durably. Raises ConfigError; the old one then stays."""
        replace_secrets({self.path: note.encode()})

    def set_aside(self, name: str) -> Path | None:
        """Rename the file, which then guards nothing any more, and return its new path. Raises OSError."""
        if not self.path.exists():
            return None
        aside = self.path.with_name(f"{_FILE}.{name}")
        self.path.rename(aside)
        sync_directory(aside.parent)
        return aside


def stored_checkpoint(path: Path) -> Checkpoint | None:
    """The checkpoint of the signed note in this file, None where there is no file. Raises ConfigError."""
    if not os.path.lexists(path):
        return None
    try:
        return Checkpoint.parse(Note.parse(read_secret(path, "the log's newest checkpoint")).text)
    except RequestError as error:
        raise ConfigError(f"{path}: {error}; restore the file from a backup") from error
