"""The mesh: a server with its store on disk, an agent, and three sidecars that get their identities from it.

``web`` calls ``db`` over mutual TLS, with a connection for each call and through a tunnel, and ``brief``, which calls
``db``. The SVIDs of web and db outlive every outage. Their entries are changed every two seconds, and each change
makes new SVIDs: no call between these two may ever fail. The SVIDs of ``brief`` are as short as a busy machine can
renew in time, and end in long outages.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.identity.site import until_answers
from meshtls.bundle import TrustBundle
from meshtls.registration import Entry, Selector
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.soak.programs import Program, running
from tests.support.agent import SELF, http_get
from tests.support.ports import free_ports

__all__ = ["ALLOWED", "BRIEF_TTL", "DOMAIN", "FLOWS", "LONG_TTL", "WORKLOADS", "Flow", "Mesh", "id_of", "running_mesh"]

DOMAIN = TrustDomain("example.org")
WORKLOADS = ("web", "db", "brief", "outsider")
#: Seconds. An entry's TTL may be 1 s, but a renewal has only half of the lifetime: with 6 s, a machine with a load of
#: 12 on two cores was once a moment too late.
LONG_TTL, BRIEF_TTL = 60, 12
#: Each is renewed at half-life. An agent that is disconnected for longer than the other half can't return, since its
#: join token is used up: that is longer than an outage on a busy machine. The CA's has to be twice the agent's.
_CA_TTL, _AGENT_TTL = "180s", "90s"
_READY_S = 90.0


@dataclass(frozen=True, slots=True)
class Flow:
    """Friendly connections from one workload's app to another's; ``inbound`` is the far sidecar's listener."""

    name: str
    caller: str
    callee: str
    tunnel: bool = False

    @property
    def ends(self) -> tuple[str, str]:
        return self.caller, self.callee


FLOWS = (
    Flow("web to db", "web", "db"),
    Flow("web to db by tunnel", "web", "db", tunnel=True),
    Flow("web to brief", "web", "brief"),
    Flow("brief to db", "brief", "db"),
)
#: The callers that the listeners of these flows allow; the two flows to db without a tunnel use one listener.
ALLOWED = {("db", False): ("web", "brief"), ("db", True): ("web",), ("brief", False): ("web",)}


def id_of(workload: str) -> SpiffeId:
    return SpiffeId(DOMAIN, f"/{workload}")


@dataclass(frozen=True, slots=True)
class Mesh:
    """``inbound`` and ``apps`` are ports by (workload, tunnel), ``outbound`` by flow, ``health`` by workload."""

    directory: Path
    server: Program
    agent: Program
    sidecars: tuple[Program, ...]
    bundle: TrustBundle
    entries: dict[str, Entry]
    ports: dict[Any, int]

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.server, self.agent, *self.sidecars

    @property
    def admin_socket(self) -> Path:
        return self.directory / "admin.sock"

    @property
    def workload_socket(self) -> Path:
        return self.directory / "agent.sock"

    def outbound(self, flow: Flow) -> tuple[str, int]:
        """The address that the caller's app dials."""
        return "127.0.0.1", self.ports["outbound", flow.name]

    def inbound(self, listener: tuple[str, bool]) -> tuple[str, int]:
        """The address that peers and strangers dial."""
        return "127.0.0.1", self.ports["inbound", listener]

    def app(self, listener: tuple[str, bool]) -> int:
        return self.ports["app", listener]

    @property
    def server_port(self) -> tuple[str, int]:
        return "127.0.0.1", self.ports["server"]

    @property
    def attest_port(self) -> tuple[str, int]:
        return "127.0.0.1", self.ports["attest"]

    async def unready(self) -> list[str]:
        """The problems that the sidecars report, a failing renewal among them."""
        said = [await _readiness(self.ports["health", sidecar.name]) for sidecar in self.sidecars]
        return [
            f"{sidecar.name}: {words}"
            for sidecar, words in zip(self.sidecars, said, strict=True)
            if not _is_well(words)
        ]


@asynccontextmanager
async def running_mesh(directory: Path) -> AsyncIterator[Mesh]:
    """The whole mesh, ready. Raises UnmeasuredError with a program's last output."""
    ports = _ports()
    admin_socket, agent_socket = directory / "admin.sock", directory / "agent.sock"
    server = _program(directory, "server", _server(directory, ports), admin_socket)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(running(server))
        with closing(local_channel(admin_socket)) as channel:
            admin = AdminClient(channel)
            token = await admin.create_join_token()
            bundle = await admin.bundle()
            wanted = [_entry(name, token.agent_id) for name in WORKLOADS]
            made = await admin.create_entries(wanted)
        _write(directory / "bundle.pem", bundle.to_pem())
        agent = _program(directory, "agent", _agent(directory, ports, token.token), agent_socket)
        await stack.enter_async_context(running(agent))
        entries = {one.spiffe_id.path.removeprefix("/"): one for one in made}
        names = ("web", "db", "brief")
        sidecars = tuple(_sidecar(directory, name, ports) for name in names)
        for sidecar in sidecars:
            await stack.enter_async_context(running(sidecar))
        yield Mesh(directory, server, agent, sidecars, bundle, entries, ports)


def _ports() -> dict[Any, int]:
    names = [
        "server",
        "attest",
        *(("outbound", flow.name) for flow in FLOWS),
        *((kind, listener) for kind in ("inbound", "app") for listener in ALLOWED),
        *(("health", name) for name in ("web", "db", "brief")),
    ]
    return dict(zip(names, free_ports(len(names)), strict=True))


def _server(directory: Path, ports: dict[Any, int]) -> dict[str, Any]:
    return {
        "trust_domain": str(DOMAIN),
        "data_dir": str(directory / "server"),
        "socket_path": str(directory / "admin.sock"),
        "bind_port": ports["server"],
        "attest_port": ports["attest"],
        "ca_ttl": _CA_TTL,
        "agent_ttl": _AGENT_TTL,
        "default_x509_svid_ttl": f"{LONG_TTL}s",
    }


def _agent(directory: Path, ports: dict[Any, int], token: str) -> dict[str, Any]:
    return {
        "trust_domain": str(DOMAIN),
        "server_address": "127.0.0.1",
        "server_port": ports["server"],
        "attest_port": ports["attest"],
        "trust_bundle_path": str(directory / "bundle.pem"),
        "socket_path": str(directory / "agent.sock"),
        "join_token": token,
        "data_dir": str(directory / "agent"),
    }


def _entry(workload: str, parent: SpiffeId) -> Entry:
    ttl = BRIEF_TTL if workload == "brief" else LONG_TTL
    return Entry(spiffe_id=id_of(workload), parent_id=parent, selectors=(Selector.parse(SELF),), x509_svid_ttl=ttl)


def _program(directory: Path, name: str, config: dict[str, Any], path: Path) -> Program:
    """A server or an agent, which is ready once it responds on this socket."""
    file = directory / f"{name}.yaml"
    _write(file, json.dumps(config).encode())  # JSON is YAML too

    async def ready(process: Any, log: Path) -> None:
        await until_answers(path, process, log)

    return Program(name, [name, "run", "--config", str(file)], directory / f"{name}.out", ready)


def _sidecar(directory: Path, name: str, ports: dict[Any, int]) -> Program:
    config = {
        "name": name,
        "spiffe_id": str(id_of(name)),
        "identity": {"workload_api": f"unix://{directory}/agent.sock"},
        "inbound": [
            {
                "listen": f"127.0.0.1:{ports['inbound', (callee, tunnel)]}",
                "app": f"127.0.0.1:{ports['app', (callee, tunnel)]}",
                "allow": [str(id_of(one)) for one in allowed],
                "tunnel": tunnel,
            }
            for (callee, tunnel), allowed in ALLOWED.items()
            if callee == name
        ],
        "outbound": [
            {
                "listen": f"127.0.0.1:{ports['outbound', flow.name]}",
                "to": f"127.0.0.1:{ports['inbound', (flow.callee, flow.tunnel)]}",
                "peer": str(id_of(flow.callee)),
                "tunnel": flow.tunnel,
            }
            for flow in FLOWS
            if flow.caller == name
        ],
        "health": f"127.0.0.1:{ports['health', name]}",
    }
    config = {key: value for key, value in config.items() if value != []}
    file = directory / f"{name}.yaml"
    _write(file, json.dumps(config).encode())

    async def ready(process: Any, log: Path) -> None:
        deadline = time.monotonic() + _READY_S
        while not _is_well(said := await _readiness(ports["health", name])):
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"sidecar {name} is not ready: {said}; see {log}")
            await asyncio.sleep(0.1)

    return Program(name, ["sidecar", "run", "--config", str(file)], directory / f"{name}.out", ready)


def _is_well(readiness: str) -> bool:
    """Whether a sidecar has an identity and a connection to its agent; a short-lived SVID always expires soon."""
    return readiness.startswith("ready") and "failing" not in readiness


async def _readiness(port: int) -> str:
    try:
        async with asyncio.timeout(_READY_S):
            return (await http_get(port, "/ready"))[1].strip()
    except OSError as error:
        return str(error)


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
