"""Trust domains as operators run them: for each a server with a bundle endpoint, an agent, and the commands for both.

with domain("a.test") as a, domain("b.test") as b:
    a.federate(b)
    b.federate(a)
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.integration.cli.identity_site import Told, tell
from tests.integration.cli.kept_app import failure_of_new_connection
from tests.integration.cli.processes import Process, started
from tests.support.agent import SELF, eventually, short_directory
from tests.support.ports import free_ports

__all__ = ["Domain", "Load", "domain", "until"]

#: For a machine on which these processes get a small part of the time.
_SECONDS = 240


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@dataclass(frozen=True)
class Domain:
    """A running server and agent. ``parent`` is the agent's SPIFFE ID."""

    name: str
    directory: Path
    endpoint_port: int
    parent: str

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.endpoint_port}/"

    @property
    def endpoint_id(self) -> str:
        return f"spiffe://{self.name}/meshtls/server"

    @property
    def workload_socket(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def workload_api(self) -> str:
        return f"unix://{self.workload_socket}"

    def tell(self, *arguments: str | Path, given: bytes = b"") -> Told:
        """Run a command against the server."""
        return tell(*arguments, "--socket", self.directory / "data" / "admin.sock", given=given)

    def json(self, *arguments: str | Path) -> Any:
        """The same with JSON output; it has to succeed."""
        told = self.tell(*arguments, "--output", "json")
        assert told.code == 0, told.err
        return told.json

    def document(self) -> str:
        """Its bundle, in SPIFFE's form."""
        return self.tell("bundle", "show", "--format", "spiffe").out

    def federate(self, other: Domain) -> None:
        """Fetch the other's bundle from now on; it is there when this returns."""
        self.federate_with(other.name, other.url, other.endpoint_id, other.document())

    def federate_with(self, name: str, url: str, endpoint_id: str, document: str) -> None:
        (self.directory / "partner.json").write_text(document)
        self.json(
            *("federation", "create", "--trust-domain", name, "--bundle-endpoint-url", url),
            *("--bundle-endpoint-profile", "https_spiffe", "--endpoint-spiffe-id", endpoint_id),
            *("--trust-domain-bundle-path", self.directory / "partner.json"),
        )
        until(lambda: bool(self.relation(name)["fetched_at"]))

    def relation(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.json("federation", "show", "--trust-domain", name)
        return shown

    def entry(self, path: str, *more: str, selector: str = SELF) -> str:
        """Create an entry for the user that runs the test, and return its ID once the agent serves it."""
        spiffe_id = f"spiffe://{self.name}{path}"
        who = ("--spiffe-id", spiffe_id, "--parent-id", self.parent, "--selector", selector)
        self.json("entry", "create", *who, *more)

        async def until_held() -> None:
            async with WorkloadApiClient(self.workload_api) as client:
                await eventually(lambda: _holds(client, spiffe_id))

        if selector == SELF:
            asyncio.run(until_held())
        return spiffe_id

    def rotate(self, seen: Callable[[], bool]) -> None:
        """Replace the X.509 authority; the old one is revoked at the end. The new one signs once ``seen`` is true."""
        [old] = [one["id"] for one in self._authorities() if one["state"] == "ACTIVE"]
        self.json("authority", "prepare")
        until(seen)
        self._as_soon_as_allowed("authority", "activate")
        self.json("authority", "taint", old)
        self._as_soon_as_allowed("authority", "revoke", old)

    def _as_soon_as_allowed(self, *arguments: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while (told := self.tell(*arguments)).code != 0:
            assert time.monotonic() < deadline, told.err
            time.sleep(0.1)

    def _authorities(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("authority", "show")["authorities"]
        return found


def _line(process: Process, containing: str) -> str:
    """The next line of its output with this text: it may take long to start, but has to run meanwhile."""
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            return process.line(containing, "stdout")
        except AssertionError:
            if process.popen.poll() is not None or time.monotonic() > deadline:
                raise


async def _holds(client: WorkloadApiClient, spiffe_id: str) -> bool:
    try:
        svids = (await client.fetch_x509_context()).svids
    except WorkloadApiError:
        return False
    return spiffe_id in [str(one.spiffe_id) for one in svids]


@contextmanager
def domain(name: str, federation: str = "") -> Iterator[Domain]:
    """Enters when both serve. ``federation`` are more lines below that key of the server's file."""
    [port] = free_ports(1)
    with short_directory() as directory:
        (directory / "server.yaml").write_text(
            f"trust_domain: {name}\nbind_port: 0\ndata_dir: {directory / 'data'}\nlog_level: WARN\n"
            f"federation:\n  bundle_endpoint: {{port: {port}, refresh_hint: 1s}}\n{federation}"
        )
        with started("server", "run", "--config", directory / "server.yaml", "--output", "json") as server:
            said = json.loads(_line(server, '"serving"'))
            built = Domain(name, directory, port, "")
            joined = built.json("token", "generate")
            (directory / "bundle.pem").write_text(built.tell("bundle", "show").out)
            (directory / "agent.yaml").write_text(
                f"trust_domain: {name}\nserver_address: 127.0.0.1\nserver_port: {said['address'].split(':')[1]}\n"
                f"attest_port: {said['attest_address'].split(':')[1]}\njoin_token: {joined['token']}\n"
                f"trust_bundle_path: {directory / 'bundle.pem'}\nsocket_path: {built.workload_socket}\n"
                f"data_dir: {directory / 'agent'}\nlog_level: WARN\n"
            )
            with started("agent", "run", "--config", directory / "agent.yaml") as agent:
                _line(agent, "ready: 0 entries")
                yield replace(built, parent=joined["agent_id"])


class Load:
    """New connections to a port of this machine, one after the other, until ``stop``."""

    def __init__(self, port: int) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.03):
            if failure := failure_of_new_connection(self._port, _SECONDS):
                self.failures.append(failure)
            self.done += 1
