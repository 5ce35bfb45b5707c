"""The headers that a collector wants, from a file that only the sidecar's user can read. Their values are secret."""

from __future__ import annotations

from pathlib import Path

from meshtls.errors import ConfigError
from meshtls.private_files import read_secret
from meshtls.wire.http_rules import is_token

__all__ = ["read_headers"]

_MOST_BYTES = 1 << 16
#: Said by the client itself.
_OURS = frozenset(("content-length", "content-type", "connection", "host", "transfer-encoding"))


def read_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """One header a line, such as ``authorization: Bearer ...``; empty lines are left out.

    Raises ConfigError, whose message has no part of a value.
    """
    content = read_secret(path, "tokens")
    try:
        lines = content[:_MOST_BYTES].decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: wanted headers in ASCII, one a line") from error
    return tuple(_header(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())


def _header(line: str, where: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or not is_token(name) or not value.isprintable() or not value:
        raise ConfigError(f"{where}: wanted a header such as authorization: Bearer TOKEN")
    if name in _OURS:
        raise ConfigError(f"{where}: wanted another header than {name}, which the sidecar writes itself")
    return name, value
