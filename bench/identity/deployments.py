"""A server, an agent and their entries, of meshtls and of SPIRE, for measurements that treat both alike."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.certificates import TRUST_DOMAIN
from bench.identity.figures import MissingError, UnmeasuredError
from bench.identity.site import (
    ME,
    Place,
    RunningAgent,
    RunningServer,
    agent_of,
    entry,
    id_at,
    last_line,
    opened_server,
)
from bench.peers.spire import find_spire, spire_agent_config, spire_server_config
from bench.processes import free_ports, started
from meshtls.spiffeid import SpiffeId

__all__ = ["Deployment", "meshtls_deployment", "spire_deployment"]

_START_S = 90.0
_COMMAND_S = 120.0
_LOOK_S = 0.05


class Deployment(Protocol):
    """A running server with one agent. ``address`` is that of the agent's Workload API."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def server_pid(self) -> int: ...
    @property
    def agent_pid(self) -> int: ...
    async def create(self, paths: Sequence[str]) -> list[str]:
        """Create an entry for each path, with the uid of this process as selector. Returns the entries' IDs."""

    async def delete(self, ids: Sequence[str]) -> None:
        """Delete entries."""


@dataclass(frozen=True, slots=True)
class _Meshtls:
    name: str
    server: RunningServer
    agent: RunningAgent
    parent: SpiffeId

    @property
    def address(self) -> str:
        return self.agent.address

    @property
    def server_pid(self) -> int:
        return self.server.pid

    @property
    def agent_pid(self) -> int:
        return self.agent.pid

    async def create(self, paths: Sequence[str]) -> list[str]:
        made = await self.server.admin.create_entries([entry(path, self.parent) for path in paths])
        return [one.id for one in made]

    async def delete(self, ids: Sequence[str]) -> None:
        await self.server.admin.delete_entries(list(ids))


@dataclass(frozen=True, slots=True)
class _Spire:
    name: str
    directory: Path
    parent: str
    server_pid: int
    agent_pid: int

    @property
    def address(self) -> str:
        return f"unix://{self.directory}/agent.sock"

    async def create(self, paths: Sequence[str]) -> list[str]:
        kind, _, value = ME.partition(":")
        selectors = [{"type": kind, "value": value}]
        wanted = [{"selectors": selectors, "spiffe_id": str(id_at(path)), "parent_id": self.parent} for path in paths]
        made = await self._results("create", "-data", {"entries": wanted})
        return [one["entry"]["id"] for one in made]

    async def delete(self, ids: Sequence[str]) -> None:
        await self._results("delete", "-file", {"ids": list(ids)})

    async def _results(self, act: str, flag: str, given: dict[str, object]) -> list[Any]:
        command = ["entry", act, flag, "-", "-output", "json"]
        said = json.loads(await asyncio.to_thread(_tell, self.directory, command, json.dumps(given)))
        results: list[Any] = said["results"]
        if failed := [one["status"] for one in results if one["status"]["code"] != 0]:
            raise UnmeasuredError(f"spire-server entry {act}: wanted status OK, got {failed[0]}")
        return results


@asynccontextmanager
async def meshtls_deployment(directory: Path) -> AsyncIterator[Deployment]:
    """``meshtls server run`` and ``meshtls agent run`` with their defaults, over SQLite."""
    async with opened_server(Place.make(directory)) as server:
        token = await server.admin.create_join_token()
        async with agent_of(server, token, (await server.admin.bundle()).to_pem()) as agent:
            yield _Meshtls("meshtls", server, agent, token.agent_id)


@asynccontextmanager
async def spire_deployment(name: str, directory: Path, interval: str | None) -> AsyncIterator[Deployment]:
    """``spire-server run`` and ``spire-agent run``, over SQLite.

    ``interval`` is a Go duration, of the server's looks at its store and of the agent's at the server; None for SPIRE's
    own. Raises MissingError without SPIRE, UnmeasuredError with the last line of a program that does not start.
    """
    server, agent = _program("spire-server"), _program("spire-agent")
    _write_configs(directory, interval)
    log = directory / "server.out"
    with started([server, "run", "-config", str(directory / "server.conf")], log) as serving:
        await _until_healthy(serving, server, directory / "server.sock", log)
        token = json.loads(_tell(directory, ["token", "generate", "-output", "json"]))["value"]
        (directory / "bundle.pem").write_text(_tell(directory, ["bundle", "show"]))
        log = directory / "agent.out"
        argv = [agent, "run", "-config", str(directory / "agent.conf"), "-joinToken", token]
        with started(argv, log) as attested:
            await _until_healthy(attested, agent, directory / "agent.sock", log)
            parent = str(id_at(f"/spire/agent/join_token/{token}"))
            yield _Spire(name, directory, parent, serving.pid, attested.pid)


def _write_configs(directory: Path, interval: str | None) -> None:
    directory.mkdir(mode=0o755, parents=True)
    port = free_ports(1)[0]
    for what, config in {"server": spire_server_config, "agent": spire_agent_config}.items():
        (directory / f"{what}.conf").write_text(config(directory, str(TRUST_DOMAIN), port, interval))


def _program(name: str) -> str:
    if (found := find_spire(name)) is None:
        raise MissingError(f"no {name} here; set MESHTLS_SPIRE_BIN to its directory, or put it on PATH")
    return str(Path(found).resolve())


def _tell(directory: Path, command: Sequence[str], given: str = "") -> str:
    argv = [_program("spire-server"), *command, "-socketPath", f"{directory}/server.sock"]
    said = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
    if said.returncode != 0:
        raise UnmeasuredError(f"spire-server {' '.join(command)}: {(said.stderr or said.stdout).strip()}")
    return said.stdout


async def _until_healthy(process: subprocess.Popen[str], program: str, socket: Path, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    argv = [program, "healthcheck", "-socketPath", str(socket)]
    while (await asyncio.to_thread(subprocess.run, argv, capture_output=True, timeout=_START_S)).returncode != 0:
        if process.poll() is not None:
            raise UnmeasuredError(f"{Path(program).name} ended with status {process.returncode}: {last_line(log)}")
        if time.monotonic() > deadline:
            raise UnmeasuredError(f"{Path(program).name}: wanted it healthy within {_START_S:g} s: {last_line(log)}")
        await asyncio.sleep(_LOOK_S)
