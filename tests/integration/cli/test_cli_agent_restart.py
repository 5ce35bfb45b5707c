"""An agent that attested with a join token starts again without a new one, unless it keeps its SVID nowhere."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.identity_site import ServerProcess, tell
from tests.integration.cli.processes import started


def write_agent(server: ServerProcess, directory: Path, extra: str = "") -> Path:
    token = server.json("token", "generate")["token"]
    (directory / "bundle.pem").write_text(server.tell("bundle", "show").out)
    host, port = server.said["address"].split(":")
    file = directory / "agent.yaml"
    file.write_text(
        f"trust_domain: example.org\nserver_address: {host}\nserver_port: {port}\njoin_token: {token}\n"
        f"attest_port: {server.said['attest_address'].split(':')[1]}\n"
        f"trust_bundle_path: bundle.pem\nsocket_path: agent.sock\n{extra}"
    )
    return file


def test_an_agent_with_a_join_token_and_no_data_dir_starts_again(server: ServerProcess, tmp_path: Path) -> None:
    file = write_agent(server, tmp_path)
    for _ in range(2):
        with started("agent", "run", "--config", file, directory=tmp_path) as process:
            said = process.line("serving: ", "stdout")
            assert "; its SVID is stored in meshtls-agent-data, for a restart" in said
            process.line("ready: 0 entries", "stdout")
            assert process.stop() == 0
    kept = tmp_path / "meshtls-agent-data"
    assert oct(kept.stat().st_mode) == "0o40700"
    assert oct((kept / "agent-svid.pem").stat().st_mode) == "0o100600"


def test_an_agent_that_keeps_its_svid_nowhere_says_so_and_needs_another_token(
    server: ServerProcess, tmp_path: Path
) -> None:
    file = write_agent(server, tmp_path, "key_manager: {memory: }\n")
    notice = "key_manager.memory: a join token is good for one attestation: each restart of this agent needs a new one"

    with started("agent", "run", "--config", file, directory=tmp_path) as process:
        assert notice in process.line("join token is good")
        assert "; its SVID is not stored: a restart attests again" in process.line("serving: ", "stdout")
        process.line("ready: 0 entries", "stdout")
        assert process.stop() == 0
    with started("agent", "run", "--config", file, directory=tmp_path) as process:
        process.line("join token: it is unknown, used or expired")
        assert process.stop() == 0

    assert sorted(one.name for one in tmp_path.iterdir()) == ["agent.yaml", "bundle.pem"]


def test_validate_says_where_the_svid_is_kept(server: ServerProcess, tmp_path: Path) -> None:
    file = write_agent(server, tmp_path, f"data_dir: {tmp_path / 'kept'}\n")
    text = file.read_text().replace("bundle.pem", str(tmp_path / "bundle.pem"))
    file.write_text(text)
    told = tell("agent", "validate", "--config", file)
    assert (told.code, told.err) == (0, "")
    assert f"  its SVID is stored in {tmp_path / 'kept'}, for a restart\n" in told.out
    assert told.out.startswith(f"{file}: agent of example.org\n  serves the Workload API and SDS on agent.sock\n")
    file.write_text(text.replace(f"data_dir: {tmp_path / 'kept'}\n", ""))
    assert (
        "  its SVID is stored in meshtls-agent-data, for a restart\n" in tell("agent", "validate", "--config", file).out
    )
