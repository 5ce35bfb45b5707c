"""The recipes for multi-process servers, as a reader runs them, with a Workload API on a socket."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from meshtls import authorize_any, authorize_id, client_context
from meshtls.integrations.peers import verified_peer
from meshtls.pytest.mesh import Mesh
from meshtls.pytest.workload_api import MeshWorkloadApi
from meshtls.svid.context import X509ContextSource

DEPLOYMENTS = Path(__file__).parents[3] / "examples" / "deployments"
#: Seconds within which a multi-process server is up, or has done what a test waits for.
DEADLINE = 45.0
SERVERS = {
    "uvicorn": ["python", "fastapi_app.py", "127.0.0.1", "0"],
    "gunicorn, WSGI": ["gunicorn", "-c", "gunicorn_wsgi.py", "-b", "127.0.0.1:0", "wsgi_app:app"],
    "gunicorn, ASGI": ["gunicorn", "-c", "gunicorn_asgi.py", "-b", "127.0.0.1:0", "fastapi_app:app"],
    "Django, WSGI": ["gunicorn", "-c", "gunicorn_wsgi.py", "-b", "127.0.0.1:0", "django_app:wsgi"],
    "Django, ASGI": ["gunicorn", "-c", "gunicorn_asgi.py", "-b", "127.0.0.1:0", "django_app:asgi"],
    "hypercorn": ["python", "hypercorn_server.py", "127.0.0.1:0"],
}
TELLS_THE_PEER = [name for name in SERVERS if name != "hypercorn"]
#: One for each way of starting workers; Django's are gunicorn's.
STARTS_WORKERS = [name for name in SERVERS if not name.startswith("Django")]
PORT = re.compile(r"https?://127\.0\.0\.1:(\d+)")


def command(words: list[str]) -> list[str]:
    """The recipe's command with the programs of this environment."""
    return [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]


@contextmanager
def running(words: list[str], api: MeshWorkloadApi) -> Iterator[str]:
    """The URL of a server that runs while the body does."""
    process = subprocess.Popen(
        command(words),
        cwd=DEPLOYMENTS,
        env=os.environ | api.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := PORT.search(line):
                break
        else:
            pytest.fail(f"the server ended: {''.join(said)}")
        _await_listener(int(found[1]), process)
        yield f"https://127.0.0.1:{found[1]}/"
    finally:
        process.terminate()
        try:
            process.communicate(timeout=DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _await_listener(port: int, process: subprocess.Popen[str]) -> None:
    # uvicorn prints its address after bind; its workers listen later.
    end = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < end:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"port {port}: nothing listens after {DEADLINE:g} s, or the server ended")


def get(caller: X509ContextSource, url: str, path: str = "") -> tuple[int, str]:
    """The response over a new connection."""
    context = client_context(caller, authorize_id("spiffe://example.org/server"))
    with httpx.Client(verify=context, timeout=DEADLINE) as client:
        answer = client.get(url + path)
    return answer.status_code, answer.text


def process_of(answer: tuple[int, str]) -> int:
    status, text = answer
    assert status == 200, text
    return int(re.findall(r"process (\d+)", text)[0])


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", TELLS_THE_PEER)
def test_the_application_sees_the_peer_and_forbids_another(mesh: Mesh, name: str) -> None:
    with running(SERVERS[name], mesh.workload_api("server")) as url:
        status, text = get(mesh.source("client"), url)
        assert (status, "hello spiffe://example.org/client from process" in text) == (200, True), text
        assert get(mesh.source("stranger"), url)[0] == 403


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", STARTS_WORKERS)
def test_a_peer_without_a_valid_svid_of_the_mesh_is_refused_in_the_handshake(mesh: Mesh, name: str) -> None:
    with running(SERVERS[name], mesh.workload_api("server")) as url:
        assert get(mesh.source("client"), url)[0] == 200
        with pytest.raises(httpx.TransportError):
            get(mesh.expired("client"), url)
        with pytest.raises(httpx.TransportError), httpx.Client(verify=False, timeout=DEADLINE) as client:  # noqa: S501
            client.get(url)
        assert get(mesh.source("client"), url)[0] == 200


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["Django, WSGI", "Django, ASGI"])
def test_a_django_view_that_requires_no_id_is_for_every_peer_of_the_context(mesh: Mesh, name: str) -> None:
    with running(SERVERS[name], mesh.workload_api("server")) as url:
        status, text = get(mesh.source("stranger"), url, "anyone")
        assert (status, "hello spiffe://example.org/stranger from process" in text) == (200, True), text
        assert get(mesh.source("stranger"), url) == (403, "forbidden\n")


@pytest.mark.timeout(180)
def test_hypercorn_refuses_an_id_that_its_context_does_not_allow(mesh: Mesh) -> None:
    with running(SERVERS["hypercorn"], mesh.workload_api("server")) as url:
        assert get(mesh.source("client"), url)[0] == 200
        with pytest.raises(httpx.TransportError):
            get(mesh.source("stranger"), url)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", [name for name in STARTS_WORKERS if name in TELLS_THE_PEER])
def test_every_worker_has_an_identity_and_so_has_the_one_that_takes_its_place(mesh: Mesh, name: str) -> None:
    with running(SERVERS[name], mesh.workload_api("server")) as url:
        client = mesh.source("client")
        first = process_of(get(client, url))
        os.kill(first, signal.SIGKILL)
        second = another(client, url, {first})
        os.kill(second, signal.SIGKILL)
        another(client, url, {first, second})


def another(caller: X509ContextSource, url: str, known: set[int]) -> int:
    """The first responding process other than these; a connection to the killed one fails, and is retried."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        try:
            found = process_of(get(caller, url))
        except httpx.TransportError:
            continue
        if found not in known:
            return found
    pytest.fail(f"no process but {known} answered within {DEADLINE:g} s")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", STARTS_WORKERS)
def test_the_workers_present_what_their_workload_api_pushed(mesh: Mesh, name: str) -> None:
    api = mesh.workload_api("server")
    with running(SERVERS[name], api) as url:
        before = presented(mesh.source("client"), url)
        assert before == api.serial
        api.rotate()
        end = time.monotonic() + DEADLINE
        while presented(mesh.source("client"), url) == before:
            assert time.monotonic() < end


def presented(caller: X509ContextSource, url: str) -> str:
    """The serial number of the server's certificate."""
    context = client_context(caller, authorize_any())
    with httpx.Client(verify=context, timeout=DEADLINE) as client, client.stream("GET", url) as answer:
        return verified_peer(answer.extensions["network_stream"]).serial


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("app", "path"), [("wsgi_app:app", ""), ("django_app:wsgi", ""), ("django_app:wsgi", "anyone")]
)
def test_gunicorn_without_tls_forbids_what_a_header_claims(mesh: Mesh, app: str, path: str) -> None:
    words = ["gunicorn", "-b", "127.0.0.1:0", app]
    headers = {
        "x-forwarded-client-cert": "URI=spiffe://example.org/client",
        "spiffe-peer": "spiffe://example.org/client",
    }
    with running(words, mesh.workload_api("server")) as url:
        answer = httpx.get(url.replace("https", "http") + path, headers=headers, timeout=DEADLINE)
    assert (answer.status_code, answer.text) == (403, "forbidden\n")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("words", "environment", "reason"),
    [
        (SERVERS["gunicorn, WSGI"], {}, "SPIFFE_ENDPOINT_SOCKET"),
        (SERVERS["gunicorn, ASGI"], {}, "SPIFFE_ENDPOINT_SOCKET"),
        (
            [
                "gunicorn",
                "-k",
                "meshtls.integrations.gunicorn.UvicornPeerWorker",
                "-b",
                "127.0.0.1:0",
                "fastapi_app:app",
            ],
            {"SPIFFE_ENDPOINT_SOCKET": "unix:///nowhere"},
            "UvicornPeerWorker: wanted a function ssl_context(config, default) in gunicorn's configuration that gives a"
            " server_context, got none",
        ),
    ],
    ids=["WSGI, no Workload API", "ASGI, no Workload API", "ASGI, no ssl_context hook"],
)
def test_gunicorn_ends_where_a_worker_has_no_identity(
    words: list[str], environment: dict[str, str], reason: str
) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "SPIFFE_ENDPOINT_SOCKET"}
    ended = subprocess.run(
        command(words),
        cwd=DEPLOYMENTS,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    assert ended.returncode != 0
    assert reason in ended.stderr


def test_every_deployment_is_listed_with_its_command() -> None:
    listed = (DEPLOYMENTS.parent / "README.md").read_text()
    for words in SERVERS.values():
        assert (
            " ".join(words).replace("127.0.0.1 0", "127.0.0.1 8443").replace("127.0.0.1:0", "127.0.0.1:8443") in listed
        )
    for program in DEPLOYMENTS.glob("*.py"):
        assert program.name in listed
