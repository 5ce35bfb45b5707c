"""``meshtls entry delete`` at a server, and what it does to the sidecars of the workload: real processes all."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.integration.cli.identity_site import AgentProcess, tell
from tests.integration.cli.processes import started, two_sidecars
from tests.support.agent import SELF

WEB = "spiffe://example.org/withdrawn"
_SECONDS = 90


def health(config: Path) -> tuple[int, str]:
    told = tell("sidecar", "healthcheck", "--config", config)
    return told.code, told.out


def until_health(config: Path, code: int) -> str:
    deadline = time.monotonic() + _SECONDS
    while (state := health(config))[0] != code:
        assert time.monotonic() < deadline, state
        time.sleep(0.05)
    return state[1]


def answered(port: int) -> bool:
    """Whether the app behind both sidecars answers on a new connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), _SECONDS) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            return connection.recv(17) == b"HTTP/1.1 200 OK\r\n"
    except ConnectionError:
        return False


def ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_deleting_an_entry_stops_the_sidecars_and_recreating_it_heals_them(agent: AgentProcess, tmp_path: Path) -> None:
    server = agent.server

    def make_entry() -> str:
        made = server.json("entry", "create", "--spiffe-id", WEB, "--parent-id", agent.spiffe_id, "--selector", SELF)
        return str(made["id"])

    extra = f"identity: {{workload_api: 'unix:{agent.socket}'}}\nlimits: {{withdrawal_grace: 2s}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=extra)
    a_file, b_file = tmp_path / "a.yaml", tmp_path / "b.yaml"
    entry_id = make_entry()
    with ExitStack() as stack:
        app = stack.enter_context(started("app", "--listen", f"127.0.0.1:{ports['b_app']}", "--name", "b"))
        app.line("app b listens on", "stdout")
        a, b = (stack.enter_context(started("sidecar", "run", "--config", file)) for file in (a_file, b_file))
        a.line("serving: sidecar a is ")
        b.line("serving: sidecar b is ")
        assert health(b_file) == (0, "ready\n")
        assert answered(ports["a_out"])
        live = stack.enter_context(socket.create_connection(("127.0.0.1", ports["a_out"]), _SECONDS))
        live.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
        assert live.recv(17) == b"HTTP/1.1 200 OK\r\n"
        while live.recv(4096)[-2:] not in (b"b\n", b"}\n", b"b"):
            pass

        server.json("entry", "delete", "--entry-id", entry_id)
        for file in (a_file, b_file):
            assert "X509-SVID withdrawn: " in (state := until_health(file, 1))
            assert "PERMISSION_DENIED: no identity issued" in state
        assert not answered(ports["a_out"])
        assert ended(live)
        b.line("our identity was withdrawn: live connections end in 2 s unless it is given again")

        entry_id = make_entry()
        for file in (a_file, b_file):
            until_health(file, 0)
        assert answered(ports["a_out"])
        b.line("our identity was given again")
        assert (a.stop(), b.stop()) == (0, 0)
    server.json("entry", "delete", "--entry-id", entry_id)
