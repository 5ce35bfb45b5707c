"""Finds a running sidecar by what ``--sidecar FILE|SOCKET|NAME`` says."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from meshtls.admin.asking import Interface, ask, processes_at
from meshtls.cli.admin.of_file import interfaces_of_file
from meshtls.cli.admin.sockets import VARIABLE, named_sockets
from meshtls.errors import ConfigError, RequestError

__all__ = ["names_a_file", "running_sidecar", "sidecar_interfaces"]


def sidecar_interfaces(named: str) -> list[Interface]:
    """Where a sidecar answers, by its file, its admin socket, or its name among those of MESHTLS_ADMIN_INTERFACE.

    Raises ConfigError where none is found, or where another process than that of the file answers.
    """
    if names_a_file(named):
        return interfaces_of_file(Path(named))
    return asyncio.run(running_sidecar(named))


def names_a_file(named: str) -> bool:
    """Whether this is the path of a sidecar's file, and neither an admin socket nor a name. The file may be missing."""
    path = Path(named)
    return not _is_socket(path) and (path.exists() or os.sep in named or bool(path.suffix))


async def running_sidecar(named: str) -> list[Interface]:
    """Where a sidecar answers, by its admin socket or its name. Raises ConfigError where none is found."""
    path = Path(named)
    return processes_at(path) if _is_socket(path) else [await _of_name(named)]


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
