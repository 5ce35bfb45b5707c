"""A mesh of processes, as operators run them, and a Prometheus that scrapes it."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meshtls.observe.boards.rules import alert_rules
from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server
from tests.integration.cli.kept_app import kept_app
from tests.integration.cli.processes import started, two_sidecars
from tests.support.agent import SELF
from tests.support.ports import free_ports
from tests.support.prometheus import Prometheus, running_prometheus

__all__ = ["WEB", "ObservedMesh", "observed_mesh"]

WEB = "spiffe://example.org/ns/default/sa/web"
_POLICIES = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: default}
spec:
  rules:
    - from: [{source: {principals: [example.org/ns/default/sa/web]}}]
      to: [{operation: {methods: [GET], paths: [/allowed]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trial, namespace: default, annotations: {istio.io/dry-run: "true"}}
spec:
  action: DENY
  rules: [{to: [{operation: {paths: [/allowed]}}]}]
"""
_WAIT = re.compile("(?m)^( +for:) [0-9]+m$")


@dataclass(frozen=True)
class ObservedMesh:
    """Sidecars ``a`` and ``b``, their agent and server.

    ``ports`` are those of ``two_sidecars``, ``metrics`` those that are scraped, by job.
    """

    server: ServerProcess
    agent: AgentProcess
    ports: dict[str, int]
    metrics: dict[str, int]
    prometheus: Prometheus

    def get(self, path: str) -> int:
        """The status of a request through both sidecars to the app of b."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["a_out"], timeout=60)
        try:
            connection.request("GET", path, headers={"Host": "b"})
            return connection.getresponse().status
        finally:
            connection.close()

    def be_refused(self) -> None:
        """Speak plaintext to b, which requires mutual TLS."""
        with socket.create_connection(("127.0.0.1", self.ports["b_in"]), 60) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            while stranger.recv(4096):
                pass


@contextmanager
def observed_mesh(directory: Path, ttl: int) -> Iterator[ObservedMesh]:
    """Run all of it while the body runs. The sidecars' SVIDs live for ``ttl`` seconds.

    The rules wait for a second instead of minutes before they fire.
    """
    jobs = ("server", "agent", "a", "b")
    metrics = dict(zip(jobs, free_ports(len(jobs)), strict=True))
    listen = {job: f"metrics: {{listen: '127.0.0.1:{port}'}}\n" for job, port in metrics.items()}
    with ExitStack() as stack:
        server = stack.enter_context(running_server(listen["server"]))
        agent = stack.enter_context(running_agent(server, listen["agent"]))
        server.json(
            *("entry", "create", "--spiffe-id", WEB, "--parent-id", agent.spiffe_id, "--selector", SELF),
            *("--x509-svid-ttl", str(ttl)),
        )
        ports = two_sidecars(
            directory, ids=(WEB, WEB), extra=f"identity: {{workload_api: 'unix:{agent.socket}'}}\nnamespace: default\n"
        )
        (directory / "policies.yaml").write_text(_POLICIES)
        for name in ("a", "b"):
            file = directory / f"{name}.yaml"
            file.write_text(
                file.read_text().replace(f'allow: ["{WEB}"]', "protocol: http")
                + f"policies: [policies.yaml]\n{listen[name]}"
            )
            stack.enter_context(started("sidecar", "run", "--config", file)).line(f"serving: sidecar {name} is ")
        stack.enter_context(kept_app(ports["b_app"]))
        rules = _WAIT.sub(r"\1 1s", alert_rules())
        prometheus = stack.enter_context(running_prometheus(directory, metrics, rules))
        yield ObservedMesh(server, agent, ports, metrics, prometheus)
