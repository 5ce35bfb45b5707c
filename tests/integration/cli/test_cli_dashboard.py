"""``meshtls dashboard`` and the dashboard of ``meshtls up``, as processes."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.processes import meshtls, started, two_sidecars
from tests.integration.cli.test_cli_admin_processes import site
from tests.support.waiting import SECONDS

A, B = "spiffe://example.org/ns/default/sa/a", "spiffe://example.org/ns/default/sa/b"


def got(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # ours, on loopback
        return json.load(answer)


def shows(url: str, wanted: Callable[[Any], object]) -> Any:
    """The view, as soon as it is as wanted."""
    until = time.monotonic() + SECONDS
    while not wanted(found := got(url)):
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def test_a_server_and_an_agent_are_shown_with_their_trust() -> None:
    with (
        site() as (directory, server, agent),
        agent.identity("/web"),
        started(
            "dashboard",
            *("--socket", directory / "server.sock", "--socket", directory / "agent.sock"),
            *("--server-socket", server.said["socket"], "--interval", "100ms"),
        ) as process,
    ):
        url = process.line("dashboard: http://", "stdout").removeprefix("dashboard: ").strip()
        trust = shows(
            f"{url}api/trust",  # the server may be asked for the first time before it has signed anything
            lambda view: view["server"] and len(view["trust_domains"]) == 1 and view["server"]["log"]["size"] > 0,
        )
        assert (trust["server"]["error"], trust["server"]["log_error"]) == ("", "")
        assert {(one["kind"], one["state"]) for one in trust["server"]["authorities"]} == {
            ("x509", "ACTIVE"),
            ("jwt", "ACTIVE"),
        }
        (domain,) = trust["trust_domains"]
        assert (domain["trust_domain"], domain["agreed"]) == ("example.org", True)
        held = shows(f"{url}api/identities", lambda view: len(view["identities"]) == 3)["identities"]
        assert {(one["role"], one["path"][-1]["role"]) for one in held} == {
            ("server", "root"),
            ("agent", "root"),
            ("workload", "root"),
        }
        (workload,) = [one for one in held if one["role"] == "workload"]
        assert (workload["spiffe_id"], workload["next_rotation_estimated"]) == ("spiffe://example.org/web", False)
        policies = shows(f"{url}api/policies", lambda view: view["entries"])
        assert [one["spiffe_id"] for one in policies["entries"]] == ["spiffe://example.org/web"]
        assert process.stop() == 0


def test_a_mesh_in_one_process_has_a_dashboard_of_its_own(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(A, B))
    with started("up", "--sidecars", tmp_path, "--certs", tmp_path / "certs") as up:
        url = up.line("dashboard: http://127.0.0.1:").removeprefix("dashboard: ").strip()
        shows(f"{url}api/processes", lambda view: len(view["processes"]) == 2)
        with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310  # as above
            assert b'src="/static/main.js"' in page.read()
        assert up.stop() == 0
        up.line("stopped")


def test_a_mesh_without_a_dashboard_has_none(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(A, B))
    with started("up", "--no-dashboard", "--sidecars", tmp_path, "--certs", tmp_path / "certs") as up:
        up.line("serving a, b")
        assert up.stop() == 0
        assert up.line("draining").strip() == "draining"


def test_the_dashboard_prints_its_url_and_ends_with_a_signal(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-the-test-0123456789\n")
    token.chmod(0o600)
    words = ("dashboard", "--socket", tmp_path / "a.sock", "--token-file", token, "--output", "json")
    with started(*words) as process:
        url = json.loads(process.line('"event": "serving"', "stdout"))["url"]
        assert got(f"{url}api/about")["may_act"] is True
        assert process.stop() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--listen", "0.0.0.0:0"),  # it is refused
            "meshtls: --listen: wanted an IP address of this machine alone, such as 127.0.0.1:0 or [::1]:0, got"
            " 0.0.0.0:0: whoever can connect there can read every identity and connection of the mesh\n",
        ),
        (("--token-file", "open"), "meshtls: --token-file open: wanted mode 0600, got 0644: others may read it\n"),
        (
            ("--token-file", "short"),
            "meshtls: --token-file short: wanted one word of 16 to 4096 printable ASCII characters\n",
        ),
    ],
)
def test_a_token_file_or_an_address_that_would_be_unsafe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, str], message: str
) -> None:
    for name, text, mode in (("open", "a-token-of-the-test-0123456789", 0o644), ("short", "secret", 0o600)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    monkeypatch.chdir(tmp_path)
    done = meshtls("dashboard", "--socket", "a.sock", *words)
    assert (done.returncode, done.stderr) == (2, message)


def test_dashboard_without_an_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHTLS_ADMIN_INTERFACE", raising=False)
    done = meshtls("dashboard")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "meshtls: wanted --sidecar, --socket, --address or --config, or MESHTLS_ADMIN_INTERFACE"
    )
