"""``meshtls sidecar run --workers``: several processes behind one address, as the operator sees them."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from tests.integration.cli.processes import meshtls, started, two_sidecars
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.support.ports import free_ports


def call(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
        return connection.makefile("rb").readline()


def connections_of(pid: int) -> int:
    return sum(os.readlink(entry).startswith("socket:") for entry in Path(f"/proc/{pid}/fd").iterdir())


def test_workers_share_the_address_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        listen = f"127.0.0.1:{ports['b_app']}"
        app = stack.enter_context(started("app", "--listen", listen, "--name", "b"))
        app.line("app b listens on", "stdout")
        a = stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml"))
        b = stack.enter_context(started("sidecar", "run", "--workers", "2", "--config", tmp_path / "b.yaml"))
        a.line("serving: sidecar a is ")
        pids = {int(pid) for _ in range(2) for pid in re.findall(r"is process (\d+)", b.line("is process"))}
        b.line("serving: sidecar b is ")
        b.line("serving: sidecar b is ")

        before = {pid: connections_of(pid) for pid in pids}
        while any(connections_of(pid) == before[pid] for pid in pids):  # the kernel shares them out as it likes
            held = stack.enter_context(socket.create_connection(("127.0.0.1", ports["a_out"]), 30))
            held.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            assert held.recv(17) == b"HTTP/1.1 200 OK\r\n"
        os.kill(min(pids), signal.SIGKILL)
        b.line(f"process {min(pids)}, ended by signal 9; another takes its place")
        b.line("serving: sidecar b is ")
        assert call(ports["a_out"]) == b"HTTP/1.1 200 OK\r\n"
        assert a.stop() == 0
        assert b.stop() == 0


def requests_in(port: int) -> float:
    """What a scrape says of accepted connections, or -1 where nobody answers now."""
    try:
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: b\r\n\r\n")
            content = connection.makefile("rb").read().decode()
    except OSError:  # of a worker that was just killed
        return -1
    found = re.findall(r'^meshtls_connections_opened_total\{direction="inbound",.*\} (\d+)$', content, re.MULTILINE)
    return sum(map(float, found))


def scraped_until(port: int, count: int) -> None:
    deadline = time.monotonic() + 120
    while (found := requests_in(port)) != count:
        assert found <= count
        assert time.monotonic() < deadline, f"wanted {count} connections in a scrape, got {found}"
        time.sleep(0.3)


def test_a_scrape_adds_up_all_workers_and_those_that_were_killed(tmp_path: Path) -> None:
    [port] = free_ports(1)
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    file = tmp_path / "b.yaml"
    file.write_text(file.read_text() + f"metrics: {{listen: 127.0.0.1:{port}}}\n")
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        listen = f"127.0.0.1:{ports['b_app']}"
        app = stack.enter_context(started("app", "--listen", listen, "--name", "b"))
        app.line("app b listens on", "stdout")
        a = stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml"))
        b = stack.enter_context(started("sidecar", "run", "--workers", "2", "--config", file))
        a.line("serving: sidecar a is ")
        pids = {int(pid) for _ in range(2) for pid in re.findall(r"is process (\d+)", b.line("is process"))}
        for _ in pids:
            assert f"metrics on 127.0.0.1:{port}" in b.line("serving: sidecar b is ")
        for _ in range(20):  # the kernel shares them out as it likes
            assert call(ports["a_out"]) == b"HTTP/1.1 200 OK\r\n"
        scraped_until(port, 20)  # whichever worker said so, each has shown the others all that it counted
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            b.line(f"process {pid}, ended by signal 9; another takes its place")
            b.line("serving: sidecar b is ")
            scraped_until(port, 20)
        for _ in range(5):
            assert call(ports["a_out"]) == b"HTTP/1.1 200 OK\r\n"
        scraped_until(port, 25)
        assert a.stop() == 0
        assert b.stop() == 0


def test_workers_cannot_share_a_port_that_each_would_choose_for_itself(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(WEB, WEB))
    file = tmp_path / "a.yaml"
    file.write_text(re.sub(r'listen: "127.0.0.1:\d+"', 'listen: "127.0.0.1:0"', file.read_text()))
    done = meshtls("sidecar", "run", "--workers", "2", "--config", file)
    assert done.returncode == 2
    assert "workers: wanted a port other than 0 for each listener, since the workers share them" in done.stderr
