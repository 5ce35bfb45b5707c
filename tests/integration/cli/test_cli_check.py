"""``meshtls check`` against real processes: each check passes, and fails for its one reason with the whole message."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.cli.check.finding import Finding
from meshtls.cli.check.machine import descriptors
from meshtls.cli.check.server import skew_finding
from meshtls.cli.check.workload import clock_finding, rotation_finding, svid_findings
from meshtls.cli.marks import Mark
from meshtls.serverapi.values import Health
from meshtls.svid.context import X509Context
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, Told, running_agent, running_server, tell
from tests.integration.cli.processes import started
from tests.support.agent import short_directory
from tests.support.authority import context_for, make_authority
from tests.support.ports import free_ports
from tests.support.require import require, runs_for_others

DOMAIN = "example.org"
NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


def problems(told: Told, result: str = "failed") -> list[str]:
    """Each check with this result, with its reason and advice."""
    found = [one for group in told.json["groups"] for one in group["checks"]]
    return [f"{one['check']}: {one['reason']} -> {one['advice']}" for one in found if one["result"] == result]


def check(*arguments: str | Path) -> Told:
    return tell("check", *arguments, "--output", "json")


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory, with the address of an app that accepts connections, and answers nothing."""
    with short_directory() as directory, listening() as port:
        (directory / "app").write_text(f"127.0.0.1:{port}")
        yield directory


def app_of(site: Path) -> str:
    return (site / "app").read_text()


def fixed_ports(server: ServerProcess, site: Path, **changed: object) -> Path:
    """The file of a running server with the ports that it got, or others."""
    values: dict[str, object] = {
        "bind_address": "127.0.0.1",
        "bind_port": int(server.said["address"].rpartition(":")[2]),
        "attest_port": int(server.said["attest_address"].rpartition(":")[2]),
        "data_dir": server.directory / "data",
    } | changed
    file = site / "server.yaml"
    file.write_text(f"trust_domain: {DOMAIN}\n" + "".join(f"{key}: {value}\n" for key, value in values.items()))
    return file


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    """A program that answers nothing, as many do."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        yield listener.getsockname()[1]


def test_all_passes_on_a_healthy_site(server: ServerProcess, agent: AgentProcess, site: Path) -> None:
    with agent.identity("/check"):
        told = check("--server", fixed_ports(server, site), "--agent", agent.config, "--socket", server.said["socket"])
        assert (told.code, problems(told), told.json["passed"]) == (0, [], True)
        names = [group["group"] for group in told.json["groups"]]
        where = f"the Workload API at unix://{agent.socket}"
        assert names == ["this machine", "the server", "the running server", "the agent", where]
        text = tell("check", "--workload-socket", agent.socket)
    assert text.code == 0
    assert "the Workload API gives this process an X509-SVID (spiffe://example.org/check)\n" in text.out
    assert "our own chain verifies against it\n" in text.out


def test_marks_are_ascii_where_the_output_is(tmp_path: Path) -> None:
    for encoding, mark in (("ascii", "[no]"), ("utf-8", "×")):
        run = subprocess.run(
            [sys.executable, "-m", "meshtls", "check", "--workload-socket", str(tmp_path / "none.sock")],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            check=False,
        )
        assert (run.returncode, f"{mark} the socket " in run.stdout.decode(encoding)) == (1, True)


def test_without_an_address_the_workload_api_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    monkeypatch.delenv("MESHTLS_ADMIN_INTERFACE", raising=False)
    told = check()
    assert told.code == 1
    assert problems(told) == [
        "its address is known: no Workload API address: set SPIFFE_ENDPOINT_SOCKET, or give an address; wanted"
        " unix:///absolute/path, unix:/absolute/path or tcp://IP:port -> set it to the agent's socket, or give"
        " --workload-socket; `meshtls up` has no agent: export MESHTLS_ADMIN_INTERFACE as it says, and `meshtls check`"
        " checks its sidecars"
    ]


def test_a_socket_that_is_not_there(site: Path) -> None:
    path = site / "agent.sock"
    check_of = f"the socket {path} is there and this user may connect to it"
    assert problems(check("--workload-socket", path)) == [
        f"{check_of}: unreachable: cannot connect (No such file or directory) -> start the agent, or name the socket"
        " that it serves"
    ]
    path.write_text("")
    assert problems(check("--workload-socket", path)) == [
        f"{check_of}: unreachable: it is no socket -> name the socket that the agent serves"
    ]
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert problems(check("--workload-socket", path)) == [
        f"{check_of}: unreachable: cannot connect (Connection refused): nothing listens on it -> start the agent: the"
        " socket is left from one that has ended"
    ]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become another user")
@pytest.mark.parametrize("closed", ["socket", "directory"])
def test_a_socket_that_this_user_may_not_use(closed: str) -> None:
    with short_directory() as site, socket.socket(socket.AF_UNIX) as listener:
        path = site / "agent.sock"
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600 if closed == "socket" else 0o666)
        site.chmod(0o755 if closed == "socket" else 0o700)
        code = (
            "from pathlib import Path; from meshtls.cli.check.sockets import socket_finding;"
            f" print(socket_finding(Path({str(path)!r}), 'the agent'))"
        )
        become = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
        require("another user", runs_for_others(), "another user can't run this Python")
        run = subprocess.run([*become, sys.executable, "-c", code], capture_output=True, text=True, check=True)
        reason = {
            "socket": "cannot connect (Permission denied): uid 65534 may not write to it (mode 0600)",
            "directory": f"cannot connect (Permission denied): uid 65534 may not enter a directory of {path}",
        }[closed]
        assert f"mark=<Mark.FAILED: 'failed'>, reason='{reason}'" in run.stdout


def test_a_process_without_an_entry(agent: AgentProcess) -> None:
    told = check("--workload-socket", agent.socket)
    assert told.code == 1
    [problem] = problems(told)
    assert problem.startswith(
        "the Workload API gives this process an X509-SVID: no_identity: Workload API at"
        f" unix://{agent.socket}, FetchX509SVID: PERMISSION_DENIED: "
    )
    assert problem.endswith(
        " -> `meshtls explain` says which entries match this process, and what the near misses lack"
    )


def sidecar_file(site: Path, agent_socket: Path, **changed: object) -> Path:
    values = {
        "spiffe_id": f"spiffe://{DOMAIN}/check",
        "listen": "127.0.0.1:0",
        "health": "127.0.0.1:1",
        "app": app_of(site),
        "allow": f'["spiffe://{DOMAIN}/db"]',
    } | changed
    file = site / "sidecar.yaml"
    file.write_text(
        f"name: web\nspiffe_id: {values['spiffe_id']}\nidentity: {{workload_api: 'unix://{agent_socket}'}}\n"
        f"inbound:\n  - {{listen: '{values['listen']}', app: '{values['app']}', allow: {values['allow']}}}\n"
        + (f"health: {values['health']}\n" if values["health"] else "")
    )
    return file


def headlines(told: Told) -> list[str]:
    """What is wrong, as the text output has it."""
    found = [one for group in told.json["groups"] for one in group["checks"]]
    return [f"{one['result']}: {one['problem']}" for one in found if one["result"] != "passed"]


def test_a_sidecar_that_does_not_run(agent: AgentProcess, site: Path) -> None:
    down, taken = free_ports(2)
    not_ready = (
        f"the sidecar is ready, by its probes on 127.0.0.1:{down}: 127.0.0.1:{down}: Connection refused ->"
        " start the sidecar, or see its log"
    )
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{down}", listen=f"127.0.0.1:{taken}")
        assert problems(check("--sidecar", file)) == [not_ready]
        with listening(taken):
            assert problems(check("--sidecar", file)) == [
                not_ready,
                f"127.0.0.1:{taken} is free for the sidecar: Address already in use, by this process ->"
                f" `ss -ltnp 'sport = :{taken}'` shows what listens there; stop it, or take another port",
            ]
        with listening(down):  # another program, which answers no probes
            assert headlines(check("--sidecar", file)) == [
                f"failed: the sidecar is not ready, by its probes on 127.0.0.1:{down}",
                f"failed: the sidecar can't listen on 127.0.0.1:{down} (health)",
            ]
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{down}", spiffe_id=f"spiffe://{DOMAIN}/other")
        assert problems(check("--sidecar", file)) == [
            "the Workload API gives this process an X509-SVID: other_identity: wanted an SVID of"
            f" spiffe://{DOMAIN}/other, got spiffe://{DOMAIN}/check -> create an entry for it, or correct spiffe_id",
            not_ready,
        ]
        file = sidecar_file(site, agent.socket, allow="[]\n    oops")
        [problem] = problems(check("--sidecar", file, "--workload-socket", agent.socket))
        assert problem.startswith(f"{file} and its policies are valid: {file}")
        assert problem.endswith(f" -> `meshtls sidecar validate --config {file}`")


def test_an_invalid_file_is_not_said_to_lack_an_address(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    [problem] = problems(check("--sidecar", sidecar_file(site, site / "agent.sock", allow="[]\n    oops")))
    assert problem.startswith(f"{site}/sidecar.yaml and its policies are valid: ")


def test_a_server_that_does_not_run(site: Path) -> None:
    port, attest = free_ports(2)
    data = site / "data"
    file = site / "server.yaml"
    file.write_text(f"trust_domain: {DOMAIN}\nbind_port: {port}\nattest_port: {attest}\ndata_dir: {data}\n")
    no_socket = (
        f"the socket {data}/admin.sock is there and this user may connect to it: cannot connect (No such file or"
        " directory) -> start the server, or name the socket that it serves"
    )
    told = check("--server", file)
    assert (told.code, problems(told)) == (1, [no_socket])
    assert problems(told, "warning") == [
        "the data store can be read, and has the schema of this version: it has none yet -> the server creates it at"
        " its first start"
    ]
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    with listening(port):
        assert problems(check("--server", file)) == [
            f"the data directory {data} is private: mode 0755 gives other users access -> chmod 700 {data}",
            no_socket,
            f"127.0.0.1:{port} is free for the server: Address already in use, by this process ->"
            f" `ss -ltnp 'sport = :{port}'` shows what listens there; stop it, or take another port",
        ]
    data.chmod(0o700)
    file.write_text(f"trust_domain: {DOMAIN}\nbind_address: a..test\nbind_port: {port}\ndata_dir: {data}\n")
    assert problems(check("--server", file)) == [
        f"{file} is valid: {file}, line 2: bind_address: wanted a host name with labels of 1 to 63 characters, got"
        f" 'a..test' -> `meshtls server validate --config {file}`"
    ]
    file.write_text("trust_domain: a b\n")
    assert problems(check("--server", file)) == [
        f"{file} is valid: {file}, line 1: trust_domain: trust domain 'a b': wanted one or more of a-z, 0-9, '.', '_'"
        f" and '-' -> `meshtls server validate --config {file}`"
    ]


def test_a_data_store_that_cant_be_read(site: Path) -> None:
    data = site / "data"
    data.mkdir(mode=0o700)
    (data / "datastore.sqlite3").write_bytes(b"this is no database" * 100)
    file = site / "server.yaml"
    file.write_text(f"trust_domain: {DOMAIN}\nbind_port: 0\nattest_port: 0\ndata_dir: {data}\n")
    [problem, _] = problems(check("--server", file))
    assert problem == (
        "the data store can be read, and has the schema of this version: data store SQLite file"
        f" {data}/datastore.sqlite3: file is not a database; restore the file from a backup -> see whether the database"
        " runs, and which meshtls wrote it"
    )


def test_a_server_of_another_version_is_reported(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = version("meshtls")
    monkeypatch.setattr("meshtls.cli.check.versions.version", lambda name: "99.0")
    told = check("--socket", server.said["socket"])
    assert problems(told, "warning") == [
        f"the server has the version of this command: it has {ours}, and this is 99.0 -> use the command of the"
        " version of the server"
    ]


def test_an_agent_and_a_sidecar_of_another_version(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = version("meshtls")
    sockets = site / "agent-admin.sock", site / "sidecar-admin.sock"
    with (
        running_server() as server,
        running_agent(server, f"admin:\n  socket: {sockets[0]}\n") as agent,
        agent.identity("/check"),
    ):
        (health,) = free_ports(1)
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{health}", listen="127.0.0.1:0")
        file.write_text(file.read_text() + f"admin:\n  socket: {sockets[1]}\n")
        asked = ("--agent", server.directory / "agent.yaml", "--sidecar", file)
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            same = check(*asked)  # a port that the system chooses can't be checked, and is no failure
            monkeypatch.setattr("meshtls.cli.check.versions.version", lambda name: "99.0")
            other = check(*asked)
            assert process.stop() == 0
    assert (same.code, problems(same), problems(same, "warning")) == (0, [], [])
    assert problems(other, "warning") == [
        f"the {who} at {socket} has the version of this command: it has {ours}, and this is 99.0 -> use the command of"
        f" the version of the {who} at {socket}"
        for who, socket in zip(("agent", "sidecar"), sockets, strict=True)
    ]


def test_a_running_sidecar_is_the_peer_that_it_should_be(agent: AgentProcess, site: Path) -> None:
    health, port = free_ports(2)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{health}", listen=f"127.0.0.1:{port}")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            told = check("--sidecar", file)
            assert process.stop() == 0
    assert (told.code, problems(told)) == (0, [])
    checks = [one["check"] for group in told.json["groups"] for one in group["checks"]]
    assert checks[-3:] == [
        f"the sidecar is ready, by its probes on 127.0.0.1:{health}",
        f"127.0.0.1:{port} is answered by spiffe://{DOMAIN}/check",
        f"the app at {app_of(site)} accepts connections",
    ]


def test_a_probe_that_looks_at_a_certificate_is_no_failed_handshake(agent: AgentProcess, site: Path) -> None:
    port, health = free_ports(2)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{health}", listen=f"127.0.0.1:{port}")
        file.write_text(file.read_text() + f"admin:\n  socket: {site}/admin.sock\n")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            assert problems(check("--sidecar", file)) == []
            assert tell("x509", "inspect", f"127.0.0.1:{port}").code == 0
            for _ in range(2):
                assert json.loads(process.line('"outcome"', "stdout"))["outcome"] == "CLOSED_EARLY"
            told = check("--sidecar", file)
            graph = tell("graph", "--socket", site / "admin.sock", "--output", "json")
            assert process.stop() == 0
    assert (told.code, problems(told, "warning")) == (0, [])
    assert (graph.code, graph.json["edges"]) == (0, [])


def test_a_port_that_another_peer_answers(server: ServerProcess, site: Path) -> None:
    with silent() as port:
        told = check("--server", fixed_ports(server, site, bind_port=port))
    assert problems(told) == [
        f"127.0.0.1:{port} is answered by spiffe://{DOMAIN}/meshtls/server: 127.0.0.1:{port} answers in plaintext, not"
        " TLS -> see whether it runs, and whether a firewall or another program is in the way"
    ]


@contextmanager
def silent() -> Iterator[int]:
    """A server that speaks HTTP, for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 14)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_an_agent_whose_server_is_away(agent: AgentProcess, site: Path) -> None:
    port, attest = free_ports(2)
    text = agent.config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("server_port", "attest_port", "data_dir"))]
    data = site / "agent"
    file = site / "agent.yaml"
    ours = [*lines, f"server_port: {port}", f"attest_port: {attest}", f"data_dir: {data}"]
    file.write_text("\n".join(ours) + "\n")
    with agent.identity("/check"):
        told = check("--agent", file)
        assert problems(told, "warning") == [
            f"the agent's own SVID can be read: there is none in {data} -> see the agent's log for why it could not be"
            " saved; the next start has to attest again"
        ]
        stopped = [line for line in ours if not line.startswith("socket_path")] + [f"socket_path: {site}/agent.sock"]
        file.write_text("\n".join(stopped) + "\n")
        told = check("--agent", file, "--workload-socket", agent.socket)
        assert problems(told) == [
            f"127.0.0.1:{one} is answered by spiffe://{DOMAIN}/meshtls/server: can't be reached: Connection refused ->"
            " see whether it runs, and whether a firewall or another program is in the way"
            for one in (port, attest)
        ]
        assert problems(told, "warning") == [
            "the agent's own SVID can be read: there is none yet -> the agent attests at its first start"
        ]
        data.mkdir(mode=0o700)
        (data / "agent-svid.pem").touch(mode=0o644)
        (data / "agent-svid.pem").chmod(0o644)
        assert problems(check("--agent", file, "--workload-socket", agent.socket))[0] == (
            f"the agent's own SVID can be read: {data}/agent-svid.pem: mode 0644 gives other users access to the"
            f" agent's key; run chmod 600 {data}/agent-svid.pem -> correct that, or delete the file and attest again"
        )


def test_an_agent_whose_disk_is_full(agent: AgentProcess, site: Path) -> None:
    lines = [one for one in agent.config.read_text().splitlines() if not one.startswith("data_dir")]
    file, full = site / "agent.yaml", "/proc"  # a file system of which no byte is free
    file.write_text("\n".join([*lines, f"data_dir: {full}/agent"]) + "\n")
    with agent.identity("/check"):
        told = check("--agent", file)
        assert problems(told) == [
            f"the disk of {full} has room: database or disk is full: 0 bytes are free -> make room on the disk:"
            f" `df {full}`"
        ]
        assert headlines(told) == [
            f"failed: the disk of {full} is full",
            "warning: the agent runs, and has not saved its SVID",
        ]
        assert problems(check("--agent", agent.config)) == []


def test_wait_checks_again_until_nothing_fails(agent: AgentProcess, site: Path) -> None:
    path = site / "agent.sock"
    told = check("--workload-socket", path, "--wait", "10ms")
    assert told.code == 1
    with agent.identity("/check"):
        linker = threading.Timer(2, lambda: path.symlink_to(agent.socket))
        linker.start()
        told = check("--workload-socket", path, "--wait", "2m")
        linker.join()
    assert (told.code, problems(told)) == (0, [])


def restricted(site: Path, setting: str) -> dict[str, str]:
    """The environment of a process whose OpenSSL is configured so."""
    file = site / "openssl.cnf"
    file.write_text(f"openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n[all]\n{setting}\n")
    return {**os.environ, "OPENSSL_CONF": str(file)}


def machine_of(environment: dict[str, str], prefix: str = "") -> Any:
    command = f"{prefix} exec {sys.executable} -m meshtls check --output json"
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=environment, check=False)
    return Told(run.returncode, run.stdout, run.stderr)


def test_an_openssl_that_is_restricted(site: Path) -> None:
    told = machine_of(restricted(site, "MaxProtocol = TLSv1.2"))
    [problem] = [one for one in problems(told) if one.startswith("TLS 1.3 with an ECDSA")]
    assert problem == (
        "TLS 1.3 with an ECDSA certificate and X25519 works: TLS failed: no protocols available ->"
        " take a newer Python, linked with an OpenSSL that is not restricted; see openssl.cnf"
    )


def test_a_process_with_few_descriptors() -> None:
    told = machine_of(dict(os.environ), "ulimit -n 256;")
    assert problems(told, "warning") == [
        "a process may open enough descriptors: the limit is 256, and a sidecar at its limits uses 4096 ->"
        " raise it: `ulimit -n 4096`, or LimitNOFILE=4096 in the systemd unit"
    ]
    assert descriptors(4096, 4096).mark is Mark.PASSED


def health(clock: datetime | None) -> Health:
    return Health(
        ready=True,
        waiting_for="",
        trust_domain=DOMAIN,
        server_id="id",
        version="0",
        revision=1,
        entries=0,
        agents_connected=0,
        clock=clock,
    )


def test_a_clock_that_differs_from_the_servers() -> None:
    check_of, advice = "our clock agrees with the server's", "`timedatectl`, `chronyc tracking`"
    for off in (timedelta(seconds=-5), timedelta(), timedelta(seconds=5)):
        assert skew_finding(health(NOW + off), NOW, NOW) == Finding(check_of, Mark.PASSED)
    for off, told in ((timedelta(seconds=6), "12:00:06"), (timedelta(seconds=-6), "11:59:54")):
        assert skew_finding(health(NOW + off), NOW, NOW) == Finding(
            check_of,
            Mark.FAILED,
            f"the server's says 2030-05-01T{told}Z, ours 2030-05-01T12:00:00Z",
            f"correct the one that is wrong: {advice}",
            "our clock differs from the server's",
        )
    # The call took a while: when in it the server looked at its clock is not known.
    assert skew_finding(health(NOW), NOW - timedelta(seconds=20), NOW + timedelta(seconds=20)).mark is Mark.PASSED
    assert skew_finding(health(None), NOW, NOW).mark is Mark.WARNING


def test_an_svid_that_is_not_rotated_or_from_the_future() -> None:
    context = context_for(make_authority(DOMAIN), f"spiffe://{DOMAIN}/web", ttl=timedelta(hours=1))
    svid = context.svid
    signed = svid.not_before + timedelta(seconds=10)
    assert rotation_finding(svid, signed + timedelta(minutes=39)).mark is Mark.PASSED
    late = rotation_finding(svid, signed + timedelta(minutes=41))
    assert (late.mark, late.reason) == (
        Mark.FAILED,
        f"SVID spiffe://{DOMAIN}/web expires in 1140 s, and no newer one was received",
    )
    assert clock_finding(svid, signed - timedelta(seconds=4)).mark is Mark.PASSED
    slow = clock_finding(svid, signed - timedelta(seconds=6))
    said, ours = (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (signed, signed - timedelta(seconds=6)))
    assert (slow.mark, slow.reason) == (
        Mark.FAILED,
        f"the SVID was signed at {said} by the CA's clock; ours says {ours}",
    )


def test_an_svid_that_peers_would_refuse() -> None:
    authority = make_authority(DOMAIN)
    context = context_for(authority, f"spiffe://{DOMAIN}/web")
    now = datetime.now(UTC)
    assert {one.mark for one in svid_findings(context.svid, context, now)} == {Mark.PASSED}

    def bad(bundles: BundleSet, at: datetime = now) -> list[str]:
        found = svid_findings(context.svid, X509Context(1, context.svids, bundles), at)
        return [f"{one.check}: {one.reason}" for one in found if one.mark is Mark.FAILED]

    there = f"there is a trust bundle for {DOMAIN}"
    assert bad(BundleSet()) == [f"{there}: none came with the SVID"]
    empty = BundleSet([TrustBundle(authority.bundle.trust_domain)])
    assert bad(empty) == [f"{there}: it has no X.509 authority"]
    [refused] = bad(BundleSet([make_authority(DOMAIN).bundle]))
    assert refused.startswith(f"our own chain verifies against it: peer spiffe://{DOMAIN}/web: no path to a root of")
    expired = bad(context.bundles, context.svid.not_after + timedelta(seconds=1))
    assert [one.partition(":")[0] for one in expired] == [
        "our own chain verifies against it",
        "the SVID is rotated in time",
    ]


def test_a_sidecar_without_health_is_checked_by_its_admin_interface_or_its_ports(
    agent: AgentProcess, site: Path
) -> None:
    (port,) = free_ports(1)
    admin = f"admin:\n  socket: {site}/admin.sock\n"
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health="", listen=f"127.0.0.1:{port}")
        alone = file.read_text()
        without = (
            "the sidecar runs: the file has no admin interface, and no sidecar answers on its ports -> start it, or see"
            " its log"
        )
        told = check("--sidecar", file)
        assert (told.code, problems(told)) == (1, [without])
        with listening(port):
            assert problems(check("--sidecar", file))[0] == without
        for text in (alone, alone + admin):
            file.write_text(text)
            with started("sidecar", "run", "--config", file) as process:
                process.line("serving: ")
                told = check("--sidecar", file)
                assert process.stop() == 0
            assert (told.code, problems(told), headlines(told)) == (0, [], ["warning: it answers no probes"])
            checks = [one["check"] for group in told.json["groups"] for one in group["checks"]]
            assert f"127.0.0.1:{port} is answered by spiffe://{DOMAIN}/check" in checks
            assert ("its latest connections and requests were served" in checks) is (text != alone)


@pytest.mark.parametrize("asked", [True, False], ids=["with an admin interface", "without one"])
def test_a_listener_that_was_added_to_the_file_of_a_running_sidecar_is_not_called_taken(
    agent: AgentProcess, site: Path, asked: bool
) -> None:
    port, health, metrics = free_ports(3)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health="", listen=f"127.0.0.1:{port}")
        file.write_text(file.read_text() + (f"admin:\n  socket: {site}/admin.sock\n" if asked else ""))
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            more = f"health: 127.0.0.1:{health}\nmetrics:\n  listen: 127.0.0.1:{metrics}\n"
            file.write_text(file.read_text() + more)
            told = check("--sidecar", file)
            assert process.stop() == 0
    assert (told.code, problems(told)) == (0, [])
    assert headlines(told) == [
        "warning: health is in the file, but in use only after a restart",
        "warning: metrics.listen is in the file, but in use only after a restart",
    ]
    assert problems(told, "warning") == [
        f"health 127.0.0.1:{health} is in use: the sidecar runs, and does not listen on 127.0.0.1:{health} -> restart"
        " the sidecar, or remove the key",
        f"metrics.listen 127.0.0.1:{metrics} is in use: the sidecar runs, and does not listen on 127.0.0.1:{metrics} ->"
        " restart the sidecar, or remove the key",
    ]


def test_listeners_that_were_added_to_the_files_of_a_running_server_and_agent(
    server: ServerProcess, agent: AgentProcess, site: Path
) -> None:
    (health,) = free_ports(1)
    admin = site / "admin.sock"
    more = f"admin:\n  socket: {admin}\n"
    told_at, of_agent = fixed_ports(server, site), site / "agent.yaml"
    told_at.write_text(told_at.read_text() + more)
    of_agent.write_text(agent.config.read_text() + f"{more}health: 127.0.0.1:{health}\n")
    silent = (
        f"the admin interface at {admin} answers: the process runs, and its file has this key -> restart it, if the key"
        " is new in the file"
    )
    with agent.identity("/check"):
        assert problems(check("--server", told_at, "--workload-socket", agent.socket), "warning") == [silent]
        told = check("--agent", of_agent)
        assert problems(told, "warning") == [
            f"health 127.0.0.1:{health} is in use: the agent runs, and does not listen on 127.0.0.1:{health} -> restart"
            " the agent, or remove the key",
            silent,
        ]
        assert told.code == 0


def test_a_policy_that_is_not_valid_hides_nothing_else(agent: AgentProcess, site: Path) -> None:
    (port,) = free_ports(1)
    policy = site / "policy.yaml"
    valid = (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: p, namespace: default}\nspec: {rules: [{}]}\n"
    )
    policy.write_text(valid)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health="", listen=f"127.0.0.1:{port}")
        file.write_text(file.read_text() + f"policies: [{policy}]\nadmin:\n  socket: {site}/admin.sock\n")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            policy.write_text(valid.replace("rules", "rulez"))
            told = check("--sidecar", file)
            assert process.stop() == 0
    [problem] = problems(told)
    assert problem.startswith(f"{file} and its policies are valid: {policy}, line 4: ")
    assert headlines(told)[0] == f"failed: {file} or a policy that it names is not valid"
    checks = [one["check"] for group in told.json["groups"] for one in group["checks"]]
    assert "the Workload API gives this process an X509-SVID" in checks
    assert f"127.0.0.1:{port} is answered by spiffe://{DOMAIN}/check" in checks


@pytest.mark.parametrize("balancers", ["127.0.0.0/8", "192.0.2.0/24"])
def test_a_sidecar_behind_a_load_balancer_is_healthy(agent: AgentProcess, site: Path, balancers: str) -> None:
    port, health = free_ports(2)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{health}", listen=f"127.0.0.1:{port}")
        text = file.read_text().replace("allow:", f'proxy_protocol_from: ["{balancers}"], allow:')
        file.write_text(f"{text}admin:\n  socket: {site}/admin.sock\n")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            told = [check("--sidecar", file) for _ in range(2)]  # the second would tell of what the first left
            headers = ((), ("--proxy-protocol", "v1"), ("--proxy-protocol", "v2"))
            codes = [tell("x509", "inspect", f"127.0.0.1:{port}", *header).code for header in headers]
            assert process.stop() == 0
    # A listener that reads the header shows its certificate after one, and to its load balancers alone.
    assert codes == ([1, 0, 0] if balancers == "127.0.0.0/8" else [1, 1, 1])
    for one in told:
        assert (one.code, problems(one), problems(one, "warning")) == (0, [], [])
    said = tell("check", "--sidecar", file, "--workload-socket", agent.socket).out
    assert "proxy_protocol_from" not in said
    found = [one for group in told[1].json["groups"] for one in group["checks"]]
    [answered] = [one for one in found if f"127.0.0.1:{port}" in one["check"]]
    assert (answered["check"], answered["reason"]) == {
        "127.0.0.0/8": (f"127.0.0.1:{port} is answered by spiffe://{DOMAIN}/check", ""),
        "192.0.2.0/24": (
            f"127.0.0.1:{port} takes connections from its load balancers alone",
            "not tried: 127.0.0.1 is not in proxy_protocol_from",
        ),
    }[balancers]


def test_an_app_and_a_collector_that_are_down(agent: AgentProcess, site: Path) -> None:
    down, collector, port, health = free_ports(4)
    with agent.identity("/check"):
        where = {"health": f"127.0.0.1:{health}", "listen": f"127.0.0.1:{port}"}
        file = sidecar_file(site, agent.socket, app=f"127.0.0.1:{down}", **where)
        file.write_text(file.read_text() + f"tracing:\n  otlp: http://127.0.0.1:{collector}\n")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            told = check("--sidecar", file)
            with listening(down), listening(collector):
                mended = check("--sidecar", file)
            assert process.stop() == 0
    assert problems(told) == [
        f"the app at 127.0.0.1:{down} accepts connections: 127.0.0.1:{down} can't be reached: Connection refused ->"
        " start the app, or correct inbound.app"
    ]
    assert problems(told, "warning") == [
        f"the collector at 127.0.0.1:{collector} accepts connections: 127.0.0.1:{collector} can't be reached:"
        " Connection refused -> start it, or correct tracing.otlp; spans are lost meanwhile"
    ]
    assert (mended.code, headlines(mended)) == (0, [])


def test_ports_of_metrics_and_of_the_admin_interface_that_are_taken(agent: AgentProcess, site: Path) -> None:
    metrics, admin, health, port = free_ports(4)
    more = f"metrics:\n  listen: 127.0.0.1:{metrics}\nadmin:\n  listen: 127.0.0.1:{admin}\n"
    with agent.identity("/check"):
        where = {"health": f"127.0.0.1:{health}", "listen": f"127.0.0.1:{port}"}
        file = sidecar_file(site, agent.socket, **where)
        file.write_text(file.read_text() + more)
        server = site / "server.yaml"
        ports = f"bind_port: 0\nattest_port: 0\ndata_dir: {site}/data\n"
        server.write_text(f"trust_domain: {DOMAIN}\n{ports}{more}")
        node = site / "agent.yaml"
        kept = [one for one in agent.config.read_text().splitlines() if not one.startswith("socket_path")]
        node.write_text("\n".join([*kept, f"socket_path: {site}/none.sock", more]))
        files = {"sidecar": file, "server": server, "agent": node}
        for who, one in files.items():
            asked = (f"--{who}", one, "--workload-socket", agent.socket)
            free = [told for told in headlines(check(*asked)) if "can't listen" in told]
            with listening(metrics), listening(admin):
                taken = [told for told in headlines(check(*asked)) if "can't listen" in told]
            assert (free, taken) == (
                [],
                [
                    f"failed: the {who} can't listen on 127.0.0.1:{metrics} (metrics.listen)",
                    f"failed: the {who} can't listen on 127.0.0.1:{admin} (admin.listen)",
                ],
            )


def test_a_running_server_that_was_started_from_another_directory(server: ServerProcess, site: Path) -> None:
    file = fixed_ports(server, site, data_dir="data")
    port = server.said["address"]
    here = Path.cwd()
    told = check("--server", file)
    assert problems(told) == [
        f"the socket {here}/data/admin.sock is there and this user may connect to it: cannot connect (No such file or"
        f" directory) -> a server that presents spiffe://{DOMAIN}/meshtls/server answers on {port}: was it started from"
        " another directory? The file's data/admin.sock is relative: run the check there, or write an absolute path"
        " into the file"
    ]
    assert headlines(told) == [f"failed: the socket {here}/data/admin.sock can't be used"]
    (site / "data").symlink_to(server.directory / "data")
    assert headlines(check("--server", fixed_ports(server, site, data_dir=site / "data"))) == []


def test_a_notice_that_ready_repeats_is_told_once(agent: AgentProcess, site: Path) -> None:
    port, health, admin = free_ports(3)
    with agent.identity("/check"):
        file = sidecar_file(site, agent.socket, health=f"127.0.0.1:{health}", listen=f"127.0.0.1:{port}")
        file.write_text(file.read_text() + f"admin:\n  listen: 127.0.0.1:{admin}\n")
        with started("sidecar", "run", "--config", file) as process:
            process.line("serving: ")
            told = check("--sidecar", file)
            text = tell("check", "--sidecar", file).out
            assert process.stop() == 0
    [warned] = problems(told, "warning")
    assert warned.startswith("nothing in the file or its policies is suspicious: ")
    assert warned.endswith(
        "can read the admin interface there; admin.socket is for this process's user alone -> change the file, or leave"
        f" it if that is meant: `meshtls sidecar validate --config {file}` shows each notice"
    )
    assert "[!!] something in the file or its policies is suspicious\n" in text
    assert "nothing in the file" not in text
