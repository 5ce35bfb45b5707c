"""A sidecar's file that changes while it serves, and SIGHUP: as the operator sees them."""

from __future__ import annotations

import json
import os
import signal
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.processes import Process, started, two_sidecars
from tests.integration.cli.test_cli_processes import WEB, write_ca

OTHER = "spiffe://example.org/other"
SECONDS = 90


@dataclass(frozen=True)
class Pair:
    """``a`` calls ``b``, whose file the test changes."""

    file: Path
    ports: dict[str, int]
    a: Process
    b: Process

    def rewrite(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        changed = self.file.with_suffix(".new")
        changed.write_text(text.replace(old, new))
        changed.rename(self.file)

    def call(self) -> bytes:
        """What the app echoes, or nothing where the connection was refused."""
        with suppress(ConnectionError), held(self.ports["a_out"]) as connection:
            return ask(connection)
        return b""

    def until_all(self, answer: bytes) -> None:
        """Call until eight in a row had this answer: the workers follow one by one."""
        deadline, alike = time.monotonic() + SECONDS, 0
        while alike < 8:
            assert time.monotonic() < deadline
            alike = alike + 1 if self.call() == answer else 0


def held(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def ask(connection: socket.socket) -> bytes:
    connection.sendall(b"ping")
    return connection.recv(4)


def is_cut(connection: socket.socket) -> bool:
    with suppress(ConnectionError):
        while connection.recv(1 << 14):
            pass
    return True


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(ConnectionError):
            while data := self.request.recv(1 << 14):
                self.request.sendall(data)


@contextmanager
def echoing(port: int) -> Iterator[None]:
    """An app whose connections last as long as its clients want."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=[1, 2])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    workers: int = request.param
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        stack.enter_context(echoing(ports["b_app"]))
        a = stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml"))
        file = tmp_path / "b.yaml"
        b = stack.enter_context(started("sidecar", "run", "--workers", str(workers), "--config", file))
        a.line("serving: sidecar a is ")
        for _ in range(workers):
            b.line("serving: sidecar b is ")
        yield Pair(file, ports, a, b)


def test_a_changed_allow_list_ends_live_connections_and_a_restored_one_lets_them_in_again(pair: Pair) -> None:
    with held(pair.ports["a_out"]) as connection:
        assert ask(connection) == b"ping"
        pair.rewrite(f'allow: ["{WEB}"]', f'allow: ["{OTHER}"]')
        line = pair.b.line("in use from now on")
        assert line.endswith(f"in use from now on: inbound 127.0.0.1:{pair.ports['b_in']} (allow)\n")
        assert is_cut(connection)
    pair.b.line("1 live connection is forbidden now, and ended")
    while json.loads(pair.b.line("{", "stdout"))["outcome"] != "POLICY_DENIED":
        pass
    pair.until_all(b"")
    pair.rewrite(f'allow: ["{OTHER}"]', f'allow: ["{WEB}"]')
    pair.b.line("in use from now on")
    pair.until_all(b"ping")
    assert pair.b.stop() == 0


def test_sighup_has_the_file_read_at_once_and_ends_nothing(pair: Pair) -> None:
    with held(pair.ports["a_out"]) as connection:
        assert ask(connection) == b"ping"
        pair.b.popen.send_signal(signal.SIGHUP)
        pair.b.line("no key has changed")
        pair.rewrite("health:", "limits: {drain: 5s}\nworkers: 7\nhealth:")
        pair.b.popen.send_signal(signal.SIGHUP)
        pair.b.line("in use from now on: limits.drain")
        assert ask(connection) == b"ping"
    assert pair.b.stop() == 0


def test_an_invalid_file_is_reported_and_the_present_configuration_stays(pair: Pair) -> None:
    pair.rewrite("allow:", "alow:")
    line = pair.b.line("the configuration in use stays")
    assert f"{pair.file}, line " in line
    assert "allow: " in line
    assert pair.call() == b"ping"
    taken = pair.ports["b_app"]
    pair.rewrite("alow:", "allow:")
    # The app's address: nobody can listen there.
    own = f'127.0.0.1:{pair.ports["b_in"]}"'
    pair.rewrite(f'listen: "{own}', f'listen: "127.0.0.1:{taken}"')
    line = pair.b.line("the configuration in use stays")
    assert pair.call() == b"ping"
    pair.b.popen.send_signal(signal.SIGHUP)
    pair.b.line("the configuration in use stays")
    assert pair.call() == b"ping"
    assert pair.b.stop() == 0


def test_a_worker_forked_later_has_the_present_configuration(pair: Pair) -> None:
    pair.rewrite(f'allow: ["{WEB}"]', f'allow: ["{OTHER}"]')
    pair.b.line("in use from now on")
    pair.file.write_text("no sidecar's file\n")
    pair.b.line("the configuration in use stays")
    children = Path(f"/proc/{pair.b.popen.pid}/task/{pair.b.popen.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    for _ in children:
        pair.b.line("serving: sidecar b is ")
    pair.until_all(b"")
    assert pair.b.stop() == 0


def test_sighup_while_a_sidecar_waits_for_its_identity_does_not_end_it(tmp_path: Path) -> None:
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    write_ca(tmp_path, os.getuid())
    with started("sidecar", "run", "--config", tmp_path / "a.yaml") as a:
        a.line("ca.sock")
        a.popen.send_signal(signal.SIGHUP)
        with started("ca", "serve", "--config", tmp_path / "ca.yaml") as ca:
            ca.line("serving: CA of example.org on ")
            a.line("serving: sidecar a is ")
            a.line("no key has changed")
            assert a.stop() == 0
