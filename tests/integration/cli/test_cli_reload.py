"""SIGHUP and a changed file: which keys a running server, agent and CA reload, ignore, and refuse."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

import pytest

from meshtls.ca.profile import BACKDATE
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import WorkloadApiError
from tests.integration.cli.identity_site import ServerProcess, tell
from tests.integration.cli.processes import Process, started
from tests.support.ports import free_ports

STAYS = "; the configuration in use stays"


def hang_up(process: Process) -> None:
    process.popen.send_signal(signal.SIGHUP)


def wait_to_be_seen(process: Process) -> None:
    """The file is looked at each second."""


@pytest.fixture(params=[hang_up, wait_to_be_seen])
def reload(request: pytest.FixtureRequest) -> Callable[[Process], None]:
    made: Callable[[Process], None] = request.param
    return made


def life(socket: Path) -> int:
    """The lifetime of a new SVID in seconds, without the backdating."""
    told = tell("x509", "mint", "--spiffe-id", "spiffe://example.org/web", "--output", "json", "--socket", socket)
    assert (told.code, told.err) == (0, "")
    begins, ends = (datetime.fromisoformat(told.json[name]) for name in ("not_before", "not_after"))
    return int((ends - begins - BACKDATE).total_seconds())


def test_a_server_reloads_live_keys_and_names_those_that_need_a_restart(
    tmp_path: Path, reload: Callable[[Process], None]
) -> None:
    file, socket = tmp_path / "server.yaml", tmp_path / "admin.sock"
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path / 'data'}\nsocket_path: {socket}\n"
    file.write_text(text)
    with started("server", "run", "--config", file) as process:
        process.line("serving: ", "stdout")
        assert life(socket) == 3600

        file.write_text(text.replace("bind_port: 0", "bind_port: 1") + "default_x509_svid_ttl: 5m\nagent_ttl: 10m\n")
        reload(process)
        process.line("in use from now on: agent_ttl, default_x509_svid_ttl")
        process.line("changed, and in use after a restart only: bind_port")
        assert life(socket) == 300

        file.write_text("trust_domain: example.org\nbind_port: x\ncolour: red\n")
        reload(process)
        refused = process.line(STAYS)
        assert f"{file}, line 2: bind_port: wanted a port, 0 to 65535, got 'x'; {file}, line 3: colour:" in refused
        assert life(socket) == 300

        file.write_text(text)
        reload(process)
        process.line("in use from now on: agent_ttl, default_x509_svid_ttl")
        assert life(socket) == 3600
        assert process.stop() == 0


def test_a_server_reloads_its_node_attestors(tmp_path: Path) -> None:
    file, socket = tmp_path / "server.yaml", tmp_path / "admin.sock"
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path / 'data'}\nsocket_path: {socket}\n"
    file.write_text(text)
    with started("server", "run", "--config", file) as process:
        process.line("serving: ", "stdout")
        assert tell("token", "generate", "--socket", socket).code == 0

        file.write_text(text + f"node_attestors: {{x509pop: {{ca_bundle_path: {tmp_path / 'absent.pem'}}}}}\n")
        hang_up(process)
        assert "absent.pem: wanted CA certificates in PEM for x509pop: " in process.line(STAYS)
        assert tell("token", "generate", "--socket", socket).code == 0

        file.write_text(text + "node_attestors: {}\n")
        hang_up(process)
        process.line("in use from now on: node_attestors")
        assert tell("token", "generate", "--socket", socket).code == 1
        assert process.stop() == 0


def test_a_log_level_is_reloaded(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path / 'data'}\nlog_level: {{}}\n"
    file.write_text(text.format("ERROR"))
    with started("server", "run", "--config", file) as process:
        process.line("serving: ", "stdout")
        file.write_text(text.format("DEBUG"))
        hang_up(process)
        process.line("in use from now on: log_level")
        hang_up(process)
        process.line("SIGHUP: reading the configuration again")
        process.line("no key has changed; the files that the configuration names were read again")
        file.write_text("trust_domain: example.com\n")
        hang_up(process)
        assert "trust_domain: example.org can't change to " in process.line(STAYS)
        assert process.stop() == 0


def ended(connection: socket.socket) -> None:
    """Wait until the other side has ended it."""
    connection.settimeout(30)
    with suppress(ConnectionResetError):
        while connection.recv(4096):
            pass


def test_reloaded_limits_apply_to_running_listeners(tmp_path: Path) -> None:
    file, place = tmp_path / "server.yaml", tmp_path / "admin.sock"
    text = f"trust_domain: example.org\nbind_port: 0\ndata_dir: {tmp_path / 'data'}\nsocket_path: {place}\n"
    file.write_text(text)
    with started("server", "run", "--config", file) as process, ExitStack() as stack:
        process.line("serving: ", "stdout")
        first, second, third = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3))
        first.connect(str(place))
        second.connect(str(place))

        file.write_text(f"{text}limits: {{connections_per_caller: 2}}\n")
        hang_up(process)
        process.line("in use from now on: limits.connections_per_caller")
        third.connect(str(place))

        ended(first)  # its caller's oldest
        assert process.stop() == 0


async def names(socket: Path) -> list[str]:
    async with WorkloadApiClient(f"unix://{socket}") as client:
        return [str(svid.spiffe_id) for svid in (await client.fetch_x509_context()).svids]


def test_a_ca_reloads_the_mapping_of_uids_to_services(tmp_path: Path, reload: Callable[[Process], None]) -> None:
    file, socket = tmp_path / "ca.yaml", tmp_path / "ca.sock"
    text = "trust_domain: example.org\nsocket_path: {}\nidentities: [{{uid: {}, spiffe_id: 'spiffe://{}'}}]\n"
    file.write_text(text.format(socket, os.getuid(), "example.org/a"))
    with started("ca", "serve", "--config", file) as process:
        process.line("serving: ")
        assert asyncio.run(names(socket)) == ["spiffe://example.org/a"]

        file.write_text(text.format(socket, os.getuid(), "example.org/b"))
        reload(process)
        process.line("in use from now on: identities")
        assert asyncio.run(names(socket)) == ["spiffe://example.org/b"]

        file.write_text(text.format(socket, os.getuid(), "example.com/b"))
        reload(process)
        process.line(STAYS)
        assert asyncio.run(names(socket)) == ["spiffe://example.org/b"]

        file.write_text(text.format(socket, os.getuid() + 1, "example.org/b"))
        reload(process)
        process.line("in use from now on: identities")
        with pytest.raises(WorkloadApiError, match="no identity issued"):
            asyncio.run(names(socket))
        assert process.stop() == 0


def test_an_agent_whose_token_was_used_attests_by_a_new_one_in_its_file(server: ServerProcess, tmp_path: Path) -> None:
    used, new = (server.json("token", "generate")["token"] for _ in range(2))
    (tmp_path / "bundle.pem").write_text(server.tell("bundle", "show").out)
    host, port = server.said["address"].split(":")
    file = tmp_path / "agent.yaml"
    [health] = free_ports(1)
    text = (
        f"trust_domain: example.org\nserver_address: {host}\nserver_port: {port}\n"
        f"attest_port: {server.said['attest_address'].split(':')[1]}\ntrust_bundle_path: {tmp_path / 'bundle.pem'}\n"
        f"socket_path: {tmp_path / 'agent.sock'}\nkey_manager: {{memory: }}\n"
    )
    file.write_text(f"{text}join_token: {used}\n")
    with started("agent", "run", "--config", file) as process:
        process.line("ready: 0 entries", "stdout")
        assert process.stop() == 0
    with started("agent", "run", "--config", file) as process:
        process.line("join token: it is unknown, used or expired")

        file.write_text(f"{text}join_token: {new}\nhealth: 127.0.0.1:{health}\n")
        hang_up(process)
        process.line("in use from now on: join_token")
        process.line("changed, and in use after a restart only: health")
        process.line("ready: 0 entries", "stdout")

        file.write_text(f"{text}join_token: {new}\nlog_level: loud\n")
        hang_up(process)
        assert "log_level: wanted DEBUG, INFO, WARN or ERROR, got 'loud'" in process.line(STAYS)
        assert process.stop() == 0
