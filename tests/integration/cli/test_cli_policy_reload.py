"""Policy files that change while a sidecar serves, as the operator sees it: one process, and several workers."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.cli.processes import meshtls, started, two_sidecars
from tests.integration.cli.test_cli_processes import WEB, write_ca
from tests.integration.cli.test_cli_sidecar_reload import SECONDS, Pair, ask, echoing, held, is_cut

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: callers, namespace: default}}
spec: {{rules: [{{from: [{{source: {{principals: ["{principal}"]}}}}]}}]}}
"""
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
"""
ALLOWED = POLICY.format(principal=WEB.removeprefix("spiffe://")) + STRICT
FORBIDDEN = POLICY.format(principal="example.org/other") + STRICT


@pytest.fixture(params=[1, 2])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    workers: int = request.param
    identity = f"identity: {{workload_api: unix://{tmp_path / 'ca.sock'}}}\n"
    ports = two_sidecars(tmp_path, ids=(WEB, WEB), extra=identity)
    file, policies = tmp_path / "b.yaml", tmp_path / "policies"
    file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [policies]\n")
    policies.mkdir()
    (policies / "p.yaml").write_text(ALLOWED)
    write_ca(tmp_path, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", tmp_path / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        stack.enter_context(echoing(ports["b_app"]))
        a = stack.enter_context(started("sidecar", "run", "--config", tmp_path / "a.yaml"))
        b = stack.enter_context(started("sidecar", "run", "--workers", str(workers), "--config", file))
        a.line("serving: sidecar a is ")
        for _ in range(workers):
            b.line("serving: sidecar b is ")
        yield Pair(file, ports, a, b)


def replace(pair: Pair, text: str, name: str = "p.yaml") -> None:
    policies = pair.file.parent / "policies"
    (policies / ".new").write_text(text)
    (policies / ".new").rename(policies / name)


def ready(pair: Pair) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{pair.ports['b_health']}/ready", timeout=SECONDS) as answer:
        return str(answer.read().decode())


def until_ready(pair: Pair, wanted: Callable[[str], bool]) -> str:
    """Until ``wanted`` is true of the answer eight times in a row, as several workers answer."""
    deadline, alike, told = time.monotonic() + SECONDS, 0, ""
    while alike < 8:
        assert time.monotonic() < deadline, told
        told = ready(pair)
        alike = alike + 1 if wanted(told) else 0
    return told


def test_a_changed_policy_ends_what_it_forbids_and_an_invalid_one_changes_nothing(pair: Pair) -> None:
    with held(pair.ports["a_out"]) as connection:
        assert ask(connection) == b"ping"
        replace(pair, FORBIDDEN.replace("spec: {rules", "spec: {rulez"))
        assert "rulez" in pair.b.line("the configuration in use stays")
        told = until_ready(pair, lambda told: "the configuration in use is an older one" in told)
        assert "rulez: unknown field" in told
        assert ask(connection) == b"ping"  # nothing has changed
        replace(pair, FORBIDDEN)
        pair.b.line("in use from now on")
        assert is_cut(connection)
    pair.until_all(b"")
    until_ready(pair, lambda told: told == f"ready\nsidecar b ({WEB})\n")
    # Another file in the directory counts, too.
    replace(pair, ALLOWED.replace("name: callers", "name: more").replace(STRICT, ""), "q.yaml")
    pair.b.line("in use from now on")
    pair.until_all(b"ping")
    (pair.file.parent / "policies" / "q.yaml").unlink()
    pair.b.line("in use from now on")
    pair.until_all(b"")
    assert pair.b.stop() == 0


def test_a_directory_that_loses_its_policies_changes_nothing(pair: Pair) -> None:
    (pair.file.parent / "policies" / "p.yaml").unlink()
    assert "got a directory without any" in pair.b.line("the configuration in use stays")
    pair.until_all(b"ping")
    assert pair.b.stop() == 0


def test_a_file_or_a_directory_that_is_not_read_is_an_invalid_change(pair: Pair) -> None:
    policies = pair.file.parent / "policies"
    replace(pair, FORBIDDEN.replace("name: callers", "name: more"), "deny.YAML")
    assert f"{policies / 'deny.YAML'}: wanted a name that ends with" in pair.b.line("the configuration in use stays")
    until_ready(pair, lambda told: "the configuration in use is an older one" in told)
    pair.until_all(b"ping")
    (policies / "deny.YAML").unlink()
    until_ready(pair, lambda told: told == f"ready\nsidecar b ({WEB})\n")
    (policies / "more").mkdir()
    wanted = f"{policies / 'more'}: wanted files of policies in {policies}, got a directory"
    assert wanted in pair.b.line("the configuration in use stays")
    (policies / "more").rmdir()
    until_ready(pair, lambda told: told == f"ready\nsidecar b ({WEB})\n")
    assert pair.b.stop() == 0


def test_a_sidecar_without_its_policies_does_not_start(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(WEB, WEB))
    file = tmp_path / "b.yaml"
    file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [none.yaml]\n")
    for verb in ("run", "validate"):
        done = meshtls("sidecar", verb, "--config", file)
        assert done.returncode == 2
        assert "none.yaml: wanted a configuration file to read: No such file or directory" in done.stderr


def test_validate_says_what_policies_leave_open(tmp_path: Path) -> None:
    two_sidecars(tmp_path, ids=(WEB, WEB))
    file = tmp_path / "b.yaml"
    file.write_text(file.read_text().replace(f', allow: ["{WEB}"]', "") + "policies: [p.yaml]\n")
    (tmp_path / "p.yaml").write_text(ALLOWED.replace("namespace: default", "namespace: elsewhere"))
    done = meshtls("sidecar", "validate", "--config", file)
    assert done.returncode == 0
    told = done.stdout + done.stderr
    assert "no PeerAuthentication is for port" in told
    assert "no AuthorizationPolicy with action ALLOW is for this workload, and there is no allow" in told
