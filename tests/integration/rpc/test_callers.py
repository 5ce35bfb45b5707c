"""Limits of a caller's connections and calls, eviction, and deadlines of phases."""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from grpclib import GRPCError
from grpclib.client import Channel

from bench.raw_http2 import DATA, HEADERS, PREFACE, SETTINGS, frame, raw_http2
from meshtls import counted_log
from meshtls.proto import health_pb as pb
from meshtls.proto.health_grpc import HealthStub
from meshtls.rpc.shedding import Refusal
from tests.integration.rpc.conftest import Serve
from tests.support.waiting import until

CALM = 0xB
GREETING = PREFACE + frame(SETTINGS, 0, 0)
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"


async def test_a_callers_oldest_idle_connection_gives_way_to_its_new_one(serve: Serve) -> None:
    async with serve(connections_per_caller=2) as under, AsyncExitStack() as opened:
        first = await opened.enter_async_context(raw_http2(under.path))
        await first.next_of(SETTINGS)
        second = await opened.enter_async_context(raw_http2(under.path))
        await second.send(second.call(1, WATCH, b""))
        await second.next_headers()
        assert await under.asked() == 3
        assert await first.farewell() == (CALM, Refusal.EVICTED.value)
        # The busy one stays.
        await second.send(second.call(3, CHECK, b""))
        assert (await second.next_headers())[":status"] == "200"


async def test_a_caller_whose_connections_are_all_busy_gets_a_clear_error(serve: Serve) -> None:
    async with serve(connections_per_caller=1) as under, raw_http2(under.path) as busy:
        await busy.send(busy.call(1, WATCH, b""))
        await busy.next_headers()
        async with raw_http2(under.path, greet=False) as refused:
            assert await refused.farewell() == (CALM, Refusal.CONNECTIONS_PER_CALLER.value)
        assert under.refusals.counts == {("test", Refusal.CONNECTIONS_PER_CALLER): 1}


async def test_new_connections_have_a_rate(serve: Serve) -> None:
    async with serve(connections_per_second=1e-6) as under:
        assert await under.asked() == 3
        async with raw_http2(under.path, greet=False) as refused:
            assert await refused.farewell() == (CALM, Refusal.CONNECTION_RATE.value)


async def test_a_callers_calls_have_a_bound_over_all_its_connections(serve: Serve) -> None:
    async with serve(streams_per_caller=3) as under, AsyncExitStack() as opened:
        for _ in range(3):
            client = await opened.enter_async_context(raw_http2(under.path))
            await client.send(client.call(1, WATCH, b""))
            await client.next_headers()
        channel = Channel(path=str(under.path))
        opened.callback(channel.close)
        with pytest.raises(GRPCError, match=r"has 3 calls open, wanted at most 3 \(limits.streams_per_caller\)"):
            await HealthStub(channel).Check(pb.HealthCheckRequest())
        client.writer.close()
        await until(lambda: under.service.ended == 1)
        assert (await HealthStub(channel).Check(pb.HealthCheckRequest(service="ab"))).status == 2


#: What is said, the limit that is short meanwhile, and the refusal.
LATE = {
    "no preface": (b"", "handshake_timeout", Refusal.HANDSHAKE_TIMEOUT),
    "half a preface": (PREFACE[:9], "handshake_timeout", Refusal.HANDSHAKE_TIMEOUT),
    "no SETTINGS": (PREFACE, "handshake_timeout", Refusal.HANDSHAKE_TIMEOUT),
    "half a frame": (GREETING + b"\0\0", "request_timeout", Refusal.REQUEST_TIMEOUT),
    "half a header block": (GREETING + frame(HEADERS, 0, 1, b"\x83"), "request_timeout", Refusal.REQUEST_TIMEOUT),
}


@pytest.mark.parametrize("what", LATE)
async def test_a_phase_that_lasts_too_long_ends_the_connection(what: str, serve: Serve) -> None:
    said, limit, why = LATE[what]
    async with serve(**{limit: 0.2}) as under, raw_http2(under.path, greet=False) as client:
        await client.send(said)
        assert await client.farewell() == (CALM, why.value)
        assert under.refusals.counts == {("test", why): 1}


@pytest.mark.parametrize("message", [None, struct.pack(">BI", 0, 5) + b"ab"], ids=["no message", "half a message"])
async def test_a_call_that_never_sends_its_message_is_answered(message: bytes | None, serve: Serve) -> None:
    async with serve(request_timeout=0.2) as under, raw_http2(under.path) as client:
        await client.send(client.call(1, CHECK) + (frame(DATA, 0, 1, message) if message else b""))
        answer = await client.next_headers()
        assert (answer["grpc-status"], answer["grpc-message"]) == ("4", "wanted a request message within 0.2 s")


async def test_an_idle_connection_is_ended_without_a_complaint(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(idle_timeout=0.2) as under, raw_http2(under.path) as client:
        assert await client.farewell() == (0, Refusal.IDLE_TIMEOUT.value)
    assert not caplog.records


async def test_a_call_that_lasts_is_no_idle_connection(serve: Serve) -> None:
    async with (
        serve(idle_timeout=1, request_timeout=1) as under,
        raw_http2(under.path, greet=False) as client,
        raw_http2(under.path) as idle,
    ):
        await client.send(GREETING + client.call(1, WATCH, b""))  # at once: it is idle at no time
        await client.next_headers()
        await idle.farewell()
        await client.send(client.call(3, CHECK, b""))
        assert (await client.next_headers())[":status"] == "200"


async def test_a_listener_may_allow_longer_calls(serve: Serve) -> None:
    async with serve(call_timeout=0.2) as under, raw_http2(under.path) as client:
        await client.send(client.call(1, WATCH, b""))
        await client.next_headers()
        await until(lambda: under.service.ended == 1)


async def test_a_caller_that_does_not_read_is_cut(serve: Serve) -> None:
    async with serve(write_timeout=0.2, idle_frames_per_second=1_000_000) as under:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, str(under.path))
            await loop.sock_sendall(sock, PREFACE + frame(SETTINGS, 0, 0))

            async def ping_for_ever() -> None:
                while True:
                    await loop.sock_sendall(sock, frame(6, 0, 0, bytes(8)) * 1000)

            with pytest.raises(ConnectionError):
                await asyncio.wait_for(ping_for_ever(), 30)
        assert under.refusals.counts == {("test", Refusal.WRITE_TIMEOUT): 1}
        assert await under.asked() == 3


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_exhausted_descriptors_are_logged_once_and_survived(
    serve: Serve, few_descriptors: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_log, "_SECONDS", 3600.0)
    async with serve() as under:
        client = socket.socket(socket.AF_UNIX)
        highest = client.fileno()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        holding: list[socket.socket] = []
        gc.collect()  # what it would close later would be room for a connection
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        try:
            while True:
                holding.append(socket.socket(socket.AF_UNIX))  # fill the gaps below
        except OSError:
            client.connect(str(under.path))
        await until(lambda: under.refusals.counts["test", Refusal.RESOURCES] >= 3)
        assert len([one for one in caplog.records if "no descriptor" in one.getMessage()]) == 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in (client, *holding):
            one.close()
        assert await under.asked() == 3


async def test_refusals_are_logged_once_with_a_count(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counted_log, "_SECONDS", 3600.0)
    async with serve(connections_per_second=1e-6) as under:
        assert await under.asked() == 3
        for _ in range(50):
            async with raw_http2(under.path, greet=False) as refused:
                await refused.farewell()
        assert under.refusals.counts == {("test", Refusal.CONNECTION_RATE): 50}
        assert len(caplog.records) == 1
