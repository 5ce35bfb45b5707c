"""``meshtls revoke`` with real processes: a server, an agent, and two sidecars with a live connection between them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server, tell
from tests.integration.cli.kept_app import kept_app
from tests.integration.cli.processes import Process, started, two_sidecars

A, B = "spiffe://example.org/a", "spiffe://example.org/b"
_SECONDS = 60


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@dataclass
class Mesh:
    """Sidecars of ``A`` and ``B``, whose SVIDs one agent has; an app behind B's, which A's leads to."""

    server: ServerProcess
    agent: AgentProcess
    entries: dict[str, str]
    out: int
    b: Process
    opened: ExitStack

    def live(self) -> socket.socket:
        """A connection through both sidecars that has had two answers, so that the first did not end it."""
        connection = self.opened.enter_context(socket.create_connection(("127.0.0.1", self.out), _SECONDS))
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                answer += (got := connection.recv(4096))
                assert got, f"the connection ended after {answer!r}"
        return connection

    def answered(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.out), _SECONDS) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
                return connection.recv(17) == b"HTTP/1.1 200 OK\r\n"
        except ConnectionError:
            return False

    def refused_line(self) -> dict[str, Any]:
        """B's line of the access log for a peer that was revoked."""
        line: dict[str, Any] = json.loads(self.b.line('"PEER_REVOKED"', "stdout"))
        return line

    def serial(self, spiffe_id: str) -> str:
        """Of the newest SVID with this ID."""
        found = tell("fetch", "x509", "--workload-socket", self.agent.socket, "--output", "json").json
        [svid] = [one for one in found["svids"] if one["spiffe_id"] == spiffe_id]
        return str(svid["serial"])


@contextmanager
def mesh(directory: Path) -> Iterator[Mesh]:
    with running_server() as server, running_agent(server) as agent, ExitStack() as stack:
        extra = f"identity: {{workload_api: 'unix:{agent.socket}'}}\nlimits: {{withdrawal_grace: 1h}}\n"
        ports = two_sidecars(directory, ids=(A, B), extra=extra)
        entries = {one: stack.enter_context(agent.identity(one.removeprefix("spiffe://example.org"))) for one in (A, B)}
        stack.enter_context(kept_app(ports["b_app"]))
        b, _ = (stack.enter_context(started("sidecar", "run", "--config", directory / f"{one}.yaml")) for one in "ba")
        built = Mesh(server, agent, entries, ports["a_out"], b, stack)
        until(built.answered)
        yield built


def ended(connection: socket.socket) -> bool:
    """Wait for the end of the connection, which the app does not end."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


@pytest.mark.parametrize("way", ["spiffe-id", "entry"])
def test_a_revoked_identity_is_cut_off_its_live_connections_and_comes_back_when_readmitted(
    tmp_path: Path, way: str
) -> None:
    with mesh(tmp_path) as mesh_:
        subject = (f"--{way}", {"spiffe-id": A, "entry": mesh_.entries[A]}[way])
        live = mesh_.live()
        told = mesh_.server.json("revoke", *subject, "--reason", "key-compromise")
        assert (told["subject"], told["revoked_certificates"]) == (way, 1)
        assert ended(live)
        assert mesh_.refused_line()["source_id"] == A
        assert not mesh_.answered()
        listed = mesh_.server.json("revoked")["revocations"]
        assert [(one["subject"], one["reason"]) for one in listed] == [
            (way, "key-compromise"),
            ("serial", "key-compromise"),
        ]
        mesh_.server.json("readmit", *subject)
        until(mesh_.answered)


def test_in_the_place_of_a_revoked_svid_its_workload_gets_another_and_goes_on(tmp_path: Path) -> None:
    with mesh(tmp_path) as mesh_:
        live, serial = mesh_.live(), mesh_.serial(A)
        mesh_.server.json("revoke", "--serial", serial)
        assert ended(live)
        assert mesh_.refused_line()["source_id"] == A
        until(mesh_.answered)
        assert mesh_.serial(A) != serial


def test_a_revoked_agent_serves_nothing_and_its_workloads_are_cut_off(tmp_path: Path) -> None:
    with mesh(tmp_path) as mesh_:
        mesh_.live()
        told = mesh_.server.tell("revoke", "--agent", mesh_.agent.spiffe_id)
        assert told.out == f"agent {mesh_.agent.spiffe_id}: 3 X509-SVIDs and 0 JWT-SVIDs revoked\n"
        until(lambda: tell("fetch", "x509", "--workload-socket", mesh_.agent.socket).code != 0)
        until(lambda: not mesh_.answered())
        for entry_id in mesh_.entries.values():  # so that the identities' ends find them deleted
            assert mesh_.server.tell("entry", "show", "--entry-id", entry_id).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "wanted one of --serial, --spiffe-id, --agent and --entry, got 0 of them"),
        (("--serial", "ab", "--entry", "x"), "wanted one of --serial, --spiffe-id, --agent and --entry, got 2 of them"),
    ],
)
@pytest.mark.parametrize("verb", ["revoke", "readmit"])
def test_a_command_names_one_subject(verb: str, arguments: tuple[str, ...], message: str) -> None:
    told = tell(verb, *arguments)
    assert (told.code, message in told.err) == (2, True)


def test_a_spiffe_id_that_nothing_has_is_told_of() -> None:
    with running_server() as server:
        server.json(
            "entry", "create", "--spiffe-id", "spiffe://example.org/web", "--parent-id", "spiffe://example.org/node",
            "--selector", "unix:uid:1000",
        )  # fmt: skip
        mistyped = server.tell("revoke", "--spiffe-id", "spiffe://example.org/wbe")
        known = server.tell("revoke", "--spiffe-id", "spiffe://example.org/web")

    for told, name in ((mistyped, "wbe"), (known, "web")):
        assert (told.code, told.out) == (
            0,
            f"spiffe-id spiffe://example.org/{name}: 0 X509-SVIDs and 0 JWT-SVIDs revoked\n",
        )
    assert mistyped.err == (
        "meshtls: no entry has spiffe://example.org/wbe, and no SVID with it was to be revoked. It is refused from now"
        " on; if it was mistyped, revoke the right one, and readmit this one\n"
    )
    assert known.err == ""
