"""The ID of a server in its store: a random UUID in its data directory."""

from __future__ import annotations

import uuid
from pathlib import Path

from meshtls.errors import ConfigError
from meshtls.private_files import read_secret, replace_secrets

__all__ = ["server_id_in"]


def server_id_in(data_dir: Path) -> str:
    """The ID in this directory, chosen at the first start. Raises ConfigError."""
    path = data_dir / "server-id"
    if not path.exists():
        replace_secrets({path: str(uuid.uuid4()).encode()})
    try:
        return str(uuid.UUID(read_secret(path, "the server's ID").decode().strip()))
    except ValueError as error:
        raise ConfigError(f"{path}: wanted this server's UUID; restore the file, or remove it for a new one") from error
