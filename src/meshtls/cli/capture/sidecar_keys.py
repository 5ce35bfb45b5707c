"""The TLS secrets of a running sidecar, by its admin socket; it gives them only if it writes a key log."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from meshtls.admin.asking import Interface, ask, processes_at
from meshtls.cli.admin.client import socket_in_file
from meshtls.errors import ConfigError, RequestError

__all__ = ["SidecarKeys"]


class SidecarKeys:
    """A KeySource. Secrets from before are taken, too, for connections that go on."""

    def __init__(self, path: Path) -> None:
        """``path``: the sidecar's file, or its admin socket. Raises ConfigError, RequestError where it refuses."""
        self._at: Interface = processes_at(path if _is_socket(path) else socket_in_file(path))[0]
        self._next = 0
        self._first = self._asked()

    def more(self) -> bytes:
        """The lines that came since."""
        first, self._first = self._first, b""
        try:
            return first or self._asked()
        except RequestError as error:
            raise ConfigError(str(error)) from error

    def close(self) -> None:
        """Nothing is open between two questions."""

    def _asked(self) -> bytes:
        record = asyncio.run(ask(self._at, "/tls_keys", {"from": str(self._next)}))
        lines, following = record.get("lines"), record.get("next")
        if not isinstance(lines, str) or not isinstance(following, int):
            raise ConfigError(
                f"{self._at.name}: wanted TLS secrets, got another answer; is it a sidecar of this version?"
            )
        self._next = following
        return lines.encode("ascii", "replace")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
