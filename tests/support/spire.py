"""A real SPIRE, server and agent, in a directory of its own: trust domain ``spire.test``, a node that has joined by
token, and workloads known by uid and path.

with running_spire(directory) as spire:
    with spire.entry("/web", PYTHON): ...       # for this very program
    async with X509Source(spire.workload_api) as source: ...

Without SPIRE the test is skipped, or fails if MESHTLS_REQUIRE includes ``spire``. The programs ``spire-server`` and
``spire-agent`` are those of the directory MESHTLS_SPIRE_BIN, or of PATH; ``.ci/spire.sh`` builds them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers.spire import find_spire, spire_agent_config, spire_server_config
from tests.support.ports import free_ports
from tests.support.require import require

__all__ = ["DOMAIN", "PYTHON", "Spire", "running_spire", "spire_programs"]

DOMAIN = "spire.test"
#: The selector of the program that runs the tests.
PYTHON = f"unix:path:{os.readlink('/proc/self/exe')}"
_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Spire:
    """A running SPIRE. ``parent`` is its agent's SPIFFE ID."""

    server: Path
    directory: Path
    parent: str
    domain: str = DOMAIN

    @property
    def workload_api(self) -> str:
        return f"unix://{self.directory}/agent.sock"

    @contextmanager
    def entry(self, path: str, selector: str, *more: str) -> Iterator[None]:
        """A registration entry while the body runs; the agent syncs its creation and deletion within about a second."""
        who = ("-parentID", self.parent, "-spiffeID", f"spiffe://{self.domain}{path}", "-selector", selector)
        made = json.loads(self.tell("entry", "create", *who, *more, "-output", "json"))["results"][0]
        assert made["status"]["code"] == 0, made
        entry_id = made["entry"]["id"]
        try:
            yield
        finally:
            self.tell("entry", "delete", "-entryID", entry_id)

    def federate(self, trust_domain: str, jwks: str) -> None:
        """Set a partner's bundle."""
        self.tell("bundle", "set", "-id", f"spiffe://{trust_domain}", "-format", "spiffe", given=jwks)

    def tell(self, *arguments: str, given: str = "") -> str:
        """Run a command of ``spire-server``, which must succeed."""
        return _tell(self.server, self.directory, *arguments, given=given)


@contextmanager
def running_spire(directory: Path, domain: str = DOMAIN, plugins: str = "", federation: str = "") -> Iterator[Spire]:
    """Enters when the agent serves. The directory's path must be short, since it holds sockets.

    ``plugins`` are more of the server's, and ``federation`` is its block of that name.
    """
    server, agent = _program("spire-server"), _program("spire-agent")
    port = free_ports(1)[0]
    with ExitStack() as stack:
        config = spire_server_config(directory, domain, port).replace("plugins {", f"plugins {{\n{plugins}", 1)
        config = config.replace("server {", f"server {{\n{federation}", 1)
        (directory / "server.conf").write_text(config)
        stack.enter_context(_serving(directory, server))
        token = json.loads(_tell(server, directory, "token", "generate", "-output", "json"))["value"]
        (directory / "bundle.pem").write_text(_tell(server, directory, "bundle", "show"))
        (directory / "agent.conf").write_text(spire_agent_config(directory, domain, port))
        stack.enter_context(_serving(directory, agent, "-joinToken", token))
        yield Spire(server, directory, f"spiffe://{domain}/spire/agent/join_token/{token}", domain)


def spire_programs() -> Path:
    """The directory of SPIRE's programs. Skips the test without them."""
    return _program("spire-server").parent


def _program(name: str) -> Path:
    found = find_spire(name)
    require("spire", found is not None, f"set MESHTLS_SPIRE_BIN to a directory with {name}, or put it on PATH")
    assert found is not None
    return Path(found).resolve()


@contextmanager
def _serving(directory: Path, program: Path, *arguments: str) -> Iterator[None]:
    """Run the program while the body runs, which is entered once the program is healthy; killed at the end."""
    name = program.name.removeprefix("spire-")
    command = [str(program), "run", "-config", f"{name}.conf", *arguments]
    log = directory / f"{name}.log"
    with log.open("wb") as out, subprocess.Popen(command, cwd=directory, stdout=out, stderr=out) as process:
        try:
            _until_healthy(process, program, directory / f"{name}.sock")
            yield
        except BaseException:
            print(log.read_text()[-8000:])
            raise
        finally:
            process.kill()


def _until_healthy(process: subprocess.Popen[bytes], program: Path, socket: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    question = [str(program), "healthcheck", "-socketPath", str(socket)]
    while subprocess.run(question, capture_output=True, timeout=_SECONDS, check=False).returncode != 0:
        assert process.poll() is None, f"{program.name} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{program.name} did not answer in {_SECONDS} s"
        time.sleep(0.05)


def _tell(server: Path, directory: Path, *arguments: str, given: str = "") -> str:
    command = [str(server), *arguments, "-socketPath", f"{directory}/server.sock"]
    said = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert said.returncode == 0, f"{arguments}: {said.stdout}{said.stderr}"
    return said.stdout
