"""The TLS secrets of a running sidecar, by its admin socket; it gives them only if it writes a key log."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from meshtls.admin.asking import Interface, ask, processes_at
from meshtls.cli.admin.client import VARIABLE, named_sockets, socket_in_file
from meshtls.errors import ConfigError, RequestError

__all__ = ["SidecarKeys"]


class SidecarKeys:
    """A KeySource. Secrets from before are taken, too, for connections that go on."""

    def __init__(self, named: str) -> None:
        """``named``: the sidecar's file, its admin socket, or its name, if MESHTLS_ADMIN_INTERFACE names the socket.

        Raises ConfigError, RequestError where it refuses.
        """
        self._at = _interface(named)
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


def _interface(named: str) -> Interface:
    path = Path(named)
    if _is_socket(path):
        return processes_at(path)[0]
    if path.exists() or os.sep in named or path.suffix:
        return processes_at(socket_in_file(path))[0]
    return asyncio.run(_of_name(named))


async def _of_name(name: str) -> Interface:
    """The process whose sidecar has this name, of those at the sockets in the environment."""
    interfaces = [one for path in named_sockets() for one in processes_at(path)]
    if not interfaces:
        raise ConfigError(
            f"--sidecar {name}: wanted the file of a sidecar, its admin socket, or its name with {VARIABLE} set to the"
            " paths of admin sockets; it is no file here, and the variable is not set"
        )
    others: list[str] = []
    for one in interfaces:
        try:
            found = (await ask(one, "/connections", {"limit": "1", "state": "live"})).get("sidecar")
        except (ConfigError, RequestError) as error:
            others.append(str(error))
            continue
        if found == name:
            return one
        others.append(f"{one.name}: sidecar {found}" if found is not None else f"{one.name}: no sidecar")
    raise ConfigError(f"--sidecar {name}: no sidecar of {VARIABLE} has this name: {'; '.join(others)}")


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
