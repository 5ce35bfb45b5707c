"""``meshtls authority`` with real processes: a server, an agent, and two sidecars under load through rotations."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from meshtls import X509Source, authorize_id, dial
from meshtls.errors import MeshtlsError
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server, tell
from tests.integration.cli.kept_app import answer, failure_of_new_connection, kept_app
from tests.integration.cli.processes import Process, started, two_sidecars

WEB = "spiffe://example.org/web"
_SECONDS = 60


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Load:
    """New connections, one after the other in three threads, until ``stop``.

    Two go through both sidecars. One is a library client's with a source of its own, to the second sidecar's inbound.
    """

    def __init__(self, port: int, inbound: int, agent: AgentProcess) -> None:
        self.done = self.by_library = 0
        self.failures: list[str] = []
        self._port = port
        self._inbound = inbound
        self._address = f"unix://{agent.socket}"
        self._stopped = threading.Event()
        runs = [self._run, self._run, lambda: asyncio.run(self._dial())]
        self._threads = [threading.Thread(target=run) for run in runs]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.02):
            if failure := failure_of_new_connection(self._port, _SECONDS):
                self.failures.append(failure)
            self.done += 1

    async def _dial(self) -> None:
        async with X509Source(self._address) as source:
            while not self._stopped.is_set():
                await asyncio.sleep(0.02)
                try:
                    self.failures += await self._ask(source)
                except (OSError, MeshtlsError) as error:
                    self.failures.append(f"library: {error!r}")
                self.by_library += 1

    async def _ask(self, source: X509Source) -> list[str]:
        reader, writer = await dial("127.0.0.1", self._inbound, source, authorize_id(WEB), timeout=_SECONDS)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            line = await asyncio.wait_for(reader.readline(), _SECONDS)
            return [] if line == b"HTTP/1.1 200 OK\r\n" else [f"library: {line!r}"]
        finally:
            writer.close()


@contextmanager
def mesh_under_load(agent: AgentProcess, directory: Path) -> Iterator[tuple[Load, int]]:
    """Two sidecars with identities of this agent, an app behind the second, and a load through both."""
    extra = f"identity: {{workload_api: 'unix:{agent.socket}'}}\n"
    ports = two_sidecars(directory, ids=(WEB, WEB), extra=extra)
    with ExitStack() as stack:
        stack.enter_context(agent.identity("/web"))
        stack.enter_context(kept_app(ports["b_app"]))
        for name in ("b", "a"):
            stack.enter_context(started("sidecar", "run", "--config", directory / f"{name}.yaml"))
            config = directory / f"{name}.yaml"
            until(lambda config=config: tell("sidecar", "healthcheck", "--config", config).code == 0)  # type: ignore[misc]
        load = Load(ports["a_out"], ports["b_in"], agent)
        stack.callback(load.stop)
        yield load, ports["a_out"]


def authorities(server: ServerProcess, *more: str) -> dict[str, Any]:
    """By id."""
    return {one["id"]: one for one in server.json("authority", "show", *more)["authorities"]}


@contextmanager
def stopped(process: Process) -> Iterator[None]:
    """It does nothing while the body runs, and then goes on."""
    process.popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.popen.send_signal(signal.SIGCONT)


def rotate(server: ServerProcess, agent: AgentProcess, load: Load, port: int) -> None:
    """Prepare, activate, taint and revoke, as soon as each is allowed; a connection stays open up to the revocation."""
    [old] = [one["id"] for one in authorities(server).values() if one["state"] == "ACTIVE"]
    with stopped(agent.process):  # it confirms within seconds
        new = server.json("authority", "prepare")["id"]
        refused = server.tell("authority", "activate")
    assert (refused.code, "has not confirmed the bundle with it yet" in refused.err) == (1, True)
    until(lambda: server.tell("authority", "activate").code == 0)
    assert authorities(server)[new]["state"] == "ACTIVE"
    with closing(HTTPConnection("127.0.0.1", port, timeout=_SECONDS)) as connection:
        assert answer(connection) == 200
        kept = connection.sock
        assert kept is not None
        held = authorities(server)[old]
        assert (held["state"], held["svids_in_use"]) == ("OLD", 3)  # the workload's, the agent's and the server's own
        refused = server.tell("authority", "revoke", old)
        assert (refused.code, f"can't revoke X.509 authority {old}: 3 SVIDs in use hang on it" in refused.err) == (
            1,
            True,
        )
        server.json("authority", "taint", old)
        until(lambda: authorities(server)[old]["svids_in_use"] == 0)
        assert [one["count"] for one in authorities(server)[new]["holders"]] == [1, 2]
        assert (answer(connection), connection.sock) == (200, kept)
    done = load.done
    until(lambda: server.tell("authority", "revoke", old).code == 0)
    until(lambda: load.done > done + 20)
    assert "REVOKED" in server.tell("authority", "show").out


def test_no_connection_fails_through_two_whole_rotations(tmp_path: Path) -> None:
    with running_server() as server, running_agent(server) as agent, mesh_under_load(agent, tmp_path) as (load, port):
        until(lambda: load.done > 20 and load.by_library > 10)
        rotate(server, agent, load, port)
        rotate(server, agent, load, port)
        by_library = load.by_library
        until(lambda: load.by_library > by_library + 10)
        load.stop()
        assert (load.failures, load.done > 60) == ([], True)
        assert len(server.json("bundle", "show")["bundle"]["keys"]) == 2


def test_the_jwt_key_is_rotated_by_the_same_commands(tmp_path: Path) -> None:
    with running_server() as server, running_agent(server) as agent, agent.identity("/web"):
        [old] = authorities(server, "--jwt")
        new = server.json("authority", "prepare", "--jwt")["id"]
        until(lambda: server.tell("authority", "activate", "--jwt").code == 0)
        told = server.tell("authority", "show", "--jwt")
        assert told.out.splitlines()[0] == f"OLD       {old}"
        assert f"ACTIVE    {new}" in told.out
        server.json("authority", "revoke", "--jwt", old)
        assert {one["state"] for one in authorities(server, "--jwt").values()} == {"REVOKED", "ACTIVE"}
        again = server.tell("authority", "revoke", "--jwt", old)
        assert again.err == (
            f"meshtls: JWT authority {old}: can't revoke it while it is REVOKED: it is out of the bundle already\n"
        )
