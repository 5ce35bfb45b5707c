"""``meshtls up``: the walk, and the mesh that stays."""

import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest

from tests.integration.cli.processes import meshtls, started, two_sidecars

A, B = "spiffe://example.org/ns/default/sa/a", "spiffe://example.org/ns/default/sa/b"


@pytest.fixture
def mesh(tmp_path: Path) -> tuple[str, ...]:
    directory = tmp_path / "sidecars"
    directory.mkdir()
    two_sidecars(directory, ids=(A, B))
    return ("--sidecars", str(directory), "--certs", str(tmp_path / "certs"))


def test_the_walk_shows_each_hop_and_both_refusals(mesh: tuple[str, ...], tmp_path: Path) -> None:
    done = meshtls("up", "--once", *mesh)

    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "a calls b\n",
        "b calls a\n",
        f"  caller    {A}, SVID ",
        f"  callee    {B}, SVID ",
        "  over      TLSv1.3, TLS_AES_256_GCM_SHA384\n",
        '  answer    {"app": "a", "called": {"app": "b", "path": "/"}}\n',
        "Refused: an identity that is not allowed\n",
        f"verdict   POLICY_DENIED: peer spiffe://example.org/outsider is not allowed to reach {B}; allowed: {A}\n",
        "Refused: an impostor with an allowed identity\n",
        f"verdict   PEER_UNTRUSTED: peer {A}: no path to a root of the bundle of trust domain example.org",
        "it saw    the peer refused the connection with the alert ",
        "2 calls served over mutual TLS, 2 callers refused.\n",
    ):
        assert part in done.stdout
    assert re.search(r"\b5\dm \d{1,2}s\s+left$", done.stdout, re.MULTILINE), "of an hour"
    assert {path.name for path in (tmp_path / "certs").iterdir()} == {"example.org.pem", "example.org.jwks.json"}


def test_the_walk_can_be_read_by_a_program(mesh: tuple[str, ...]) -> None:
    done = meshtls("up", "--once", "--output", "json", "--svid-ttl", "5m", *mesh)

    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["ok"] is True
    assert [(hop["caller"]["spiffe_id"], hop["callee"]["spiffe_id"]) for hop in report["hops"]] == [(A, B), (B, A)]
    assert [refusal["outcome"] for refusal in report["refusals"]] == ["POLICY_DENIED", "PEER_UNTRUSTED"]
    assert 200 < report["hops"][0]["caller"]["seconds_left"] <= 300


def test_an_svid_may_live_as_long_as_half_the_root_and_no_longer(mesh: tuple[str, ...]) -> None:
    long = meshtls("up", "--once", "--output", "json", "--svid-ttl", "400h", *mesh)
    longer = meshtls("up", "--once", "--svid-ttl", "876600h", *mesh)

    assert (long.returncode, longer.returncode, longer.stdout) == (0, 2, "")
    assert 399 * 3600 < json.loads(long.stdout)["hops"][0]["caller"]["seconds_left"] <= 400 * 3600
    message = "SVID TTL of 36525 days, 0:00:00: wanted at most 1825 days, 0:00:00, half of the root's life"
    assert longer.stderr == f"meshtls: {message}\n"


def test_the_walk_fails_where_the_mesh_refuses_its_own_caller(mesh: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "sidecars" / "b.yaml"
    file.write_text(file.read_text().replace(f'allow: ["{A}"]', f'allow: ["{B}"]'))

    done = meshtls("up", "--once", *mesh)

    assert done.returncode == 1
    assert "Failed: a calls b: wanted the answer" in done.stdout
    assert "served over mutual TLS" not in done.stdout


def test_the_walk_fails_where_the_outsider_is_let_in(mesh: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "sidecars" / "b.yaml"
    file.write_text(file.read_text().replace(f'"{A}"]', f'"{A}", "spiffe://example.org/outsider"]'))

    done = meshtls("up", "--once", *mesh)

    assert done.returncode == 1
    assert "Failed: an identity that is not allowed: wanted POLICY_DENIED and no byte, got " in done.stdout


def test_the_ca_outlives_the_process_in_a_data_directory(mesh: tuple[str, ...], tmp_path: Path) -> None:
    bundle = tmp_path / "certs" / "example.org.pem"
    kept = ("--data-dir", str(tmp_path / "ca"))

    first, second, third = [
        meshtls("up", "--once", *mesh, *options).returncode or bundle.read_bytes() for options in (kept, kept, ())
    ]

    assert first == second != third


def test_the_mesh_that_stays_rotates_calls_refuses_and_drains(mesh: tuple[str, ...], tmp_path: Path) -> None:
    port = json.loads((tmp_path / "sidecars" / "b.yaml").read_text().split("127.0.0.1:")[1].split('"')[0])
    with started("up", "--svid-ttl", "10s", "--call-every", "500ms", *mesh) as up:
        up.line("serving a, b")
        asked = up.line("to ask it: export MESHTLS_ADMIN_INTERFACE=").partition("=")[2].strip()
        shown = up.line(f"b inbound OK {A} -> {B}", "stdout").rstrip()
        connection_id = shown.rpartition("[")[2].removesuffix("]")
        table = [up.line(part).split() for part in ("  sidecar  inbound ", "  a        127.", "  b        127.")]
        assert table[0] == ["sidecar", "inbound", "app", "outbound", "to", "health"]
        for side, row in zip("ab", table[1:], strict=True):
            assert row == [side, *re.findall(r"127\.0\.0\.1:[0-9]+", (tmp_path / f"sidecars/{side}.yaml").read_text())]
        sockets = [word for path in asked.split(",") for word in ("--socket", path)]
        explained = meshtls("explain", "connection", connection_id, *sockets)
        assert (explained.returncode, f"  to:      {B}\n" in explained.stdout) == (0, True)
        up.line(f"rotated {B}: SVID ", "stdout")
        up.line(f"b inbound OK {A} -> {B}", "stdout")
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            up.line("b inbound PLAINTEXT_REFUSED unknown -> ", "stdout")

        assert up.stop() == 0
        up.line("draining")
        up.line("stopped")


def test_events_can_be_read_by_a_program_and_ctrl_c_drains(mesh: tuple[str, ...], tmp_path: Path) -> None:
    with started("up", "--output", "json", *mesh) as up:
        serving = json.loads(up.line('"event":"serving"', "stdout"))
        event = json.loads(up.line('"event":"connection"', "stdout"))
        up.popen.send_signal(signal.SIGINT)

        assert up.popen.wait(120) == 0
    assert event["outcome"] == "OK"
    a, b = serving["sidecars"]
    assert (a["name"], a["spiffe_id"], a["metrics"], Path(a["admin"]).name) == ("a", A, None, "0.sock")
    ports = [a["inbound"][0], a["app"], a["outbound"][0]["listen"], a["outbound"][0]["to"], a["health"]]
    file = tmp_path / "sidecars" / "a.yaml"
    assert ports == re.findall(r"127\.0\.0\.1:[0-9]+", file.read_text())
    assert a["outbound"][0]["to"] == b["inbound"][0]


def test_check_judges_what_the_mesh_runs(mesh: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    with started("up", *mesh) as up:
        exported = up.line("to ask it: export MESHTLS_ADMIN_INTERFACE=").partition("=")[2].strip()
        monkeypatch.setenv("MESHTLS_ADMIN_INTERFACE", exported)
        up.line("b inbound OK ", "stdout")
        every, one = (meshtls("check", *words, "--output", "json") for words in ((), ("--sidecar", "b")))
        assert up.stop() == 0
    assert (every.returncode, one.returncode) == (0, 0)
    groups = [[group["group"] for group in json.loads(done.stdout)["groups"]] for done in (every, one)]
    assert groups == [["this machine", "the sidecar a", "the sidecar b"], ["this machine", "the sidecar b"]]
    assert meshtls("check").returncode == 1  # it runs no more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: (d / "a.yaml").unlink() or (d / "b.yaml").unlink(),
            "wanted at least one sidecar file, *.yaml; found none",
        ),
        (
            lambda d: (d / "c.yaml").write_text(
                (d / "a.yaml").read_text().replace(A, "spiffe://other.test/c").replace("name: a", "name: c")
            ),
            "wanted sidecars of one trust domain, found those of example.org, other.test",
        ),
    ],
)
def test_a_directory_without_a_mesh_is_a_clear_error(
    mesh: tuple[str, ...], tmp_path: Path, change: object, message: str
) -> None:
    assert callable(change)
    change(tmp_path / "sidecars")

    done = meshtls("up", "--once", *mesh)

    assert (done.returncode, done.stderr) == (2, f"meshtls: {tmp_path / 'sidecars'}: {message}\n")


def test_a_port_in_use_is_a_clear_error_with_the_process_that_has_it(mesh: tuple[str, ...], tmp_path: Path) -> None:
    inbound, *_, health = re.findall(r"127\.0\.0\.1:[0-9]+", (tmp_path / "sidecars" / "a.yaml").read_text())
    with socket.create_server(("127.0.0.1", int(inbound.partition(":")[2]))):
        done = meshtls("up", "--once", *mesh)
    with started("up", *mesh) as up:
        up.line("serving a, b")
        twice = meshtls("up", "--once", *mesh)

    for one, key, address, program in (
        (done, "inbound[0].listen", inbound, f"{os.getpid()} ({Path('/proc/self/comm').read_text().strip()})"),
        (twice, "health", health, f"{up.popen.pid} (meshtls up)"),
    ):
        why = f"Address already in use, by process {program}"
        assert (one.returncode, one.stderr) == (2, f"meshtls: a: {key}: wanted to listen on {address}: {why}\n")


def test_the_app_of_the_mesh_is_reached_in_clear_on_loopback(mesh: tuple[str, ...], tmp_path: Path) -> None:
    app = int((tmp_path / "sidecars" / "a.yaml").read_text().split("app: ")[1].split(":")[1].split('"')[0])
    with started("up", *mesh) as up:
        up.line("serving a, b")
        with urllib.request.urlopen(f"http://127.0.0.1:{app}/call", timeout=30) as answer:
            assert json.load(answer) == {"app": "a", "called": {"app": "b", "path": "/"}}
        assert up.stop() == 0
