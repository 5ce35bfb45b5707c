"""The examples as a reader runs them: processes whose identities come from a Workload API on a socket."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshtls import authorize_any, client_context
from meshtls.integrations.peers import verified_peer
from meshtls.pytest.mesh import Mesh
from meshtls.pytest.workload_api import MeshWorkloadApi

EXAMPLES = Path(__file__).parents[3] / "examples"
NAME = "server.example.org"


@dataclass(frozen=True)
class Programs:
    """A server, and a client that takes the server's address and, as its last argument, its expected ID."""

    server: str
    client: str
    url: str = "{}"
    expect: str = "spiffe://example.org/server"


PAIRS = [
    Programs("asyncio_server", "asyncio_client"),
    Programs("aiohttp_server", "aiohttp_client", "https://{}/"),
    Programs("aiohttp_server", "requests_client", "https://{}/"),
    Programs("uvicorn_server", "httpx_client", "https://{}/"),
    Programs("grpclib_server", "grpclib_client"),
    Programs("grpc_aio_server", "grpc_aio_client", expect=NAME),
]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.client} to {pair.server}")


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]


@contextmanager
def running(pair: Programs, api: MeshWorkloadApi) -> Iterator[str]:
    """The address of the server, which allows spiffe://example.org/client and runs while the body does."""
    arguments = command(pair.server, "127.0.0.1:0", "spiffe://example.org/client")
    process = subprocess.Popen(arguments, env=os.environ | api.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = process.stdout.readline()
        assert said.startswith("listening on ")
        yield said.split()[-1]
    finally:
        process.terminate()
        process.communicate()


def call(pair: Programs, api: MeshWorkloadApi, address: str, expect: str) -> subprocess.CompletedProcess[str]:
    arguments = command(pair.client, pair.url.format(address), expect)
    return subprocess.run(arguments, env=os.environ | api.environment, capture_output=True, text=True, check=False)


@every_pair
def test_the_programs_connect_and_a_stranger_is_refused(mesh: Mesh, pair: Programs) -> None:
    client, stranger = mesh.workload_api("client"), mesh.workload_api("stranger")
    with running(pair, mesh.workload_api("server", dns_names=[NAME])) as address:
        welcome = call(pair, client, address, pair.expect)
        refused = call(pair, stranger, address, pair.expect)
    assert (welcome.stdout, welcome.returncode) == (
        f"hello spiffe://example.org/client, certificate {client.serial}\n",
        0,
    )
    assert (refused.stdout, refused.returncode) == ("", 1)


@every_pair
def test_a_client_refuses_a_server_of_another_name(mesh: Mesh, pair: Programs) -> None:
    other = "other.example.org" if pair.expect == NAME else "spiffe://example.org/other"
    with running(pair, mesh.workload_api("server", dns_names=[NAME])) as address:
        refused = call(pair, mesh.workload_api("client"), address, other)
    assert (refused.stdout, refused.returncode) == ("", 1)
    assert (
        "the server is spiffe://example.org/server; expected: " in refused.stderr
        or "Hostname Verification" in refused.stderr
    )


def test_a_running_server_presents_what_its_workload_api_pushed(mesh: Mesh) -> None:
    api = mesh.workload_api("server")
    context = client_context(mesh.source("client"), authorize_any())
    with running(PAIRS[0], api) as address:
        before = api.serial
        assert asyncio.run(presented(context, address)) == before
        api.rotate()
        while (serial := asyncio.run(presented(context, address))) == before:
            pass
        assert serial == api.serial


async def presented(context: ssl.SSLContext, address: str) -> str:
    """The serial number of the server's certificate."""
    reader, writer = await asyncio.open_connection(*address.split(":"), ssl=context)
    serial = verified_peer(writer).serial
    writer.write(b"who am I?\n")
    await reader.readline()
    writer.close()
    await writer.wait_closed()
    return serial


def test_every_program_is_listed_with_its_command() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    for program in sorted(EXAMPLES.glob("*.py")):
        assert f"python examples/{program.name} " in listed
        assert f"python examples/{program.name} " in program.read_text()
