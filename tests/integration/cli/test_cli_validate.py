"""``validate`` finds what ``run`` would refuse, and makes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshtls.ca.tlog.note import KeyType, NoteKey
from tests.integration.cli.identity_site import ServerProcess, tell
from tests.integration.cli.processes import started
from tests.support.authority import make_authority
from tests.support.ports import free_ports


@pytest.fixture
def server_file(tmp_path: Path) -> Path:
    """A good file: what it names is there, and no server has run by it."""
    (tmp_path / "nodes.pem").write_bytes(make_authority("nodes.test").bundle.to_pem())
    file = tmp_path / "server.yaml"
    file.write_text(
        f"trust_domain: example.org\ndata_dir: {tmp_path / 'data'}\nagent_ttl: 30m\n"
        f"datastore: {{sqlite3: {{connection_string: {tmp_path / 'store.sqlite3'}}}}}\n"
        f"node_attestors: {{x509pop: {{ca_bundle_path: {tmp_path / 'nodes.pem'}}}}}\n"
    )
    return file


def test_validate_checks_the_paths_in_a_servers_file_and_creates_nothing(server_file: Path) -> None:
    before = sorted(server_file.parent.iterdir())

    told = tell("server", "validate", "--config", server_file, "--output", "json")

    assert (told.code, told.err) == (0, "")
    found = told.json
    assert (found["node_authorities"], found["schema"], found["agent_ttl"]) == (1, None, 1800)
    assert sorted(server_file.parent.iterdir()) == before


def test_validate_says_what_the_server_serves_over_http(server_file: Path) -> None:
    data, store = server_file.parent / "data", server_file.parent / "store.sqlite3"
    witness = NoteKey.of("witness.test", Ed25519PrivateKey.generate(), KeyType.COSIGNATURE)
    with server_file.open("a") as file:
        file.write(
            "transparency_log:\n  listen: 127.0.0.1:8085\n"
            f"  witnesses: [{{url: 'https://witness.test/', key: '{witness}'}}]\n"
            "revocation: {listen: '[::1]:8087', url: 'http://ca.example.org'}\n"
        )

    told, found = (
        tell("server", "validate", "--config", server_file, *output) for output in ((), ("--output", "json"))
    )

    assert told.out.splitlines() == [
        f"{server_file}: server of example.org",
        "  serves agents and administrators on 127.0.0.1:8081, over mutual TLS",
        "  attests new nodes on port 8082, by certificate (x509pop, 1 CAs)",
        f"  serves local administrators on {data / 'admin.sock'}",
        "  serves the transparency log on 127.0.0.1:8085, over HTTP",
        "  has the transparency log cosigned by the witness at https://witness.test",
        "  serves CRLs and OCSP on [::1]:8087, over HTTP, and names http://ca.example.org in certificates",
        "  signs X509-SVIDs of 1h, JWT-SVIDs of 5m and agents' SVIDs of 30m, with an intermediate CA of 24h",
        f"  keeps its CA's keys in {data / 'keys'}",
        f"  keeps entries in sqlite+aiosqlite:///{store} (created at the first start)",
        "  logs at level INFO",
    ]
    assert (found.json["transparency_log"], found.json["witnesses"]) == ("127.0.0.1:8085", ["https://witness.test"])
    assert (found.json["revocation"], found.json["revocation_url"]) == ("[::1]:8087", "http://ca.example.org")


def test_validate_says_nothing_of_what_is_not_served(server_file: Path) -> None:
    told = tell("server", "validate", "--config", server_file)

    assert [line.split()[0] for line in told.out.splitlines()[1:]] == [
        *("serves", "attests", "serves", "signs", "keeps", "keeps", "logs")
    ]


def test_validate_reports_a_running_servers_schema(server: ServerProcess) -> None:
    found = tell("server", "validate", "--config", server.config, "--output", "json").json

    assert found["schema"] == found["wanted_schema"]
    assert found["node_authorities"] == 0


def no_authorities(directory: Path) -> str:
    (directory / "nodes.pem").unlink()
    return f"meshtls: {directory / 'nodes.pem'}: wanted CA certificates in PEM for x509pop: [Errno 2] "


def no_certificate(directory: Path) -> str:
    (directory / "nodes.pem").write_text("none of them")
    return f"meshtls: {directory / 'nodes.pem'}: wanted CA certificates in PEM for x509pop: "


def newer_schema(directory: Path) -> str:
    with sqlite3.connect(directory / "store.sqlite3") as store:
        store.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        store.execute("INSERT INTO alembic_version VALUES ('9999')")
    store.close()
    return f"meshtls: data store SQLite file {directory / 'store.sqlite3'}: its schema 9999 is newer than this meshtls"


@pytest.mark.parametrize("spoil", [no_authorities, no_certificate, newer_schema])
def test_validate_refuses_every_file_that_run_refuses(server_file: Path, spoil: Callable[[Path], str]) -> None:
    message = spoil(server_file.parent)

    validated, run = (tell("server", verb, "--config", server_file) for verb in ("validate", "run"))

    assert (validated.code, validated.out) == (run.code, run.out) == (2, "")
    assert validated.err.startswith(message)
    assert validated.err == run.err


def agents_file(directory: Path) -> Path:
    (directory / "bundle.pem").write_bytes(make_authority().bundle.to_pem())
    file = directory / "agent.yaml"
    file.write_text(
        f"trust_domain: example.org\nserver_address: 127.0.0.1\ntrust_bundle_path: {directory / 'bundle.pem'}\n"
        f"socket_path: {directory / 'agent.sock'}\ndata_dir: {directory / 'data'}\nlog_level: ERROR\n"
    )
    return file


def test_an_agents_stored_svid_is_checked_and_an_invalid_one_is_refused(tmp_path: Path) -> None:
    file, kept = agents_file(tmp_path), tmp_path / "data" / "agent-svid.pem"

    fresh = tell("agent", "validate", "--config", file, "--output", "json")
    made = kept.parent.exists()
    kept.parent.mkdir(mode=0o700)
    kept.write_text("no SVID")
    kept.chmod(0o600)
    spoilt = [tell("agent", verb, "--config", file) for verb in ("validate", "run")]

    assert (fresh.code, fresh.json["agent_id"], made) == (0, "", False)
    assert [(one.code, one.out) for one in spoilt] == [(2, ""), (2, "")]
    assert spoilt[0].err.startswith(f"meshtls: {kept}: wanted a private key and certificates in PEM: ")
    assert spoilt[0].err == spoilt[1].err


@pytest.mark.parametrize("level", ["TRACE", "DEBUG"])
def test_validate_and_run_report_a_log_level_that_the_agent_maps_to_another(tmp_path: Path, level: str) -> None:
    file = agents_file(tmp_path)
    [port] = free_ports(1)  # nobody is there
    file.write_text(
        file.read_text().replace("log_level: ERROR", f"log_level: {level}") + f"join_token: x\nserver_port: {port}\n"
    )
    notice = f"{file}, line 6: log_level: there is no level below DEBUG; using DEBUG"

    validated = tell("agent", "validate", "--config", file, "--output", "json")
    with started("agent", "run", "--config", file) as process:
        said = process.line(" meshtls.")  # the first record of ours
        process.line("serving: ", "stdout")
        assert process.stop() == 0

    assert validated.json["notices"] == ([notice] if level == "TRACE" else [])
    assert (notice in said) is (level == "TRACE")
