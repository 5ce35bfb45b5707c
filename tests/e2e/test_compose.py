"""docker-compose.yml, run for real: two apps in separate containers, and mutual TLS between their sidecars."""

import json
from pathlib import Path

import pytest

from tests.e2e.compose import Stack

pytestmark = pytest.mark.timeout(900)  # with an image to build first, it may be

A = "spiffe://example.org/ns/default/sa/service-a"
B = "spiffe://example.org/ns/default/sa/service-b"

SERVICES = {"server": 10000, "agent": 10005, "sidecar-a": 10001, "sidecar-b": 10002, "app-a": 10011, "app-b": 10012}
INBOUND = "15006"

FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
PROBE = Path(__file__).with_name("probe.py").read_text()


def test_the_call_of_app_a_reaches_app_b_over_mutual_tls(stack: Stack) -> None:
    before = {side: len(stack.access_log(side)) for side in ("sidecar-a", "sidecar-b")}

    reply = stack.exec("app-a", "python3", "-c", FETCH, "http://127.0.0.1:8080/call")

    assert reply.returncode == 0, reply.stderr
    answer = json.loads(reply.stdout)
    assert (answer["app"], answer["called"]["app"]) == ("a", "b")
    for side, direction in (("sidecar-a", "outbound"), ("sidecar-b", "inbound")):
        record = stack.next_record(side, before[side])
        assert record["direction"] == direction
        assert record["outcome"] == "OK"
        assert record["source_id"] == A
        assert record["destination_id"] == B
        assert record["tls_version"] == "TLSv1.3"
        assert record["cipher_suite"] == "TLS_AES_256_GCM_SHA384"


def test_a_good_identity_that_is_not_allowed_is_refused(stack: Stack) -> None:
    before = len(stack.access_log("sidecar-b"))

    reply = stack.exec("outsider", "python3", "-c", FETCH, "http://127.0.0.1:15001/")

    assert reply.returncode != 0, reply.stdout
    record = stack.next_record("sidecar-b", before)
    assert record["direction"] == "inbound"
    assert record["outcome"] == "POLICY_DENIED"
    assert record["source_id"] == B
    assert B in record["detail"]


def test_a_server_that_is_not_the_wanted_peer_gets_no_byte(stack: Stack) -> None:
    before = len(stack.access_log("outsider"))

    reply = stack.exec("outsider", "python3", "-c", FETCH, "http://127.0.0.1:15002/")

    assert reply.returncode != 0, reply.stdout
    record = stack.next_record("outsider", before)
    assert record["direction"] == "outbound"
    assert record["outcome"] == "POLICY_DENIED"
    assert record["destination_id"] == B


@pytest.mark.parametrize(
    ("way", "outcome"),
    [
        ("plaintext", "PLAINTEXT_REFUSED"),
        ("anonymous", "NO_CLIENT_CERTIFICATE"),
        ("forged", "PEER_UNTRUSTED"),
    ],
)
def test_a_client_without_an_identity_of_the_mesh_is_refused(stack: Stack, way: str, outcome: str) -> None:
    before = len(stack.access_log("sidecar-b"))

    knock = stack.exec("app-a", "python3", "-", "sidecar-b", INBOUND, way, stdin=PROBE)

    assert knock.returncode == 0, knock.stderr
    assert json.loads(knock.stdout)["received"] == ""
    record = stack.next_record("sidecar-b", before)
    assert record["outcome"] == outcome
    assert record["source_id"] is None


def test_without_an_identity_a_sidecar_serves_nothing_and_says_why(stack: Stack) -> None:
    reply = stack.exec("stranger", "python3", "-c", FETCH, "http://127.0.0.1:15001/")

    assert reply.returncode != 0, reply.stdout
    assert "no identity issued" in stack.logs("stranger")
    assert "unix:uid:10003" in stack.logs("agent")


def test_an_app_is_not_reached_past_its_sidecar(stack: Stack) -> None:
    reply = stack.exec("app-a", "python3", "-c", FETCH, "http://sidecar-b:8080/")

    assert "Connection refused" in reply.stderr


def test_an_app_does_not_see_the_workload_apis_socket(stack: Stack) -> None:
    assert stack.exec("sidecar-a", "test", "-S", "/run/meshtls/agent.sock").returncode == 0
    assert stack.exec("app-a", "test", "-S", "/run/meshtls/agent.sock").returncode == 1


def test_each_side_has_an_address_of_its_own(stack: Stack) -> None:
    addresses = [stack.address(service) for service in ("sidecar-a", "sidecar-b")]

    assert all(addresses)
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize(("service", "uid"), SERVICES.items())
def test_nothing_runs_with_privileges(stack: Stack, service: str, uid: int) -> None:
    lines = stack.exec(service, "cat", "/proc/1/status").stdout.splitlines()
    status = dict(line.split(":\t", 1) for line in lines)

    assert status["Uid"].split() == [str(uid)] * 4
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("service", SERVICES)
def test_not_even_root_writes_to_the_root_filesystem(stack: Stack, service: str) -> None:
    written = stack.exec(service, "touch", "/written", user="0")

    assert written.returncode != 0
    assert "Read-only file system" in written.stderr


def test_an_agent_told_to_stop_starts_again_with_the_svid_that_it_has(stack: Stack) -> None:
    assert stack.stop("agent") == 0
    stack.start("agent")  # its join token is used up

    logs = stack.logs("agent")
    assert "its SVID is stored in /var/lib/meshtls-agent, for a restart" in logs
    assert "unknown, used or expired" not in logs
    kept = stack.exec("agent", "stat", "-c", "%u %a", "/var/lib/meshtls-agent/agent-svid.pem")
    assert kept.stdout == "10005 600\n"


def test_a_server_told_to_stop_starts_again_with_the_same_ca(stack: Stack) -> None:
    bundle = stack.exec("server", "meshtls", "bundle", "show", "--socket", "/var/lib/meshtls/admin.sock").stdout
    assert "BEGIN CERTIFICATE" in bundle

    assert stack.stop("server") == 0
    stack.start("server")

    again = stack.exec("server", "meshtls", "bundle", "show", "--socket", "/var/lib/meshtls/admin.sock").stdout
    assert again == bundle


def test_a_sidecar_told_to_stop_ends_well_and_starts_again(stack: Stack) -> None:
    assert stack.stop("outsider") == 0

    stack.start("outsider")
