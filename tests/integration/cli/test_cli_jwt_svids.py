"""JWT-SVIDs of a real Workload API in requests through real sidecars, from the change of policies on that first asks
for them.
"""

from __future__ import annotations

import http.server
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.processes import Process, meshtls, started, two_sidecars
from tests.integration.cli.test_cli_processes import WEB, write_ca

SECONDS = 60
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: default}
spec: {mtls: {mode: STRICT}}
---
"""
ANYONE = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: default}
spec: {rules: [{}]}
"""
VERIFIED = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: svids, namespace: default}
spec: {jwtRules: [{issuer: "spiffe://example.org"%s}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: default}
spec: {rules: [{from: [{source: {requestPrincipals: ["spiffe://example.org/*"]}}]}]}
"""


@contextmanager
def an_app(port: int) -> Iterator[None]:
    """Answers each GET with the token that it got."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's
            body = (self.headers.get("authorization") or "no token").encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Site:
    directory: Path
    port: int
    b: Process

    def change(self, text: str) -> None:
        new = self.directory / "new"
        new.write_text(STRICT + text)
        new.rename(self.directory / "p.yaml")

    def get(self, token: str | None = None) -> tuple[int, str]:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # http, above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def token(self, audience: str) -> str:
        """A JWT-SVID of the Workload API, for this audience."""
        socket = self.directory / "ca.sock"
        return meshtls("fetch", "jwt", "--workload-socket", socket, "--audience", audience).stdout.strip()


@pytest.fixture(params=[1, 2], ids=["one process", "workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@contextmanager
def running(directory: Path, policies: str, workers: int) -> Iterator[Site]:
    identity = f"identity: {{workload_api: unix://{directory / 'ca.sock'}}}\n"
    ports = two_sidecars(directory, ids=(WEB, WEB), extra=identity)
    file = directory / "b.yaml"
    text = file.read_text().replace(f'allow: ["{WEB}"]', "protocol: http")
    file.write_text(f"{text}policies: [p.yaml]\n")
    (directory / "p.yaml").write_text(STRICT + policies)
    write_ca(directory, os.getuid())
    with ExitStack() as stack:
        ca = stack.enter_context(started("ca", "serve", "--config", directory / "ca.yaml"))
        ca.line("serving: CA of example.org on ")
        stack.enter_context(an_app(ports["b_app"]))
        a = stack.enter_context(started("sidecar", "run", "--config", directory / "a.yaml"))
        b = stack.enter_context(started("sidecar", "run", "--workers", str(workers), "--config", file))
        a.line("serving: sidecar a is ")
        for _ in range(workers):
            b.line("serving: sidecar b is ")
        yield Site(directory, ports["a_out"], b)


def test_the_first_rule_for_jwt_svids_is_live_without_a_restart(tmp_path: Path, workers: int) -> None:
    with running(tmp_path, ANYONE, workers) as site:
        assert site.get() == (200, "no token")
        good = site.token(WEB)
        site.change(VERIFIED % ", forwardOriginalToken: true")
        deadline, alike = time.monotonic() + SECONDS, 0
        while alike < 8:  # in a row, as several workers answer
            assert time.monotonic() < deadline
            alike = alike + 1 if site.get()[0] == 403 else 0
        for _ in range(4):
            assert site.get(good) == (200, f"Bearer {good}")


def test_a_jwt_svid_is_accepted_only_if_it_is_for_this_workload_and_signed_by_its_trust_domain(tmp_path: Path) -> None:
    with running(tmp_path, VERIFIED % "", 1) as site:
        good, other = site.token(WEB), site.token("spiffe://example.org/other")
        assert site.get(good) == (200, "no token")
        assert site.get() == (403, "access denied by policy\n")
        assert site.get(other) == (403, "access denied by policy\n")
        head, claims, signature = good.split(".")
        for forged in (
            f"{head}.{other.split('.')[1]}.{signature}",
            f"{head}.{claims}.{'A' * len(signature)}",
            "garbage",
        ):
            assert site.get(forged)[0] in (401, 403)
        assert site.get(good)[0] == 200
        site.change(VERIFIED % ', audiences: ["spiffe://example.org/other"]')
        deadline = time.monotonic() + SECONDS
        while site.get(other)[0] != 200:
            assert time.monotonic() < deadline
        assert site.get(good)[0] == 403
