"""A health port is answered by the process of the file, or the commands that ask there say what answers instead."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.cli.probing import Probed, probed
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.observe.readiness import Readiness
from tests.integration.cli.identity_site import Told, running_agent, running_server, tell
from tests.integration.cli.processes import started, two_sidecars
from tests.integration.cli.test_cli_policy_reload import ALLOWED
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.support.agent import short_directory
from tests.support.ports import free_ports

A = ProcessName(ProcessKind.SIDECAR, "a", "spiffe://example.org/a")
OLDER = "it does not say which process it is, as a meshtls of an older version: restart it with this version"
END = "another process has it"
OR_OLD = f"{END}, or this one was started with an older file"


def ok(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A program that answers each connection so, once it has read something; None: never, until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as taken:

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                taken.enter_context(connection)
                data = connection.recv(65536)
                if data == b"end":
                    return
                if answer is not None:
                    with suppress(OSError):  # the client has left, as the answer is too long
                        connection.sendall(answer)
                        connection.shutdown(socket.SHUT_WR)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with socket.create_connection(listener.getsockname()) as last:
                last.sendall(b"end")
                serving.join()


@pytest.mark.parametrize(
    ("answer", "state", "is_other"),
    [
        (ok(f"ready\n{A}\n"), Readiness(True), False),
        (ok(f"ready; late\n{A}\n"), Readiness(True, "late"), False),
        (ok(f"waiting for an SVID\n{A}\n", "503 No"), Readiness(False, "waiting for an SVID"), False),
        (
            ok("ready\nsidecar b (spiffe://example.org/b)\n"),
            Readiness(False, f"PORT is answered by sidecar b (spiffe://example.org/b); wanted {A}: {OR_OLD}"),
            True,
        ),
        (
            ok("waiting for an SVID\nsidecar a (spiffe://example.org/b)\n", "503 No"),
            Readiness(False, f"PORT is answered by sidecar a (spiffe://example.org/b); wanted {A}: {OR_OLD}"),
            True,
        ),
        (
            ok("ready\nagent /run/agent.sock (example.org)\n"),
            Readiness(False, f"PORT is answered by agent /run/agent.sock (example.org); wanted {A}: {OR_OLD}"),
            True,
        ),
        (ok("ready\n"), Readiness(True, OLDER), False),
        (ok("ready; late\n"), Readiness(True, f"late; {OLDER}"), False),
        (ok("waiting for an SVID\n", "503 No"), Readiness(False, f"waiting for an SVID; {OLDER}"), False),
        (
            ok("<html>ready</html>"),
            Readiness(
                False,
                f"PORT is answered by something else than meshtls (an HTTP server, with status 200); wanted {A}: {END}",
            ),
            True,
        ),
        (
            ok("no such page", "404 Not Found"),
            Readiness(
                False,
                f"PORT is answered by something else than meshtls (an HTTP server, with status 404); wanted {A}: {END}",
            ),
            True,
        ),
        (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            Readiness(
                False,
                "PORT is answered by something else than meshtls: the connection was closed without an HTTP answer;"
                f" wanted {A}: {END}",
            ),
            True,
        ),
        (
            b"",
            Readiness(
                False,
                "PORT is answered by something else than meshtls: the connection was closed without an HTTP answer;"
                f" wanted {A}: {END}",
            ),
            True,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nready\n",
            Readiness(
                False,
                "PORT is answered by something else than meshtls: wanted 9 bytes of an answer, got 6;"
                f" wanted {A}: {END}",
            ),
            True,
        ),
        (
            bytes((1 << 20) + 1),
            Readiness(
                False,
                "PORT is answered by something else than meshtls: wanted an answer of at most 1048576 bytes;"
                f" wanted {A}: {END}",
            ),
            True,
        ),
    ],
)
def test_another_answer_at_a_health_port_is_told_from_that_of_the_file_s_sidecar(
    answer: bytes, state: Readiness, is_other: bool
) -> None:
    with answering(answer) as port:
        found = asyncio.run(probed(Address("127.0.0.1", port), A, 60.0))
    text = state.text.replace("PORT", f"the health port 127.0.0.1:{port}")
    assert found == Probed(Readiness(state.ready, text), is_other)


def test_silence_at_a_health_port_is_told_and_ends() -> None:
    with answering(None) as port:
        found = asyncio.run(probed(Address("127.0.0.1", port), A, 0.2))
    why = (
        f"the health port 127.0.0.1:{port} gives no answer within 0.2 s, wanted that of {A}: it hangs, or another"
        " process has it"
    )
    assert found == Probed(Readiness(False, why))


def test_nothing_at_a_health_port_is_no_other_process() -> None:
    with socket.socket() as bound:  # and no listener, so that no other can have the port meanwhile
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        found = asyncio.run(probed(Address("127.0.0.1", port), A))
    assert found == Probed(Readiness(False, f"127.0.0.1:{port}: Connection refused"))


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@contextmanager
def b_runs(directory: Path, extra: str = "") -> Iterator[dict[str, int]]:
    """The sidecar b, with ``b.yaml``; ``a.yaml`` differs from it in name and ports. Yields the ports."""
    identity = f"identity: {{workload_api: unix://{directory / 'ca.sock'}}}\n"
    ports = two_sidecars(directory, ids=(WEB, WEB), extra=identity + extra)
    for name in "ab":
        file = directory / f"{name}.yaml"
        file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [p.yaml]\n")
    (directory / "p.yaml").write_text(ALLOWED)
    write_ca(directory, os.getuid())
    with ExitStack() as stack:
        stack.enter_context(started("ca", "serve", "--config", directory / "ca.yaml")).line("serving: CA of ")
        running = stack.enter_context(started("sidecar", "run", "--config", directory / "b.yaml"))
        running.line("serving: sidecar b is ")
        yield ports
        assert running.stop() == 0


def findings(told: Told) -> dict[str, tuple[str, str, str, str]]:
    """Of each check of ``meshtls check`` the result, and what is said of it."""
    found = [one for group in told.json["groups"] for one in group["checks"]]
    return {one["check"]: (one["result"], one["problem"], one["reason"], one["advice"]) for one in found}


def test_a_sidecar_does_not_pass_for_another_one_whose_health_port_it_has(directory: Path) -> None:
    a, b = directory / "a.yaml", directory / "b.yaml"
    with b_runs(directory) as ports:
        at = f"127.0.0.1:{ports['b_health']}"
        a.write_text(a.read_text().replace(f"127.0.0.1:{ports['a_health']}", at))

        why = f"the health port {at} is answered by sidecar b ({WEB}); wanted sidecar a ({WEB}): {OR_OLD}"
        told = tell("sidecar", "healthcheck", "--config", a)
        assert (told.code, told.out, told.err) == (1, f"not ready: {why}\n", "")
        told = tell("policy", "show", "--config", a, "--output", "json")
        assert (told.code, told.json["running"]) == (1, {"ready": False, "text": why})
        found = findings(tell("check", "--sidecar", a, "--output", "json"))
        assert found[f"the sidecar is ready, by its probes on {at}"] == (
            "failed",
            f"the sidecar is not ready, by its probes on {at}",
            why,
            f"`ss -ltnp 'sport = :{ports['b_health']}'` shows which; stop it, restart the sidecar, or correct health",
        )

        told = tell("sidecar", "healthcheck", "--config", b)
        assert (told.code, told.out, told.err) == (0, "ready\n", "")
        told = tell("policy", "show", "--config", b, "--output", "json")
        assert (told.code, told.json["running"]) == (0, {"ready": True, "text": ""})
        found = findings(tell("check", "--sidecar", b, "--output", "json"))
        assert found[f"the sidecar is ready, by its probes on {at}"][0] == "passed"


def test_a_sidecar_does_not_pass_for_another_one_whose_admin_socket_it_has(directory: Path) -> None:
    a, b, at = directory / "a.yaml", directory / "b.yaml", directory / "admin.sock"
    why = f"the admin interface {at} is answered by sidecar b ({WEB}); wanted sidecar a ({WEB}): {OR_OLD}"
    with b_runs(directory, f"admin: {{socket: {at}}}\n"):
        for words in (
            ("admin", "ready", "--config", a),
            ("admin", "connections", "--sidecar", a),
            ("graph", "--config", a),
        ):
            told = tell(*words)
            assert (told.code, told.out, told.err) == (2, "", f"meshtls: {a}: admin.socket: {why}\n"), words
        told = tell("policy", "show", "--config", a, "--output", "json")
        assert (told.code, told.json["running"]) == (1, {"ready": False, "text": why})
        found = findings(tell("check", "--sidecar", a, "--output", "json"))
        assert found["the admin interface is that of the sidecar"] == (
            "failed",
            "the admin interface is that of another process",
            why,
            "correct the section admin, stop the other one, or restart the sidecar",
        )
        assert f"the sidecar at {at} has the version of this command" not in found

        for words in (
            ("admin", "ready", "--config", b),
            ("admin", "connections", "--sidecar", b),
            ("graph", "--config", b),
        ):
            assert tell(*words).code == 0, words
        told = tell("policy", "show", "--config", b, "--output", "json")
        assert (told.code, told.json["running"]) == (0, {"ready": True, "text": ""})
        found = findings(tell("check", "--sidecar", b, "--output", "json"))
        assert "the admin interface is that of the sidecar" not in found
        assert found[f"the sidecar at {at} has the version of this command"][0] == "passed"


def test_an_agent_or_a_server_does_not_pass_for_another_one(directory: Path) -> None:
    [port] = free_ports(1)
    agents, servers, at = directory / "agents.sock", directory / "servers.sock", f"127.0.0.1:{port}"
    with (
        running_server(f"admin: {{socket: {servers}}}\n") as server,
        running_agent(server, f"health: {at}\nadmin: {{socket: {agents}}}\n") as agent,
    ):
        others = {"agent": directory / "agent.yaml", "server": directory / "server.yaml"}
        others["agent"].write_text(agent.config.read_text().replace(f"socket_path: {agent.socket}", "socket_path: /x"))
        others["server"].write_text(
            server.config.read_text().replace("trust_domain: example.org", "trust_domain: b.org")
        )
        socket_path = server.directory / "data" / "admin.sock"

        running_agent_is, wanted_agent = f"agent {agent.socket} (example.org)", "agent /x (example.org)"
        why = f"the health port {at} is answered by {running_agent_is}; wanted {wanted_agent}: {OR_OLD}"
        told = tell("agent", "healthcheck", "--config", others["agent"])
        assert (told.code, told.out, told.err) == (1, f"not ready: {why}\n", "")
        found = findings(tell("check", "--agent", others["agent"], "--output", "json"))
        assert found[f"the agent is ready, by its probes on {at}"] == (
            "failed",
            f"the agent is not ready, by its probes on {at}",
            why,
            f"`ss -ltnp 'sport = :{port}'` shows which; stop it, restart the agent, or correct health",
        )
        why = f"the admin interface {agents} is answered by {running_agent_is}; wanted {wanted_agent}: {OR_OLD}"
        assert found["the admin interface is that of the agent"][2] == why
        told = tell("admin", "ready", "--config", others["agent"])
        assert (told.code, told.out, told.err) == (2, "", f"meshtls: {others['agent']}: admin.socket: {why}\n")

        why = (
            f"the socket {socket_path} is answered by server {socket_path} (example.org); wanted server {socket_path}"
            f" (b.org): {OR_OLD}"
        )
        told = tell("server", "healthcheck", "--config", others["server"])
        assert (told.code, told.out, told.err) == (1, f"not ready: {why}\n", "")
        found = findings(tell("check", "--server", others["server"], "--output", "json"))
        assert found["the server is ready"] == (
            "failed",
            "the server is not ready",
            why,
            "stop the other one, or give each a socket_path of its own",
        )
        why = why.replace(f"the socket {socket_path}", f"the admin interface {servers}")
        assert found["the admin interface is that of the server"][2] == why

        for kind, file in (("agent", agent.config), ("server", server.config)):
            told = tell(kind, "healthcheck", "--config", file)
            assert (told.code, told.out, told.err) == (0, "ready\n", "")
            assert tell("admin", "ready", "--config", file).code == 0
            found = findings(tell("check", f"--{kind}", file, "--output", "json"))
            assert f"the admin interface is that of the {kind}" not in found
            assert (
                found[f"the {kind} is ready" + (f", by its probes on {at}" if kind == "agent" else "")][0] == "passed"
            )
