"""Mutual TLS where both sides have their SVIDs from SPIRE: the library's ``listen`` and ``dial`` and our sidecar on one
side, go-spiffe's ``spiffetls`` on the other.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtls.errors import HandshakeError, NotAuthorizedError
from meshtls.policy.authorizer import authorize_id
from meshtls.tls.streams import dial, listen
from meshtls.workload.x509_source import X509Source
from tests.integration.cli.processes import Process, started
from tests.support.agent import short_directory
from tests.support.gospiffe import build_go_peer, echo_line, go_peer
from tests.support.ports import free_ports
from tests.support.spire import DOMAIN, PYTHON, Spire, running_spire

APP, PEER, OTHER = (f"spiffe://{DOMAIN}/{name}" for name in ("app", "peer", "other"))
pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.timeout(900),  # the first build of the Go program compiles gRPC
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go_peer(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="module")
def spire(program: Path) -> Iterator[Spire]:
    """The test and the Go program run as one user and are distinguished by their programs."""
    with (
        short_directory() as directory,
        running_spire(directory) as running,
        running.entry("/app", PYTHON),
        running.entry("/peer", f"unix:path:{program}"),
    ):
        yield running


async def test_go_spiffe_reaches_our_listener_and_each_refuses_another_id(spire: Spire, program: Path) -> None:
    async with (
        X509Source(spire.workload_api) as source,
        await listen("127.0.0.1", 0, source, authorize_id(PEER), echo_line) as ours,
        await listen("127.0.0.1", 0, source, authorize_id(OTHER), echo_line) as others,
        go_peer(program, spire.workload_api, "dial") as peer,
    ):
        await peer.told()
        for_it, for_another = (f"127.0.0.1:{listener.address[1]}" for listener in (ours, others))
        assert await peer.ask(for_it, APP) == {"event": "answered", "peer": APP, "text": "hello"}
        assert f'unexpected ID "{APP}"' in (await peer.ask(for_it, OTHER))["error"]
        refused = {"event": "refused", "error": "remote error: tls: unknown certificate authority"}
        assert await peer.ask(for_another, APP) == refused


async def test_we_reach_go_spiffe_and_each_refuses_another_id(spire: Spire, program: Path) -> None:
    api = spire.workload_api
    async with (
        X509Source(api) as source,
        go_peer(program, api, "listen", APP) as ours,
        go_peer(program, api, "listen", OTHER) as others,
    ):
        for_us, for_another = (await ours.address(), await others.address())
        reader, writer = await dial(*for_us, source, authorize_id(PEER))
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        assert await ours.told() == {"event": "served", "peer": APP, "text": "hello"}
        writer.close()
        await writer.wait_closed()
        with pytest.raises(NotAuthorizedError) as denied:
            await dial(*for_us, source, authorize_id(OTHER))
        assert str(denied.value) == f"the server is {PEER}; expected: {OTHER}"
        reader, writer = await dial(*for_another, source, authorize_id(PEER))
        with pytest.raises(HandshakeError, match="bad certificate"):
            await reader.readline()
        writer.close()


@asynccontextmanager
async def our_sidecar(spire: Spire, **doors: dict[str, object]) -> AsyncIterator[Process]:
    """``meshtls sidecar run`` with SPIRE for its Workload API."""
    config = {"name": "ours", "spiffe_id": APP, "identity": {"workload_api": spire.workload_api}}
    with short_directory() as directory:
        file = directory / "sidecar.yaml"
        file.write_text(json.dumps(config | {name: [door] for name, door in doors.items()}))
        with started("sidecar", "run", "--config", file) as process:
            await asyncio.to_thread(process.line, "serving: ")
            yield process


async def logged(process: Process) -> tuple[str, str | None, str | None]:
    """The outcome, the source and the destination of the next connection that ended."""
    line = json.loads(await asyncio.to_thread(process.line, '"outcome"', "stdout"))
    return line["outcome"], line["source_id"], line["destination_id"]


@pytest.mark.parametrize(("allowed", "outcome"), [(PEER, "OK"), (OTHER, "POLICY_DENIED")])
async def test_go_spiffe_reaches_an_app_behind_our_sidecar_where_it_is_allowed(
    spire: Spire, program: Path, allowed: str, outcome: str
) -> None:
    port = free_ports(1)[0]
    async with await asyncio.start_server(echo_line, "127.0.0.1", 0) as app:
        to = f"127.0.0.1:{app.sockets[0].getsockname()[1]}"
        door: dict[str, object] = {"listen": f"127.0.0.1:{port}", "app": to, "allow": [allowed]}
        async with (
            our_sidecar(spire, inbound=door) as process,
            go_peer(program, spire.workload_api, "dial") as peer,
        ):
            await peer.told()
            answer = await peer.ask(f"127.0.0.1:{port}", APP)
            assert answer["event"] == ("answered" if outcome == "OK" else "refused")
            assert await logged(process) == (outcome, PEER, APP)


@pytest.mark.parametrize(("wanted", "outcome"), [(PEER, "OK"), (OTHER, "POLICY_DENIED")])
async def test_an_app_behind_our_sidecar_reaches_a_go_spiffe_server_with_the_expected_id(
    spire: Spire, program: Path, wanted: str, outcome: str
) -> None:
    port = free_ports(1)[0]
    async with go_peer(program, spire.workload_api, "listen", APP) as peer:
        to = ":".join(map(str, await peer.address()))
        door: dict[str, object] = {"listen": f"127.0.0.1:{port}", "to": to, "peer": wanted}
        async with our_sidecar(spire, outbound=door) as process:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\n")
            answer = await asyncio.wait_for(_line(reader), 20)
            assert answer == (b"hello\n" if outcome == "OK" else b"")
            writer.close()
            assert await logged(process) == (outcome, APP, PEER)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty if the connection was closed or reset."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""
