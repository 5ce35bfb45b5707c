"""The mesh of the day: a server, an agent, the app ``db`` behind its sidecar, and the sidecar of ``web``, its caller.

Each is a process of ``meshtls``. ``db`` has a listener that relays TCP, and one that reads HTTP. It is federated with
two partners, whose CAs the test owns: any peer can be of theirs, and the roots of one of them have expired.
"""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meshtls.ca.authority import Authority
from tests.e2e.day_in_the_life.programs import Program, until
from tests.integration.cli.identity_site import Told, tell
from tests.support.agent import SELF, short_directory
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.ports import free_ports
from tests.support.softhsm import MODULE, SoftHsm, has_soft_hsm, soft_hsm

__all__ = ["DB", "OLD", "PARTNER", "WEB", "Mesh", "new_entry", "reloaded", "running_mesh"]

WEB, DB = "spiffe://example.org/web", "spiffe://example.org/db"
PARTNER, OLD = "partner.test", "old.test"
_PORTS = (
    "server",
    "attest",
    "app",
    "db tcp",
    "db http",
    "web tcp",
    "web http",
    *(f"{who} {what}" for who in ("db", "web", "agent") for what in ("health", "metrics")),
    "server metrics",
    "dashboard",
)


@dataclass
class Mesh:
    """``partners``: the CAs of other trust domains, by name. ``values``: what each file says, by program.

    ``hsm``: the token with the server's keys; None where this machine has none, and they are files.
    """

    directory: Path
    ports: dict[str, int]
    server: Program
    agent: Program
    app: Program
    db: Program
    web: Program
    dashboard: Program
    partners: dict[str, Authority] = field(default_factory=dict)
    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    agent_id: str = ""
    hsm: SoftHsm | None = None

    @property
    def programs(self) -> Mapping[str, Program]:
        return {one.name: one for one in (self.server, self.agent, self.app, self.db, self.web, self.dashboard)}

    @property
    def policies(self) -> Path:
        return self.directory / "policies"

    @contextmanager
    def policy(self, name: str, text: str) -> Iterator[None]:
        """One more file of policies while the body runs."""
        file, new = self.policies / f"{name}.yaml", self.policies / ".new"
        new.write_text(text)
        new.rename(file)
        try:
            yield
        finally:
            file.unlink()

    def port(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", self.ports[name]

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.yaml"

    def admin_socket(self, name: str) -> Path:
        """Where the admin interface of a program answers."""
        return self.directory / f"{name}-admin.sock"

    def write(self, name: str, **changed: Any) -> None:
        """The file of a program, with these keys changed. JSON is YAML, too."""
        self.file(name).write_text(json.dumps(self.values[name] | changed, indent=1))

    def tell(self, *arguments: str | Path) -> Told:
        """Run a command against the server."""
        return tell(*arguments, "--socket", self.directory / "api.sock")

    def told(self, *arguments: str | Path) -> Any:
        """The same with the JSON that it prints; it has to succeed."""
        told = self.tell(*arguments, "--output", "json")
        assert told.code == 0, told
        return json.loads(told.out) if told.out.strip() else None

    def call(self, listener: str = "tcp") -> str:
        """What the app answers to a call of ``web``, through both sidecars; or how that failed."""
        try:
            with closing(http.client.HTTPConnection(*self.port(f"web {listener}"), timeout=20)) as connection:
                connection.request("GET", "/")
                answer = connection.getresponse()
                return f"{answer.status} {answer.read().decode()}"
        except (OSError, http.client.HTTPException) as error:
            return repr(error)

    def works(self) -> bool:
        """Whether ``web`` reaches the app on both listeners."""
        return all(self.call(listener).startswith("200 ") for listener in ("tcp", "http"))

    def until_works(self) -> None:
        until(self.works, lambda: f"the mesh does not work: {[self.call(one) for one in ('tcp', 'http')]}")

    def live(self, name: str) -> int:
        """How many connections a sidecar has now."""
        told = tell("admin", "connections", "--socket", self.admin_socket(name), "--output", "json")
        return int(told.json["number"])

    def generation(self, name: str) -> int:
        """That of the configuration that a sidecar runs."""
        told = tell("admin", "config_dump", "--socket", self.admin_socket(name), "--output", "json")
        return int(told.json["generation"])

    def readiness(self, name: str) -> str:
        return self.get(f"{name} health", "/ready")

    def get(self, port: str, path: str) -> str:
        """The body of an answer over HTTP, of whatever status; the error where there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[port]}{path}", timeout=20) as answer:
                body: bytes = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError as error:
            return repr(error)
        return body.decode()


@contextmanager
def reloaded(mesh: Mesh, name: str, **changed: Any) -> Iterator[None]:
    """A sidecar runs a file with these changes while the body does, and then its own again."""
    try:
        _reload(mesh, name, **changed)
        yield
    finally:
        _reload(mesh, name)


def _reload(mesh: Mesh, name: str, **changed: Any) -> None:
    before = mesh.generation(name)
    mesh.write(name, **changed)
    mesh.programs[name].signal(signal.SIGHUP)
    until(
        lambda: mesh.generation(name) > before, lambda: f"{name} does not reload: {mesh.programs[name].said()[-3000:]}"
    )


@contextmanager
def running_mesh() -> Iterator[Mesh]:
    """The mesh, in which ``web`` reaches ``db``. Its server has a small disk of its own, if this user may mount one."""
    with short_directory() as directory, ExitStack() as stack:
        data = directory / "server"
        data.mkdir(mode=0o700)
        hsm = stack.enter_context(soft_hsm(directory / "hsm")) if has_soft_hsm() else None
        mesh = _made(directory, stack.enter_context(_small_disk(data)), data, hsm)
        for program in reversed(list(mesh.programs.values())):
            stack.callback(program.stop)
        mesh.server.start()
        _register(mesh)
        for program in (mesh.app, mesh.agent, mesh.db, mesh.web, mesh.dashboard):
            program.start(wait=False)
        for program in (mesh.app, mesh.agent, mesh.db, mesh.web, mesh.dashboard):
            program.until_ready()
        mesh.until_works()
        yield mesh


@contextmanager
def _small_disk(mount: Path) -> Iterator[tuple[str, ...]]:
    """What starts a program with a file system of 32 MiB mounted there; nothing, if this user may not mount one.

    It outlives the program, and is in a mount namespace of its own, which a process holds.
    """
    script = 'mount -t tmpfs -o size=32m,mode=700 none "$0" && echo mounted && exec cat'
    command = ["unshare", "--mount", "sh", "-c", script, str(mount)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        able = holder.stdout.readline() == b"mounted\n"
        yield ("nsenter", "--target", str(holder.pid), "--mount") if able else ()
        holder.kill()


def _made(directory: Path, server_prefix: tuple[str, ...], data: Path, hsm: SoftHsm | None) -> Mesh:
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))

    def at(name: str) -> str:
        return f"127.0.0.1:{ports[name]}"

    def program(name: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Program:
        return Program(directory, name, arguments, lambda: _is_ready(mesh, name), prefix)

    def of_file(name: str, verb: str, prefix: tuple[str, ...] = ()) -> Program:
        return program(name, verb, "run", "--config", str(directory / f"{name}.yaml"), prefix=prefix)

    admin = {name: {"socket": f"{directory}/{name}-admin.sock"} for name in ("server", "agent", "db", "web")}
    mesh = Mesh(
        directory,
        ports,
        server=of_file("server", "server", server_prefix),
        agent=of_file("agent", "agent"),
        app=program("app", "app", "--name", "db", "--listen", at("app")),
        db=of_file("db", "sidecar"),
        web=of_file("web", "sidecar"),
        dashboard=program(
            "dashboard",
            "dashboard",
            *(
                word
                for one in ("server", "agent", "db", "web")
                for word in ("--socket", f"{directory}/{one}-admin.sock")
            ),
            *("--server-socket", f"{directory}/api.sock"),
            *("--listen", at("dashboard"), "--interval", "1s"),
        ),
    )
    before = ManualClock(datetime.now(UTC) - timedelta(days=60))
    mesh.partners = {PARTNER: make_authority(PARTNER), OLD: make_authority(OLD, before, ca_ttl=timedelta(days=31))}
    mesh.policies.mkdir()
    mesh.hsm = hsm
    (mesh.policies / "allow.yaml").write_text(_ALLOW)
    workload_api = {"workload_api": f"unix://{directory}/agent.sock"}
    mesh.values = {
        "server": {
            "trust_domain": "example.org",
            "data_dir": str(data),
            "socket_path": str(directory / "api.sock"),
            "bind_port": ports["server"],
            "attest_port": ports["attest"],
            "admin": admin["server"],
            **({"key_manager": {"pkcs11": _token(hsm)}} if hsm is not None else {}),
            "metrics": {"listen": at("server metrics")},
        },
        "agent": {
            "trust_domain": "example.org",
            "server_address": "127.0.0.1",
            "server_port": ports["server"],
            "attest_port": ports["attest"],
            "trust_bundle_path": str(directory / "bundle.pem"),
            "socket_path": str(directory / "agent.sock"),
            "data_dir": str(directory / "agent"),
            "health": at("agent health"),
            "admin": admin["agent"],
            "metrics": {"listen": at("agent metrics")},
        },
        "db": {
            "name": "db",
            "spiffe_id": DB,
            "identity": workload_api,
            "inbound": [
                {"listen": at("db tcp"), "app": at("app"), "mode": "STRICT"},
                {
                    "listen": at("db http"),
                    "app": at("app"),
                    "protocol": "http",
                    "mode": "STRICT",
                    "http": {"http2": False},
                },
            ],
            "policies": ["policies"],
            "health": at("db health"),
            "metrics": {"listen": at("db metrics")},
            "admin": admin["db"],
        },
        "web": {
            "name": "web",
            "spiffe_id": WEB,
            "identity": workload_api,
            "outbound": [{"listen": at(f"web {one}"), "to": at(f"db {one}"), "peer": DB} for one in ("tcp", "http")],
            "health": at("web health"),
            "metrics": {"listen": at("web metrics")},
            "admin": admin["web"],
        },
    }
    for name in mesh.values:
        mesh.write(name)
    return mesh


def _token(hsm: SoftHsm) -> dict[str, Any]:
    everything = {"intermediates": True, "jwt_keys": True}
    return {"module": str(MODULE), "token_label": "mesh", "pin_file": str(hsm.pin_file)} | everything


#: Who may call: web, and everybody of the partners who proves to be of theirs.
_ALLOW = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: default}
spec:
  rules:
    - from:
        - source: {principals: [example.org/web, partner.test/*, old.test/*]}
"""


def _is_ready(mesh: Mesh, name: str) -> bool:
    match name:
        case "server":
            return tell("server", "healthcheck", "--config", mesh.file("server")).code == 0
        case "app":
            return mesh.get("app", "/").startswith("{")
        case "dashboard":
            return mesh.get("dashboard", "/api/about").startswith("{")
        case _:
            return mesh.readiness(name).startswith("ready")


def _register(mesh: Mesh) -> None:
    """The partners' bundles, a token for the agent, and entries for both workloads."""
    for name, partner in mesh.partners.items():
        path = mesh.directory / f"{name}.pem"
        path.write_bytes(partner.bundle.to_pem())
        mesh.told("bundle", "set", "--id", name, "--path", path)
    mesh.directory.joinpath("bundle.pem").write_text(mesh.tell("bundle", "show").out)
    token = mesh.told("token", "generate")
    mesh.agent_id = token["agent_id"]
    mesh.write("agent", join_token=token["token"])
    for spiffe_id in (WEB, DB):
        mesh.entries[spiffe_id] = new_entry(mesh, spiffe_id)


def new_entry(mesh: Mesh, spiffe_id: str) -> str:
    """The ID of an entry with it for the user that runs the test."""
    partners = [word for name in mesh.partners for word in ("--federates-with", name)]
    who = ("--spiffe-id", spiffe_id, "--parent-id", mesh.agent_id, "--selector", SELF)
    found: str = mesh.told("entry", "create", *who, *partners)["id"]
    return found
