"""gRPC's health checking protocol on the agent's socket, and probes that idle at its HTTP listener."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from grpclib import GRPCError, Status
from grpclib.client import Channel

from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.agent.upstream import Update
from meshtls.proto import health_pb as pb
from meshtls.proto.health_grpc import HealthStub
from meshtls.rpc.brief_connections import MOST_CONNECTIONS
from tests.support.agent import OURS, Mesh, agent_at, entry, http_get
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.waiting import SECONDS

SERVING, NOT_SERVING = 1, 2


class SilentUpstream(EmbeddedUpstream):
    """Sends nothing until it is told to."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(make_authority(str(OURS), clock), clock, [entry("/web")])
        self.speak = asyncio.Event()

    async def watch(self):  # type: ignore[no-untyped-def]
        await self.speak.wait()
        yield Update(entries=self.entries, bundles=self.bundles, whole=True)
        await asyncio.get_running_loop().create_future()


@pytest.fixture
async def health(mesh: Mesh) -> AsyncIterator[HealthStub]:
    channel = Channel(path=str(mesh.agent.endpoint.socket_path))
    yield HealthStub(channel)
    channel.close()


async def test_an_agent_that_can_serve_says_so_without_a_security_header(health: HealthStub) -> None:
    assert (await health.Check(pb.HealthCheckRequest(), timeout=SECONDS)).status == SERVING


async def test_grpcs_own_client_understands_the_answer(mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(mesh.agent.address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
        )
        assert await check(b"", timeout=SECONDS) == b"\x08\x01"


async def test_the_health_of_a_single_service_is_not_reported(health: HealthStub) -> None:
    with pytest.raises(GRPCError) as refused:
        await health.Check(pb.HealthCheckRequest(service="SpiffeWorkloadAPI"), timeout=SECONDS)
    assert (refused.value.status, refused.value.message) == (
        Status.INVALID_ARGUMENT,
        "service: wanted none, the health of single services is not reported",
    )


async def test_a_health_watcher_is_notified_when_an_agent_can_serve(directory: Path) -> None:
    clock = ManualClock()
    upstream = SilentUpstream(clock)
    path = directory / "agent.sock"
    async with Agent(Endpoint(path), upstream, clock), AsyncExitStack() as opened:
        channel = Channel(path=str(path))
        opened.callback(channel.close)
        assert (await HealthStub(channel).Check(pb.HealthCheckRequest(), timeout=SECONDS)).status == NOT_SERVING
        async with HealthStub(channel).Watch.open(timeout=SECONDS * 3) as stream:
            await stream.send_message(pb.HealthCheckRequest(), end=True)
            first = await stream.recv_message()
            upstream.speak.set()
            second = asyncio.ensure_future(stream.recv_message())
            while not second.done():
                clock.advance(1)
                await asyncio.wait([second], timeout=0.05)
            assert [said.status for said in (first, await second) if said] == [NOT_SERVING, SERVING]
            await stream.cancel()


async def test_silent_probes_give_way_to_one_that_sends_a_request(directory: Path) -> None:
    async with agent_at(directory / "agent.sock", entry("/web"), health=("127.0.0.1", 0)) as mesh:
        port = mesh.agent.health_port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS + 8)]
        assert await http_get(port, "/ready") == ("HTTP/1.1 200 OK", f"ready\n{mesh.agent.process}\n")
        # The oldest of them have been closed.
        assert await asyncio.wait_for(silent[0][0].read(), SECONDS) == b""
        for _, writer in silent:
            writer.close()


async def test_a_probe_without_end_is_cut(directory: Path) -> None:
    async with agent_at(directory / "agent.sock", health=("127.0.0.1", 0)) as mesh:
        reader, writer = await asyncio.open_connection("127.0.0.1", mesh.agent.health_port)
        writer.write(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 3000)
        try:
            answer = await asyncio.wait_for(reader.read(), SECONDS)
        except ConnectionError:
            answer = b""
        assert answer == b""
        writer.close()
