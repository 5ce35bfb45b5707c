"""The commands that call an agent: this process's identity, its files, and programs notified of each rotation."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshtls.bundle import TrustBundle
from meshtls.spiffeid import TrustDomain
from tests.integration.cli.identity_site import AgentProcess, tell
from tests.integration.cli.processes import Process, started
from tests.support.authority import make_authority

WEB = "spiffe://example.org/web"


@contextmanager
def watching(agent: AgentProcess, *arguments: str | Path) -> Iterator[Process]:
    """``meshtls watch`` while the body runs; it must exit with 0 on SIGTERM."""
    with started("watch", "--workload-socket", agent.socket, "--output", "json", *arguments) as process:
        yield process
        assert process.stop() == 0


def next_svid(process: Process) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(process.line('"svid"', "stdout"))
    return event


def rotate(agent: AgentProcess, entry_id: str, name: str) -> None:
    """Let the agent replace the entry's SVID now: one with another name is wanted."""
    agent.server.json("entry", "update", "--entry-id", entry_id, "--dns", name)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_fetch_x509_prints_the_identity_and_never_the_key(agent: AgentProcess) -> None:
    with agent.identity("/web", "--hint", "internal"):
        text, document = agent.tell("fetch", "x509"), agent.tell("fetch", "x509", "--output", "json")

    [svid] = document.json["svids"]
    assert (svid["spiffe_id"], svid["hint"]) == (WEB, "internal")
    assert x509.load_pem_x509_certificate(svid["chain"].encode()).serial_number == int(svid["serial"], 16)
    assert [one["trust_domain"] for one in document.json["bundles"]] == ["example.org"]
    assert text.out == (
        f"spiffe id               {WEB}\n"
        f"serial                  {svid['serial']}\n"
        f"not before              {svid['not_before']}\n"
        f"not after               {svid['not_after']}\n"
        "hint                    internal\n"
    )
    assert "PRIVATE" not in text.out + document.out


def test_fetch_x509_writes_the_set_with_the_key_private(agent: AgentProcess, tmp_path: Path) -> None:
    with agent.identity("/web"):
        told = agent.tell("fetch", "x509", "--write", tmp_path / "svid")

    directory = tmp_path / "svid"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"bundle.pem": 0o644, "key.pem": 0o600, "svid.pem": 0o644}
    assert told.out.endswith("".join(f"wrote {directory / name}\n" for name in ("bundle.pem", "key.pem", "svid.pem")))
    assert "BEGIN PRIVATE KEY" in (directory / "key.pem").read_text()


def test_a_process_without_an_entry_gets_permission_denied(agent: AgentProcess, tmp_path: Path) -> None:
    told = agent.tell("fetch", "x509", "--write", tmp_path / "svid")

    assert (told.code, told.out) == (1, "")
    assert told.err == (
        f"meshtls: Workload API at unix://{agent.socket}, FetchX509SVID: PERMISSION_DENIED: no identity issued"
        " (no identity for this process; create an entry that matches its selectors)\n"
    )
    assert not (tmp_path / "svid").exists()


def test_a_fetched_token_is_valid_for_its_audience_and_no_other_and_not_when_changed(agent: AgentProcess) -> None:
    with agent.identity("/web"):
        token = agent.tell("fetch", "jwt", "--audience", "db").out.strip()
        good = agent.tell("validate-jwt", "--audience", "db", "--output", "json", given=token.encode())
        named = agent.tell("validate-jwt", "--audience", "db", "--token", token)
        other = agent.tell("validate-jwt", "--audience", "cache", "--token", "-", given=token.encode())
        garbled = agent.tell("validate-jwt", "--audience", "db", given=b"\xff\xfe")
        nothing = agent.tell("validate-jwt", "--audience", "db", given=b"\n")
        changed = agent.tell("validate-jwt", "--audience", "db", "--token", f"{token[:-8]}AAAAAAAA", "--output", "json")

    assert (good.code, good.json["valid"], good.json["spiffe_id"]) == (0, True, WEB)
    assert named.out.startswith(f"valid                   yes\nspiffe id               {WEB}\n")
    assert (other.code, other.out) == (1, "")
    assert (garbled.code, garbled.out) == (1, "")
    assert "JWT-SVID: wanted a JWS in compact form" in garbled.err
    assert (nothing.code, nothing.err) == (1, "meshtls: validate-jwt: wanted a token, got nothing\n")
    assert f"JWT-SVID of {WEB}: it is meant for 'db', not for 'cache'" in other.err
    assert (changed.code, changed.err, changed.json["valid"]) == (1, "", False)
    assert "its signature was not made by" in changed.json["reason"]


def test_a_token_requested_for_one_of_several_identities_is_for_that_identity(agent: AgentProcess) -> None:
    with agent.identity("/web"), agent.identity("/api"):
        all_of_them = agent.tell("fetch", "jwt", "--audience", "db", "--output", "json").json["svids"]
        [one] = agent.tell("fetch", "jwt", "--audience", "db", "--spiffe-id", WEB, "--output", "json").json["svids"]

    assert [svid["spiffe_id"] for svid in all_of_them] == [WEB, "spiffe://example.org/api"]
    assert (one["spiffe_id"], one["audience"]) == (WEB, ["db"])


def test_fetched_bundles_have_both_kinds_of_authorities_of_each_trust_domain(
    agent: AgentProcess, tmp_path: Path
) -> None:
    partner = make_authority("partner.test").bundle
    (tmp_path / "partner.pem").write_bytes(partner.to_pem())
    agent.server.json("bundle", "set", "--id", "partner.test", "--path", tmp_path / "partner.pem")
    with agent.identity("/web", "--federates-with", "partner.test"):
        document = agent.tell("fetch", "bundles", "--output", "json").json
        text = agent.tell("fetch", "bundles").out
        agent.tell("fetch", "x509", "--write", tmp_path / "svid")
    with agent.identity("/web"):
        agent.tell("fetch", "x509", "--write", tmp_path / "alone")
        agent.tell("fetch", "x509", "--write", tmp_path / "svid")
    agent.server.json("bundle", "delete", "--id", "partner.test")

    found = {one["trust_domain"]: one["bundle"]["keys"] for one in document["bundles"]}
    assert {domain: {key["use"] for key in keys} for domain, keys in found.items()} == {
        "example.org": {"x509-svid", "jwt-svid"},
        "partner.test": {"x509-svid"},
    }
    assert f"partner.test\n{partner.to_pem().decode()}" in text
    # What a federation brought goes when it ends.
    assert names(tmp_path / "svid") == names(tmp_path / "alone") == {"bundle.pem", "key.pem", "svid.pem"}
    own = TrustBundle.from_pem(TrustDomain("example.org"), (tmp_path / "svid" / "bundle.pem").read_bytes())
    assert set(own.x509_authorities).isdisjoint(partner.x509_authorities)


def test_watch_writes_each_rotation_and_passes_the_paths_to_a_program(agent: AgentProcess, tmp_path: Path) -> None:
    program = "sh -c 'echo told $MESHTLS_SPIFFE_ID $MESHTLS_SVID_SERIAL $MESHTLS_KEY_FILE'"
    with (
        agent.identity("/web") as entry_id,
        watching(agent, "--write", tmp_path / "svid", "--exec", program) as process,
    ):
        first = next_svid(process)
        assert process.line("told") == f"told {WEB} {first['serial']} {tmp_path}/svid/key.pem\n"
        rotate(agent, entry_id, "web.example.org")
        second = next_svid(process)
        process.line(f"told {WEB} {second['serial']}")
        leaf = x509.load_pem_x509_certificate((tmp_path / "svid" / "svid.pem").read_bytes())

    assert int(first["serial"], 16) != int(second["serial"], 16) == leaf.serial_number
    assert second["files"] == [str(tmp_path / "svid" / name) for name in ("bundle.pem", "key.pem", "svid.pem")]


def test_an_entry_made_now_has_files_of_its_own_and_they_go_with_it(agent: AgentProcess, tmp_path: Path) -> None:
    with agent.identity("/web"), watching(agent, "--write", tmp_path / "svid", "--all") as process:
        next_svid(process)
        files = {"bundle.pem", "key.pem", "svid.pem", ".meshtls-files"}
        web, api = ({f"{kind}.example.org~{name}.pem" for kind in ("svid", "key")} for name in ("web", "api"))
        assert names(tmp_path / "svid") == files | web
        with agent.identity("/api"):
            assert next_svid(process)["spiffe_id"] == WEB
            assert names(tmp_path / "svid") == files | web | api
        assert next_svid(process)["spiffe_id"] == WEB
        assert names(tmp_path / "svid") == files | web


def test_fetch_writes_the_chosen_identity_and_does_not_replace_one_by_another_unasked(
    agent: AgentProcess, tmp_path: Path
) -> None:
    api = "spiffe://example.org/api"
    with agent.identity("/api"), agent.identity("/web"):
        chosen = agent.tell("fetch", "x509", "--write", tmp_path, "--spiffe-id", WEB, "--output", "json")
        assert [one["spiffe_id"] for one in chosen.json["svids"]] == [WEB]
        unasked = agent.tell("fetch", "x509", "--write", tmp_path, "--output", "json")
        assert unasked.json["svids"][0]["spiffe_id"] == WEB
    with agent.identity("/api"):
        refused = agent.tell("fetch", "x509", "--write", tmp_path)
        taken = agent.tell("fetch", "x509", "--write", tmp_path, "--spiffe-id", api)

    assert (refused.code, refused.err) == (
        1,
        f"meshtls: wanted an SVID of {WEB}, the Workload API gives this process {api}; the files in {tmp_path} belong"
        " to it: select another identity with --spiffe-id\n",
    )
    assert taken.code == 0


WAITS_FOR_USR1 = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("ready", flush=True)
for _ in range(2):
    signal.sigwait([signal.SIGUSR1])
    print("told", flush=True)
"""


@pytest.mark.parametrize("by_file", [False, True])
def test_watch_signals_a_program_at_each_svid(agent: AgentProcess, tmp_path: Path, by_file: bool) -> None:
    command = [sys.executable, "-c", WAITS_FOR_USR1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        (tmp_path / "child.pid").write_text(f"{child.pid}\n")
        to = ("--pid-file", tmp_path / "child.pid") if by_file else ("--pid", str(child.pid))
        with agent.identity("/web") as entry_id, watching(agent, "--signal", "usr1", *to):
            assert child.stdout.readline() == "told\n"
            rotate(agent, entry_id, "web.example.org")
            assert child.stdout.readline() == "told\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--exec", "/nonexistent --reload"), "ERROR meshtls.watch: /nonexistent: could not be run: "),
        (("--exec", "sh -c 'exit 3'"), "ERROR meshtls.watch: sh ended with code 3"),
        (("--signal", "HUP", "--pid-file", "/nonexistent"), "SIGHUP could not be sent: [Errno 2] No such file or"),
        (("--signal", "HUP", "--pid-file", "/dev/null"), "/dev/null: wanted a process ID, got ''"),
    ],
)
def test_a_program_that_cannot_be_notified_is_logged_and_notified_of_the_next_svid(
    agent: AgentProcess, arguments: tuple[str, ...], complaint: str
) -> None:
    with agent.identity("/web") as entry_id, watching(agent, *arguments) as process:
        process.line(complaint)
        rotate(agent, entry_id, "web.example.org")
        process.line(complaint)


def test_watch_waits_for_an_identity_and_prints_why(agent: AgentProcess) -> None:
    with watching(agent) as process:
        process.line("PERMISSION_DENIED: no identity issued")
        with agent.identity("/web"):
            assert next_svid(process)["spiffe_id"] == WEB


def test_watch_ends_where_its_files_cannot_be_written(agent: AgentProcess, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = ("watch", "--workload-socket", agent.socket, "--write", tmp_path / "file" / "svid")
    with agent.identity("/web"), started(*command) as process:
        process.line(f"meshtls: {tmp_path / 'file' / 'svid'}: wanted to write SVIDs there: Not a directory")
        assert process.popen.wait(30) == 2


def test_watch_ends_on_ctrl_c(agent: AgentProcess) -> None:
    with agent.identity("/web"), started("watch", "--workload-socket", agent.socket) as process:
        process.line(f"{WEB}: SVID ", "stdout")
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("watch", "--signal", "HUP"), "Error: wanted --signal together with one of --pid and --pid-file\n"),
        (("watch", "--pid", "1"), "Error: wanted --signal together with one of --pid and --pid-file\n"),
        (
            ("watch", "--signal", "HUP", "--pid", "1", "--pid-file", "x"),
            "Error: wanted --signal together with one of --pid and --pid-file\n",
        ),
        (
            ("watch", "--signal", "LOUD", "--pid", "1"),
            "Error: Invalid value for --signal: wanted a signal such as HUP or USR1, got 'LOUD'\n",
        ),
        (
            ("watch", "--signal", "HUP", "--pid", "0"),
            "Invalid value for '--pid': 0 is not in the range 1<=x<=4194304.\n",
        ),
        (("watch", "--exec", "sh '"), 'Error: Invalid value for --exec: "sh \'": No closing quotation\n'),
        (
            ("watch", "--exec", ""),
            "Error: Invalid value for --exec: wanted a program with its arguments, got nothing\n",
        ),
        (("fetch", "jwt"), "Error: Missing option '--audience'.\n"),
        (
            ("fetch", "x509", "--workload-socket", "http://x"),
            "wanted unix:///absolute/path, unix:/absolute/path or tcp://IP:port\n",
        ),
        (("fetch", "x509"), "no Workload API address: set SPIFFE_ENDPOINT_SOCKET, or give an address; "),
    ],
)
def test_a_bad_command_line_is_a_usage_error(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    told = tell(*arguments)

    assert (told.code, told.out) == (2, "")
    assert words in told.err


def test_the_workload_socket_is_taken_from_the_environment(
    agent: AgentProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{agent.socket}")
    with agent.identity("/web"):
        assert tell("fetch", "x509").code == 0


def test_an_absent_workload_socket_is_reported(tmp_path: Path) -> None:
    told = tell("fetch", "bundles", "--workload-socket", tmp_path / "a.sock")

    assert (told.code, told.out) == (1, "")
    assert told.err == (
        f"meshtls: Workload API at unix://{tmp_path / 'a.sock'}, FetchX509Bundles: cannot connect"
        " (No such file or directory); check that the agent is running\n"
    )


def test_a_running_agent_is_ready_whether_or_not_we_have_an_identity(agent: AgentProcess) -> None:
    without = tell("agent", "healthcheck", "--config", agent.config)
    with agent.identity("/web"):
        within = tell("agent", "healthcheck", "--config", agent.config, "--output", "json")

    assert (without.code, without.out) == (0, "ready\n")
    assert (within.code, within.json) == (0, {"ready": True, "waiting_for": ""})


def test_an_agent_that_is_not_there_is_not_ready(agent: AgentProcess, tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(agent.config.read_text().replace(str(agent.socket), str(tmp_path / "a.sock")))

    told = tell("agent", "healthcheck", "--config", file)

    assert (told.code, told.err) == (1, "")
    assert told.out.startswith(f"not ready: Workload API at unix://{tmp_path / 'a.sock'}, FetchX509SVID: ")


def test_an_agents_file_is_validated_without_its_secrets(agent: AgentProcess) -> None:
    told = tell("agent", "validate", "--config", agent.config, "--output", "json")

    assert (told.code, told.json["node_attestation"], told.json["x509_authorities"]) == (0, "join_token", 1)
    assert told.json["socket"] == str(agent.socket)
    token = next(line for line in agent.config.read_text().splitlines() if line.startswith("join_token"))
    assert token.split()[1] not in told.out


def test_explain_names_the_process_that_asks(agent: AgentProcess) -> None:
    with agent.identity("/web", selector=f"unix:path:{os.path.realpath(sys.executable)}"):
        told = agent.server.tell("explain", "--pid", str(os.getpid()), "--agent", agent.spiffe_id)

    assert told.code == 0
    assert f"\nidentities\n  {WEB} (entry " in told.out


def test_explain_reports_an_ended_process(agent: AgentProcess) -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
        told = agent.server.tell("explain", "--pid", str(ended.pid))

    assert (told.code, told.out) == (1, "")
    assert told.err == f"meshtls: pid {ended.pid}: its /proc directory can't be opened: No such file or directory\n"
