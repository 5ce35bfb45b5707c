"""The examples with Istio's policies as a reader runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from meshtls import authorize_any, client_context
from meshtls.pytest.mesh import Mesh

ROOT = Path(__file__).parents[3]


@contextmanager
def running(mesh: Mesh, program: str) -> Iterator[str]:
    command = [sys.executable, f"examples/{program}", "127.0.0.1:0", "examples/policies"]
    environment = os.environ | mesh.workload_api("ns/shop/sa/orders").environment
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("listening on ")
        yield said.split()[-1]
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("program", ["starlette_policy_server.py", "fastapi_policy_server.py"])
def test_the_program_answers_what_the_policy_allows_and_nothing_else(mesh: Mesh, program: str) -> None:
    with running(mesh, program) as address:
        for name, method, status in (("web", "GET", 200), ("web", "POST", 403), ("batch", "GET", 403)):
            caller = f"ns/shop/sa/{name}"
            with httpx.Client(verify=client_context(mesh.source(caller), authorize_any())) as client:
                answer = client.request(method, f"https://{address}/orders")
            assert answer.status_code == status
            if status == 200:
                assert answer.text.strip('"') == "orders for spiffe://example.org/ns/shop/sa/web"
            else:
                assert answer.text == "access denied by policy\n"
