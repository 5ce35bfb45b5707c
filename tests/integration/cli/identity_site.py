"""A server and an agent as operators run them: two processes, a join token, and the commands that call them."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshtls.cli.main import main
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.integration.cli.processes import Process, started
from tests.support.agent import SELF, eventually, short_directory

__all__ = ["AgentProcess", "ServerProcess", "Told", "running_agent", "running_server", "tell"]


@dataclass(frozen=True)
class Told:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def tell(*arguments: str | Path, given: bytes = b"") -> Told:
    """Run a command to its end in this process; server and agent are others. ``given`` is its standard input."""
    out, err, before = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(given), "utf-8")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(list(map(str, arguments)))
    except SystemExit as ended:
        return Told(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.stdin.close()
        sys.stdin = before
    raise AssertionError("the verb did not exit")


@dataclass(frozen=True)
class ServerProcess:
    """``example.org``'s server, and its output when it became ready."""

    directory: Path
    process: Process
    said: dict[str, Any]

    @property
    def config(self) -> Path:
        return self.directory / "server.yaml"

    def tell(self, *arguments: str | Path, given: bytes = b"") -> Told:
        """Run a command against this server."""
        return tell(*arguments, "--socket", self.said["socket"], given=given)

    def json(self, *arguments: str | Path) -> Any:
        """The same with JSON output; the command has to succeed, with or without notices."""
        told = self.tell(*arguments, "--output", "json")
        assert (told.code, [line for line in told.err.splitlines() if "notice" not in json.loads(line)]) == (0, [])
        return told.json


@contextmanager
def running_server(extra: str = "") -> Iterator[ServerProcess]:
    """``extra`` are more lines of its file."""
    with short_directory() as directory:
        file = directory / "server.yaml"
        file.write_text(
            f"trust_domain: example.org\nbind_port: 0\ndata_dir: {directory / 'data'}\nlog_level: ERROR\n{extra}"
        )
        with started("server", "run", "--config", file, "--output", "json") as process:
            yield ServerProcess(directory, process, json.loads(process.line('"serving"', "stdout")))
            assert process.stop() == 0


@dataclass(frozen=True)
class AgentProcess:
    """An agent of that server."""

    server: ServerProcess
    process: Process
    spiffe_id: str
    socket: Path

    @property
    def config(self) -> Path:
        return self.server.directory / "agent.yaml"

    def tell(self, *arguments: str | Path, given: bytes = b"") -> Told:
        """Run a command against this agent."""
        return tell(*arguments, "--workload-socket", self.socket, given=given)

    @contextmanager
    def identity(self, path: str, *more: str, selector: str = SELF) -> Iterator[str]:
        """An entry for the user that runs the test, while the body runs; yields its id.

        The agent has synced its creation when the body begins, and its deletion when this ends.
        """
        who = ("--spiffe-id", f"spiffe://example.org{path}", "--parent-id", self.spiffe_id, "--selector", selector)
        made = self.server.json("entry", "create", *who, *more)
        ours = selector == SELF
        try:
            if ours:
                asyncio.run(self._until(made["spiffe_id"], held=True))
            yield made["id"]
        finally:
            self.server.json("entry", "delete", "--entry-id", made["id"])
            if ours:
                asyncio.run(self._until(made["spiffe_id"], held=False))

    async def _until(self, spiffe_id: str, *, held: bool) -> None:
        async def holds() -> bool:
            try:
                svids = (await client.fetch_x509_context()).svids
            except WorkloadApiError:
                return not held
            return (spiffe_id in [str(svid.spiffe_id) for svid in svids]) is held

        async with WorkloadApiClient(f"unix://{self.socket}") as client:
            await eventually(holds)


@contextmanager
def running_agent(server: ServerProcess, extra: str = "") -> Iterator[AgentProcess]:
    """``extra`` are more lines of its file."""
    directory = server.directory
    joined = server.json("token", "generate")
    (directory / "bundle.pem").write_text(server.tell("bundle", "show").out)
    host, port = server.said["address"].split(":")
    (directory / "agent.yaml").write_text(
        f"trust_domain: example.org\nserver_address: {host}\nserver_port: {port}\nlog_level: ERROR\n"
        f"attest_port: {server.said['attest_address'].split(':')[1]}\njoin_token: {joined['token']}\n"
        f"trust_bundle_path: {directory / 'bundle.pem'}\nsocket_path: {directory / 'agent.sock'}\n"
        f"data_dir: {directory / 'agent'}\n{extra}"
    )
    with started("agent", "run", "--config", directory / "agent.yaml") as process:
        process.line(f"serving: Workload API and SDS on unix://{directory}/agent.sock", "stdout")
        process.line("ready: 0 entries", "stdout")
        yield AgentProcess(server, process, joined["agent_id"], directory / "agent.sock")
        assert process.stop() == 0
