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
from tests.integration.cli.identity_site import tell
from tests.integration.cli.processes import started, two_sidecars
from tests.integration.cli.test_cli_policy_reload import ALLOWED
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.support.agent import short_directory

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
def test_what_answers_at_a_health_port_is_told_from_the_sidecar_of_the_file(
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


def test_a_sidecar_does_not_pass_for_another_one_whose_health_port_it_has(directory: Path) -> None:
    ports = two_sidecars(
        directory, ids=(WEB, WEB), extra=f"identity: {{workload_api: unix://{directory / 'ca.sock'}}}\n"
    )
    b, a = directory / "b.yaml", directory / "a.yaml"
    at = f"127.0.0.1:{ports['b_health']}"
    a.write_text(a.read_text().replace(f"127.0.0.1:{ports['a_health']}", at))
    for file in (a, b):
        file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [p.yaml]\n")
    (directory / "p.yaml").write_text(ALLOWED)
    write_ca(directory, os.getuid())
    with ExitStack() as stack:
        stack.enter_context(started("ca", "serve", "--config", directory / "ca.yaml")).line("serving: CA of ")
        running = stack.enter_context(started("sidecar", "run", "--config", b))
        running.line("serving: sidecar b is ")

        why = f"the health port {at} is answered by sidecar b ({WEB}); wanted sidecar a ({WEB}): {OR_OLD}"
        told = tell("sidecar", "healthcheck", "--config", a)
        assert (told.code, told.out, told.err) == (1, f"not ready: {why}\n", "")
        told = tell("policy", "show", "--config", a, "--output", "json")
        assert (told.code, told.json["running"]) == (1, {"ready": False, "text": why})
        told = tell("check", "--sidecar", a, "--output", "json")
        found = [one for group in told.json["groups"] for one in group["checks"] if one["reason"] == why]
        assert [(one["problem"], one["advice"]) for one in found] == [
            (
                f"the sidecar is not ready, by its probes on {at}",
                f"`ss -ltnp 'sport = :{ports['b_health']}'` shows which; stop it, restart the sidecar, or correct"
                " health",
            )
        ]

        told = tell("sidecar", "healthcheck", "--config", b)
        assert (told.code, told.out, told.err) == (0, "ready\n", "")
        told = tell("policy", "show", "--config", b, "--output", "json")
        assert (told.code, told.json["running"]) == (0, {"ready": True, "text": ""})
        told = tell("check", "--sidecar", b, "--output", "json")
        marks = {one["check"]: one["result"] for group in told.json["groups"] for one in group["checks"]}
        assert marks[f"the sidecar is ready, by its probes on {at}"] == "passed"
        assert running.stop() == 0
