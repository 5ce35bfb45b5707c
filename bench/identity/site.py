"""Servers and agents in separate processes, started as a user starts them, and their clients."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import TRUST_DOMAIN
from bench.clocks import cpu_seconds
from bench.identity.figures import UnmeasuredError
from bench.processes import free_ports, started
from meshtls.registration import Entry, Selector
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.values import JoinToken
from meshtls.spiffeid import SpiffeId

__all__ = [
    "ME",
    "OTHER",
    "SERVED",
    "STOLEN",
    "Place",
    "RunningAgent",
    "RunningServer",
    "agent_of",
    "allow_descriptors",
    "entry",
    "id_at",
    "last_line",
    "opened_server",
    "until_answers",
]

ME = f"unix:uid:{os.getuid()}"
#: Of sidecars, of a workload whose SVID was stolen, and of one that goes on.
SERVED, STOLEN, OTHER = (SpiffeId(TRUST_DOMAIN, f"/{name}") for name in ("served", "stolen", "other"))
_START_S = 120.0
_LOOK_S = 0.005


@dataclass(frozen=True, slots=True)
class Place:
    """A server's directory and ports, where it may be started repeatedly."""

    directory: Path
    port: int
    attest_port: int

    @classmethod
    def make(cls, directory: Path) -> Place:
        directory.mkdir(mode=0o755, parents=True)
        return cls(directory, *free_ports(2))

    @property
    def socket_path(self) -> Path:
        return self.directory / "admin.sock"

    @property
    def log(self) -> Path:
        return self.directory / "server.out"

    def config(self) -> Path:
        """The file of its configuration, written now."""
        file = self.directory / "server.yaml"
        said = {
            "trust_domain": str(TRUST_DOMAIN),
            "data_dir": str(self.directory / "data"),
            "socket_path": str(self.socket_path),
            "bind_port": self.port,
            "attest_port": self.attest_port,
        }
        file.write_text(json.dumps(said))  # JSON is YAML too
        return file


@dataclass(frozen=True, slots=True)
class RunningServer:
    """``seconds`` and ``cpu_seconds`` are the time and CPU from the start of the process to its first response."""

    place: Place
    admin: AdminClient
    pid: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """``address`` is that of its Workload API."""

    address: str
    pid: int


def id_at(path: str) -> SpiffeId:
    return SpiffeId(TRUST_DOMAIN, path)


def entry(path: str, parent: SpiffeId, *selectors: str) -> Entry:
    """An entry, by default with the selector of the user that measures."""
    wanted = tuple(map(Selector.parse, selectors or (ME,)))
    return Entry(spiffe_id=id_at(path), parent_id=parent, selectors=wanted)


@asynccontextmanager
async def opened_server(place: Place) -> AsyncIterator[RunningServer]:
    """``meshtls server run``, ready. Raises UnmeasuredError with its last output."""
    began = time.perf_counter()
    with started(_meshtls("server", place.config()), place.log) as process:
        await until_answers(place.socket_path, process, place.log)
        seconds = time.perf_counter() - began
        with closing(local_channel(place.socket_path)) as channel:
            yield RunningServer(place, AdminClient(channel), process.pid, seconds, cpu_seconds([process.pid]))


@asynccontextmanager
async def agent_of(server: RunningServer, token: JoinToken, bundle_pem: bytes) -> AsyncIterator[RunningAgent]:
    """``meshtls agent run``, its socket open. Raises UnmeasuredError with its last output."""
    directory = server.place.directory
    bundle, file, path = directory / "bundle.pem", directory / "agent.yaml", directory / "agent.sock"
    said = {
        "trust_domain": str(TRUST_DOMAIN),
        "server_address": "127.0.0.1",
        "server_port": server.place.port,
        "attest_port": server.place.attest_port,
        "trust_bundle_path": str(bundle),
        "socket_path": str(path),
        "join_token": token.token,
        "data_dir": str(directory / "agent"),
    }
    _write(bundle, bundle_pem)
    _write(file, json.dumps(said).encode())
    log = directory / "agent.out"
    with started(_meshtls("agent", file), log) as process:
        await until_answers(path, process, log)
        yield RunningAgent(f"unix://{path}", process.pid)


def allow_descriptors(wanted: int) -> None:
    """Raise this process's limit, and that of those it starts, to this many, or as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))


async def until_answers(path: Path, process: subprocess.Popen[str], log: Path) -> None:
    """Wait until a process listens on this socket. Raises UnmeasuredError."""
    deadline = time.monotonic() + _START_S
    while not _answers(path):
        if process.poll() is not None:
            raise UnmeasuredError(f"{log.stem} ended with status {process.returncode}: {last_line(log)}")
        if time.monotonic() > deadline:
            raise UnmeasuredError(f"{path}: wanted somebody to answer there within {_START_S:g} s")
        await asyncio.sleep(_LOOK_S)


def last_line(log: Path) -> str:
    """The last line of a process's log."""
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it said nothing"


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _meshtls(what: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "meshtls", what, "run", "--config", str(config)]
