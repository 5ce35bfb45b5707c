"""The TLS secrets of a running sidecar, by its admin socket; it gives them only if it writes a key log."""

from __future__ import annotations

import asyncio

from meshtls.admin.asking import ask
from meshtls.cli.admin.sidecar_named import sidecar_interfaces
from meshtls.errors import ConfigError, RequestError

__all__ = ["SidecarKeys"]


class SidecarKeys:
    """A KeySource. Secrets from before are taken, too, for connections that go on."""

    def __init__(self, named: str) -> None:
        """``named``: the sidecar's file, its admin socket, or its name, if MESHTLS_ADMIN_INTERFACE names the socket.

        Raises ConfigError, RequestError where it refuses.
        """
        self._at = sidecar_interfaces(named)[0]
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
