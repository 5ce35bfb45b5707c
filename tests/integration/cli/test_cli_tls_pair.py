"""``tls-server`` and ``tls-client``: two processes with live SVIDs of a real agent, and their refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.cli.identity_site import AgentProcess, Told
from tests.integration.cli.processes import Process, started

A, B = "spiffe://example.org/service-a", "spiffe://example.org/service-b"
ANYWHERE = "127.0.0.1:0"
NOBODY_S_UIDS = (60_001, 60_002)
# Everything is imported while files of ours can still be read; cryptography imports some of it when it first verifies.
AS_ANOTHER_USER = """
import os, sys
import meshtls.cli.tls_pair, meshtls.cli.tls_pair, asyncio.unix_events, encodings.idna
from meshtls.cli.main import main
from meshtls.policy.authorizer import authorize_any
from meshtls.pytest.mesh import Mesh
from meshtls.tls.rotating import server_context
with Mesh() as mesh:
    mesh.handshake(mesh.source("a"), server_context(mesh.source("b"), authorize_any()))
number = int(sys.argv[1])
os.setgroups([])
os.setresgid(number, number, number)
os.setresuid(number, number, number)
main(sys.argv[2:])
"""


@contextmanager
def serving(agent: AgentProcess, *arguments: str) -> Iterator[tuple[Process, dict[str, Any]]]:
    """A server that runs while the body does, and its output; it must exit with 0 on SIGTERM."""
    listening = ("tls-server", "--workload-socket", agent.socket, "--listen", ANYWHERE, "--output", "json")
    with started(*listening, *arguments) as process:
        yield process, event(process, "serving")
        assert process.stop() == 0


def event(process: Process, kind: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(process.line(f'"{kind}"', "stdout"))
    return said


def call(agent: AgentProcess, address: str, expect: str, *more: str) -> Told:
    return agent.tell("tls-client", "--connect", address, "--expect", expect, *more)


def test_both_commands_print_the_peers_id_and_the_client_the_greeting(agent: AgentProcess) -> None:
    with agent.identity("/service-b"), serving(agent, "--allow", B) as (server, said):
        told = call(agent, said["address"], B, "--output", "json")
        seen = event(server, "connection")
        text = call(agent, said["address"], B)

    assert told.code == 0
    assert told.json == {
        "peer_id": B,
        "peer_serial": said["serial"],
        "own_id": B,
        "own_serial": seen["peer_serial"],
        "tls_version": "TLSv1.3",
        "response": "hello from service-b",
    }
    assert seen == {
        "event": "connection",
        "peer_id": B,
        "peer_serial": told.json["own_serial"],
        "own_id": B,
        "own_serial": said["serial"],
        "tls_version": "TLSv1.3",
    }
    assert text.out == (
        f"peer {B}, serial {said['serial']}, over TLSv1.3 with our serial {told.json['own_serial']}\n"
        "hello from service-b\n"
    )


def test_a_client_that_is_not_allowed_is_refused_and_nothing_is_said_to_it(agent: AgentProcess) -> None:
    with agent.identity("/service-b"), serving(agent, "--allow", A) as (server, said):
        told = call(agent, said["address"], B)
        server.line(f"peer {B} is not allowed to reach {B}; allowed: {A}")

    assert (told.code, told.out) == (1, "")
    assert told.err.startswith("meshtls: ")
    assert "refused" in told.err


@pytest.mark.parametrize("allowed", [(A, B), (B, "--allow", A), (B, A)])
def test_several_clients_are_allowed_in_either_way(agent: AgentProcess, allowed: tuple[str, ...]) -> None:
    with agent.identity("/service-b"), serving(agent, "--allow", *allowed) as (_, said):
        told = call(agent, said["address"], B)

    assert (told.code, told.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--allow", A, "service-b"), "Invalid value for '--allow': SPIFFE ID 'service-b': wanted it to start with "),
        (("--allow", A, B, "--allow", "x", B), "Invalid value for '--allow': SPIFFE ID 'x': wanted it to start with "),
        ((A, "--allow", B), f"Error: Got unexpected extra argument ({A})\n"),
        (("--allow", A, "--output", "json", B), f"Got unexpected extra argument ({B})"),
    ],
)
def test_allow_rejects_a_value_that_is_not_a_spiffe_id(
    agent: AgentProcess, arguments: tuple[str, ...], message: str
) -> None:
    told = agent.tell("tls-server", "--listen", ANYWHERE, *arguments)

    assert (told.code, told.out) == (2, "")
    assert message in told.err


def test_a_server_that_is_not_the_expected_one_is_refused(agent: AgentProcess) -> None:
    with agent.identity("/service-b"), serving(agent, "--allow", B) as (_, said):
        told = call(agent, said["address"], A)

    assert (told.code, told.out) == (1, "")
    assert told.err == f"meshtls: the server is {B}; expected: {A}\n"


def test_after_a_rotation_a_new_connection_uses_the_new_certificate_on_both_sides(agent: AgentProcess) -> None:
    with (
        agent.identity("/service-b", "--x509-svid-ttl", "60") as entry_id,
        serving(agent, "--allow", B) as (server, said),
    ):
        before = call(agent, said["address"], B, "--output", "json").json
        # The agent renews at once what is to have another name.
        agent.server.json("entry", "update", "--entry-id", entry_id, "--dns", "b.example.org")
        rotated = event(server, "rotated")
        after = call(agent, said["address"], B, "--output", "json").json

    assert before["peer_serial"] == before["own_serial"] == said["serial"]
    assert after["peer_serial"] == after["own_serial"] == rotated["serial"] != said["serial"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes as two other users")
def test_two_users_have_two_identities(agent: AgentProcess) -> None:
    ours, theirs = (f"unix:uid:{uid}" for uid in NOBODY_S_UIDS)
    with (
        agent.identity("/service-a", selector=ours),
        agent.identity("/service-b", selector=theirs),
        as_user(NOBODY_S_UIDS[1], agent, "tls-server", "--listen", ANYWHERE, "--allow", A) as server,
    ):
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        with as_user(NOBODY_S_UIDS[0], agent, "tls-client", "--connect", said["address"], "--expect", B) as client:
            answer = json.loads(client.communicate(timeout=30)[0])
        seen = json.loads(server.stdout.readline())
        server.terminate()
        assert server.wait(30) == 0

    assert (answer["own_id"], answer["peer_id"], answer["response"]) == (A, B, "hello from service-b")
    assert (seen["own_id"], seen["peer_id"], seen["peer_serial"]) == (B, A, answer["own_serial"])


@contextmanager
def as_user(uid: int, agent: AgentProcess, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", AS_ANOTHER_USER, str(uid), *arguments]
    command += ["--workload-socket", str(agent.socket), "--output", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_address_in_use_and_an_unanswered_address_are_clear_errors(agent: AgentProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with agent.identity("/service-b"):
            occupied = agent.tell("tls-server", "--listen", address, "--allow", B)
    with agent.identity("/service-b"):
        absent = call(agent, address, B)

    assert (occupied.code, absent.code) == (2, 1)
    assert occupied.err.startswith(f"meshtls: wanted to listen on {address}: ")
    assert absent.err.startswith(f"meshtls: {address}: can't be reached: ")


def test_allow_and_the_expected_peer_are_required(agent: AgentProcess) -> None:
    server, client = agent.tell("tls-server"), agent.tell("tls-client")

    assert (server.code, client.code) == (2, 2)
    assert server.err.endswith("Error: Missing option '--allow'.\n")
    assert client.err.endswith("Error: Missing option '--expect'.\n")
