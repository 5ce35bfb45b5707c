"""The admin interfaces of a server and an agent, as processes: what they show, and that no secret is in any answer."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from meshtls.admin.plain import HIDDEN
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server, tell
from tests.integration.cli.processes import started, two_sidecars
from tests.integration.cli.test_cli_policy_reload import ALLOWED
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.support.agent import short_directory
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

PAGES = (
    "certs",
    "config_dump",
    "stats",
    "connections",
    "routes",
    "policies",
    "ready",
    "logging",
    "server_info",
    "help",
)


@contextmanager
def site() -> Iterator[tuple[Path, ServerProcess, AgentProcess]]:
    """A directory with ``server.sock`` and ``agent.sock``, and the two that answer there."""
    with (
        short_directory() as directory,
        running_server(f"admin: {{socket: {directory / 'server.sock'}}}\nlog_format: json\n") as server,
        running_agent(server, f"admin: {{socket: {directory / 'agent.sock'}, listen: '127.0.0.1:0'}}\n") as agent,
    ):
        yield directory, server, agent


def secrets_of(server: ServerProcess, agent: AgentProcess) -> list[str]:
    """The join token, and what distinguishes each private key in a file of these processes."""
    found = [line.split()[1] for line in agent.config.read_text().split("\n") if line.startswith("join_token: ")]
    for file in server.directory.rglob("*"):
        if file.is_file() and b"PRIVATE KEY" in (content := file.read_bytes()):
            lines = content.decode("latin-1").replace("\\n", "\n").split("\n")
            for at, line in enumerate(lines):
                if line.endswith(" PRIVATE KEY-----") and "BEGIN" in line:
                    # The first line of PKCS#8 says only which kind of key it is.
                    found.append(lines[at + 2])
    return found


def test_a_server_and_an_agent_show_what_they_are_and_no_secret() -> None:
    with site() as (directory, server, agent), agent.identity("/web"):
        secrets = secrets_of(server, agent)
        assert len(secrets) >= 2
        for name in ("server", "agent"):
            for page in PAGES:
                for form in ("json", "text"):
                    told = tell("admin", page, "--socket", directory / f"{name}.sock", "--output", form)
                    assert (told.code, told.err) == (0, ""), (name, page)
                    shown = told.out.replace("\\n", "\n")
                    assert not [one for one in (*secrets, "PRIVATE KEY") if one in shown], (name, page)
        certs = json.loads(tell("admin", "certs", "--socket", directory / "agent.sock", "--output", "json").out)
        assert certs["agent"]["svids"][0]["spiffe_id"] == agent.spiffe_id
        assert [one["spiffe_id"] for one in certs["workloads"]] == ["spiffe://example.org/web"]
        config = json.loads(tell("admin", "config_dump", "--config", agent.config, "--output", "json").out)
        assert config["config"]["join_token"] == HIDDEN
        ready = json.loads(tell("admin", "ready", "--config", agent.config, "--output", "json").out)
        assert "every user of this machine can read the admin interface on 127.0.0.1:" in ready["text"]
        stats = json.loads(tell("admin", "stats", "--config", server.config, "--output", "json").out)
        assert stats["agents_connected"] == 1


def test_a_drained_server_is_not_ready_and_its_json_log_says_who_asked() -> None:
    with site() as (directory, server, _):
        assert tell("admin", "logging", "level=INFO", "--socket", directory / "server.sock").code == 0
        assert tell("admin", "drain", "--socket", directory / "server.sock").code == 0
        assert tell("admin", "ready", "--socket", directory / "server.sock").code == 1
        line = json.loads(server.process.line("draining, by pid", "stderr"))
        assert (line["level"], line["logger"]) == ("WARNING", "meshtls.admin")


def test_each_worker_answers_and_policy_show_asks_what_they_enforce(tmp_path: Path) -> None:
    extra = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\nadmin: {{socket: {tmp_path / 'b.sock'}}}\n"
    two_sidecars(tmp_path, ids=(WEB, WEB), extra=extra)
    file, policies = tmp_path / "b.yaml", tmp_path / "policies"
    file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [policies]\n")
    policies.mkdir()
    (policies / "p.yaml").write_text(ALLOWED)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml")).line("serving: CA of ")
        b = stack.enter_context(started("sidecar", "run", "--workers", "2", "--config", file))
        for _ in range(2):
            b.line("serving: sidecar b is ")
        told = json.loads(tell("admin", "server_info", "--config", file, "--output", "json").out)
        assert len({one["pid"] for one in told["processes"]}) == 2
        shown = tell("policy", "show", "--config", file, "--output", "json")
        assert (shown.code, shown.json["running"]) == (0, {"ready": True, "text": ""})
        other = tmp_path / "other.yaml"
        other.write_text(file.read_text().replace("[policies]", "[others]"))
        (tmp_path / "others").mkdir()
        (tmp_path / "others" / "p.yaml").write_text(ALLOWED.replace("name: callers", "name: others"))
        shown = tell("policy", "show", "--config", other, "--output", "json")
        assert shown.code == 1
        assert "it enforces other rules than this file says" in shown.json["running"]["text"]
        assert b.stop() == 0


def test_a_sidecar_without_its_first_svid_answers_why_and_goes_on_at_the_same_socket(tmp_path: Path) -> None:
    [metrics] = free_ports(1)
    extra = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\nadmin: {{socket: {tmp_path / 'b.sock'}}}\n"
    health = two_sidecars(tmp_path, ids=(WEB, WEB), extra=extra)["b_health"]
    file = tmp_path / "b.yaml"
    file.write_text(f"{file.read_text()}metrics: {{listen: 127.0.0.1:{metrics}}}\n")
    write_ca(tmp_path, os.getuid())

    def got(port: int, path: str) -> tuple[int, str]:
        with closing(HTTPConnection("127.0.0.1", port, timeout=SECONDS)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def asked(page: str) -> tuple[int, dict[str, Any]]:
        told = tell("admin", page, "--config", file, "--output", "json")
        return told.code, json.loads(told.out) if told.out else {}

    def asked_until(page: str, code: int, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while not ((found := asked(page))[0] == code and wanted(found[1])):
            assert time.monotonic() < until, found
        return found[1]

    with ExitStack() as stack:
        b = stack.enter_context(started("sidecar", "run", "--config", file))
        ready = asked_until("ready", 1, lambda found: f"{tmp_path / 'ca.sock'}" in found.get("text", ""))
        assert ready["ready"] is False
        assert ready["text"].startswith("a valid SVID: ")
        assert asked("server_info")[1]["state"] == "new"
        assert asked("certs")[1]["missing"].startswith("a valid SVID: ")
        inode = (tmp_path / "b.sock").stat().st_ino
        status, text = got(health, "/ready")
        assert (status, text[:27]) == (503, "waiting for a valid SVID: W")
        assert f"{tmp_path / 'ca.sock'}, FetchX509SVID: cannot connect (No such file or directory)" in text
        assert got(health, "/live") == (200, "live\n")
        _, scraped = got(metrics, "/metrics")
        assert {"meshtls_ready 0", "meshtls_svid_valid 0"} <= set(scraped.splitlines())
        assert not re.search(r'^meshtls_workload_api_failures_total{reason="unreachable"} 0$', scraped, re.MULTILINE)
        assert re.search(r'^meshtls_workload_api_failures_total{reason="socket_denied"} 0$', scraped, re.MULTILINE)
        told = tell("check", "--sidecar", file, "--output", "json")
        problems = [
            one["problem"] for group in told.json["groups"] for one in group["checks"] if one["result"] != "passed"
        ]
        assert f"the sidecar is not ready, by its probes on 127.0.0.1:{health}" in problems
        assert not [one for one in problems if "in the file, but not in use" in one or "can't listen" in one]
        stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml")).line("serving: CA of ")
        b.line("serving: sidecar b is ")
        who = {"kind": "sidecar", "name": "b", "spiffe_id": WEB}
        assert asked("ready") == (0, {"ready": True, "text": "", **who})
        assert asked("server_info")[1]["state"] == "serving"
        assert (tmp_path / "b.sock").stat().st_ino == inode
        assert got(health, "/ready") == (200, f"ready\nsidecar b ({WEB})\n")
        _, scraped = got(metrics, "/metrics")
        assert {"meshtls_ready 1", "meshtls_svid_valid 1"} <= set(scraped.splitlines())
        assert b.stop() == 0
    assert not (tmp_path / "b.sock").exists()
