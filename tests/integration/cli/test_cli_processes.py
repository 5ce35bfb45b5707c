"""A CA, two sidecars and two apps, each a process of its own, on the loopback interface."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.processes import Process, meshtls, started, two_sidecars
from tests.support.ports import free_ports

# The CA knows a caller by its uid, and here all are the same user's: so both sidecars are replicas of one workload.
WEB = "spiffe://example.org/web"


@dataclass(frozen=True)
class Mesh:
    directory: Path
    ports: dict[str, int]
    ca: Process
    sidecars: dict[str, Process]

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.yaml"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line(f"serving: CA of example.org on {tmp_path / 'ca.sock'}; root valid until 20")
        sidecars = {}
        for side in "ab":
            sidecars[side] = stack.enter_context(started("sidecar", "run", "--config", tmp_path / f"{side}.yaml"))
            sidecars[side].line(
                f"serving: sidecar {side} is {WEB}; inbound on 127.0.0.1:{ports[side + '_in']};"
                f" outbound on 127.0.0.1:{ports[side + '_out']}; probes on 127.0.0.1:{ports[side + '_health']}\n"
            )
            listen, call = f"127.0.0.1:{ports[side + '_app']}", f"127.0.0.1:{ports[side + '_out']}"
            app = stack.enter_context(started("app", "--listen", listen, "--name", side, "--call", call))
            app.line(f"app {side} listens on {listen}", "stdout")
        yield Mesh(tmp_path, ports, ca, sidecars)


def test_where_the_log_is_json_the_line_that_says_what_is_served_is_a_record_of_it(tmp_path: Path) -> None:
    json_log = "log_format: json\n"
    write_ca(tmp_path, os.getuid())
    with (tmp_path / "ca.yaml").open("a") as file:
        file.write(json_log)
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    admin = f"admin: {{socket: {tmp_path}/admin.sock}}\ntracing: {{otlp: 'http://127.0.0.1:9'}}\n"
    two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity + json_log + admin)
    with ExitStack() as stack:
        for words, named in (
            (("ca", "serve", "--config", tmp_path / "ca.yaml"), f"CA of example.org on {tmp_path / 'ca.sock'}; root "),
            (("sidecar", "run", "--config", tmp_path / "a.yaml"), f"sidecar a is {WEB}; inbound on "),
        ):
            process = stack.enter_context(started(*words))
            record = json.loads(process.line(f"serving: {named}"))
            assert (record["level"], record["logger"]) == ("INFO", "meshtls.serving")
            assert record["message"].startswith(f"serving: {named}")
        assert record["message"].endswith(f"; admin interface on {tmp_path}/admin.sock; spans to http://127.0.0.1:9")


def write_ca(directory: Path, uid: int) -> None:
    (directory / "ca.yaml").write_text(
        f"trust_domain: example.org\nsocket_path: {directory / 'ca.sock'}\n"
        f"trust_bundle_path: {directory / 'bundle.pem'}\n"
        f"identities: [{{uid: {uid}, spiffe_id: {WEB}}}]\n"
    )


def until_refused(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionResetError:
            continue  # it was waiting to be accepted when the door closed
        except ConnectionRefusedError:
            return


def fetch(port: int, path: str) -> object:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


def test_a_call_crosses_both_sidecars_and_both_log_it(mesh: Mesh) -> None:
    assert fetch(mesh.ports["a_app"], "/call") == {"app": "a", "called": {"app": "b", "path": "/"}}

    for side, direction in (("a", "outbound"), ("b", "inbound")):
        record = json.loads(mesh.sidecars[side].line("{", "stdout"))
        assert (record["direction"], record["outcome"]) == (direction, "OK")
        assert record["source_id"] == record["destination_id"] == WEB
        assert record["tls_version"] == "TLSv1.3"


def test_plaintext_is_refused_and_the_call_beside_it_is_not(mesh: Mesh) -> None:
    with socket.create_connection(("127.0.0.1", mesh.ports["b_in"])) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        record = json.loads(mesh.sidecars["b"].line("{", "stdout"))

    assert record["outcome"] == "PLAINTEXT_REFUSED"
    assert fetch(mesh.ports["a_app"], "/call") == {"app": "a", "called": {"app": "b", "path": "/"}}


def test_the_healthchecks_report_ready_and_then_not_ready(mesh: Mesh) -> None:
    checks = [
        ("ca", "healthcheck", "--config", mesh.file("ca")),
        ("sidecar", "healthcheck", "--config", mesh.file("a")),
        ("app", "--healthcheck", f"127.0.0.1:{mesh.ports['a_app']}"),
    ]
    done = [meshtls(*check) for check in checks]
    assert [(one.returncode, one.stdout, one.stderr) for one in done] == [(0, "ready\n", "")] * 3

    assert mesh.sidecars["a"].stop() == 0
    assert mesh.ca.stop() == 0

    for check, message in zip(checks[:2], ("ca.sock: No such file or directory", "Connection refused"), strict=True):
        text, record = meshtls(*check), meshtls(*check, "--output", "json")
        assert (text.returncode, record.returncode) == (1, 1)
        assert text.stdout.startswith("not ready: ")
        assert text.stdout.endswith(f"{message}\n")
        assert json.loads(record.stdout) == {"ready": False, "waiting_for": text.stdout[len("not ready: ") : -1]}


def test_a_call_that_fails_is_a_502_with_the_reason(mesh: Mesh) -> None:
    assert mesh.sidecars["b"].stop() == 0

    with pytest.raises(urllib.error.HTTPError) as caught:
        fetch(mesh.ports["a_app"], "/call")

    with caught.value as answer:
        assert answer.code == 502
        assert json.load(answer)["error"].startswith("the call failed: ")


def test_sigterm_lets_a_call_end_that_is_under_way(mesh: Mesh) -> None:
    with socket.create_connection(("127.0.0.1", mesh.ports["a_out"])) as call:
        call.sendall(b"GET / HTTP/1.1\r\n")
        mesh.sidecars["a"].popen.terminate()
        until_refused(mesh.ports["a_out"])
        call.sendall(b"Connection: close\r\n\r\n")
        with call.makefile("rb") as answer:
            assert answer.read().endswith(b'{"app": "b", "path": "/"}\n')

    assert mesh.sidecars["a"].popen.wait(30) == 0


def test_the_published_bundle_is_the_root(mesh: Mesh) -> None:
    published = (mesh.directory / "bundle.pem").read_text()

    assert published.startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in published


def test_a_sidecar_waits_for_its_ca_and_says_so(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(WEB, WEB), extra=f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n")
    write_ca(tmp_path, os.getuid())
    with started("sidecar", "run", "--config", tmp_path / "a.yaml") as sidecar:
        sidecar.line("FetchX509SVID: cannot connect (No such file or directory); check that the agent is running")
        with started("ca", "serve", "--config", tmp_path / "ca.yaml"):
            sidecar.line("serving: sidecar a is ")
            assert sidecar.stop() == 0


def test_a_sidecar_with_an_unknown_uid_is_refused_and_both_logs_say_why(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(WEB, WEB), extra=f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n")
    write_ca(tmp_path, os.getuid() + 1)
    with started("ca", "serve", "--config", tmp_path / "ca.yaml") as ca:
        ca.line("serving: CA of example.org on ")
        with started("sidecar", "run", "--config", tmp_path / "a.yaml") as sidecar:
            sidecar.line("PERMISSION_DENIED: no identity issued (no identity for this process;")
        assert f"(uid {os.getuid()}, gid {os.getgid()}) has no identity: no registration entry matches" in ca.line(
            "no identity"
        )
        assert ca.stop() == 0


def test_up_reports_each_serving_process_as_json(tmp_path: Path) -> None:
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n")
    write_ca(tmp_path, os.getuid())
    listen = f"127.0.0.1:{ports['a_app']}"
    verbs: list[tuple[str | Path, ...]] = [
        ("ca", "serve", "--config", tmp_path / "ca.yaml"),
        ("sidecar", "run", "--config", tmp_path / "a.yaml"),
        ("sidecar", "run", "--config", tmp_path / "b.yaml", "--workers", "2"),
        ("app", "--listen", listen, "--name", "a"),
    ]
    with ExitStack() as stack:
        processes = [stack.enter_context(started(*verb, "--output", "json")) for verb in verbs]
        ca, alone, worker, app = (json.loads(one.line('"serving"', "stdout")) for one in processes)
        another = json.loads(processes[2].line('"serving"', "stdout"))
        assert [one.stop() for one in reversed(processes)] == [0, 0, 0, 0]

    assert (ca["socket"], ca["identities"]) == (str(tmp_path / "ca.sock"), {str(os.getuid()): WEB})
    assert alone == {
        "event": "serving",
        "sidecar": "a",
        "spiffe_id": WEB,
        "inbound": [f"127.0.0.1:{ports['a_in']}"],
        "outbound": [f"127.0.0.1:{ports['a_out']}"],
        "health": f"127.0.0.1:{ports['a_health']}",
        "metrics": None,
        "admin_socket": None,
        "admin_listen": None,
        "tracing": None,
        "pid": processes[1].popen.pid,
    }
    assert worker["pid"] != another["pid"]
    assert app == {"event": "serving", "name": "a", "address": listen}


def test_an_app_whose_port_is_taken_says_so() -> None:
    [port] = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        done = meshtls("app", "--listen", f"127.0.0.1:{port}", "--name", "a")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"meshtls: app a: wanted to listen on 127.0.0.1:{port}: ")


def test_a_sidecar_whose_access_log_cannot_be_written_goes_on_serving_and_says_so_once(tmp_path: Path) -> None:
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        full_disk = stack.enter_context(Path("/dev/full").open("w"))
        sidecars = {
            "a": stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml")),
            "b": stack.enter_context(started("sidecar", "run", "--config", tmp_path / "b.yaml", stdout=full_disk)),
        }
        for name, sidecar in sidecars.items():
            sidecar.line(f"serving: sidecar {name} is ")
        listen = f"127.0.0.1:{ports['b_app']}"
        app = stack.enter_context(started("app", "--listen", listen, "--name", "b"))
        app.line(f"app b listens on {listen}", "stdout")
        for _ in range(3):
            assert fetch(ports["a_out"], "/") == {"app": "b", "path": "/"}
            sidecars["a"].line("OK", "stdout")
        sidecars["b"].line("sidecar b: on_result failed on a connection's result; connections go on unreported")
        sidecars["b"].popen.terminate()
        sidecars["b"].line("sidecar b: on_result did not work to the end; 3 results were lost")
