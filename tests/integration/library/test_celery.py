"""The Celery recipe as a reader runs it, with a file broker: forked workers call a service over mutual TLS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshtls.pytest.mesh import Mesh
from meshtls.pytest.workload_api import MeshWorkloadApi
from tests.integration.library.test_deployments import DEADLINE, DEPLOYMENTS, SERVERS, running

#: The recipe's application on files instead of AMQP, and a task sent to it.
ON_FILES = """
import pathlib, sys
from celery_tasks import app, fetch

here = pathlib.Path(__file__).parent
folders = {name: str(here / "queue") for name in ("data_folder_in", "data_folder_out")}
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={**folders, "control_folder": str(here / "control")},
    result_backend=f"file://{here / 'results'}",
)
if __name__ == "__main__":
    print(fetch.delay().get(timeout=float(sys.argv[1])))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of the worker and of the program that sends it a task."""
    for folder in ("queue", "control", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "on_files.py").write_text(ON_FILES)
    inherited = {name: value for name, value in os.environ.items() if name != "SPIFFE_ENDPOINT_SOCKET"}
    return inherited | {"PYTHONPATH": f"{tmp_path}:{DEPLOYMENTS}"}


def worker(environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [
        "celery",
        "-A",
        "on_files",
        "worker",
        "--concurrency=2",
        "--without-mingle",
        "--without-gossip",
        "-l",
        "info",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def working(environment: dict[str, str], api: MeshWorkloadApi, url: str) -> Iterator[subprocess.Popen[str]]:
    """A worker that runs while the body does."""
    process = worker(environment | api.environment | {"CALL": url})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def fetch(environment: dict[str, str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """The task's result, as seen by the program that sent it, which needs no identity."""
    arguments = [sys.executable, str(tmp_path / "on_files.py"), str(DEADLINE)]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=2 * DEADLINE, check=False)


@pytest.mark.timeout(240)
def test_a_task_in_a_forked_process_calls_with_the_workers_identity(
    mesh: Mesh, environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        running(SERVERS["gunicorn, WSGI"], mesh.workload_api("server")) as url,
        working(environment, mesh.workload_api("client"), url) as process,
    ):
        done = fetch(environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"of {process.pid}: hello spiffe://example.org/client from process" in done.stdout


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("client", "server", "reason"),
    [
        ("stranger", "server", "403 Client Error"),
        ("client", "other", "the server is spiffe://example.org/other; expected: "),
    ],
)
def test_a_task_fails_where_either_side_refuses_the_other(
    mesh: Mesh, environment: dict[str, str], tmp_path: Path, client: str, server: str, reason: str
) -> None:
    with (
        running(SERVERS["gunicorn, WSGI"], mesh.workload_api(server)) as url,
        working(environment, mesh.workload_api(client), url),
    ):
        failed = fetch(environment, tmp_path)
    assert failed.returncode == 1
    assert reason in failed.stderr


@pytest.mark.timeout(240)
def test_a_worker_without_an_identity_does_not_start(environment: dict[str, str]) -> None:
    with worker(environment | {"CALL": "https://127.0.0.1:1/"}) as process:
        try:
            said, _ = process.communicate(timeout=2 * DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode not in (0, None)
    assert "no identity: " in said
    assert "SPIFFE_ENDPOINT_SOCKET" in said
