"""Floods: which of them end a caller's connection, while other callers are served."""

from __future__ import annotations

import asyncio
import struct

import pytest

from bench.raw_http2 import (
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    RawHttp2,
    frame,
    raw_http2,
)
from meshtls.rpc.shedding import Refusal
from tests.integration.rpc.conftest import Serve
from tests.support.waiting import until

CALM = 0xB
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"

ENDLESS = {
    "PING": frame(PING, 0, 0, b"12345678"),
    "SETTINGS": frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)),
    "PRIORITY": frame(PRIORITY, 0, 1, bytes(5)),
    "WINDOW_UPDATE": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
    "empty DATA": frame(DATA, 0, 1),
    "tiny DATA": frame(DATA, 0, 1, b"x"),
    "unknown frames": frame(0x42, 0, 0, b"what"),
}


async def flood(client: RawHttp2, data: bytes) -> None:
    """Send all of it, or as much as the other side accepts."""
    try:
        await client.send(data)
    except ConnectionError:
        return


@pytest.mark.parametrize("kind", ENDLESS)
async def test_too_many_frames_without_progress_end_the_connection(kind: str, serve: Serve) -> None:
    async with serve(idle_frames_per_second=1.0) as under, raw_http2(under.path) as client:
        opening = client.call(1, WATCH) if "DATA" in kind else b""
        sending = asyncio.create_task(flood(client, opening + ENDLESS[kind] * 200))
        assert await client.farewell() == (CALM, Refusal.IDLE_FRAMES.value)
        await sending
        assert under.refusals.counts == {("test", Refusal.IDLE_FRAMES): 1}
        assert await under.asked() == 3


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_few_frames_without_progress_are_tolerated(kind: str, serve: Serve) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        opening = client.call(1, WATCH) if "DATA" in kind else b""
        await client.send(opening + ENDLESS[kind] * 4 + client.call(3, CHECK, b""))
        assert (await client.next_headers())[":status"] == "200"
        assert not under.refusals.counts


async def test_the_budget_is_the_callers_and_not_the_connections(serve: Serve) -> None:
    async with serve(idle_frames_per_second=1.0) as under:
        async with raw_http2(under.path) as client:
            await flood(client, ENDLESS["PING"] * 100)
            assert await client.farewell() == (CALM, Refusal.IDLE_FRAMES.value)
        async with raw_http2(under.path) as client:
            # Enough for one connection's ten free pings, and the few that the budget refills meanwhile.
            await flood(client, ENDLESS["PING"] * 100)
            acknowledged = 0
            while (came := await client.next()) is not None:
                acknowledged += came.kind == PING
            assert acknowledged < 50


async def test_calls_reset_before_their_answer_end_the_connection(serve: Serve) -> None:
    async with serve(resets_per_second=1.0) as under, raw_http2(under.path) as client:
        resets = b"".join(client.reset_call(number, WATCH) for number in range(1, 101, 2))
        sending = asyncio.create_task(flood(client, resets))
        assert await client.farewell() == (CALM, Refusal.RESETS.value)
        await sending
        assert under.refusals.counts == {("test", Refusal.RESETS): 1}
        assert await under.asked() == 3


async def test_calls_reset_after_their_answer_cost_nothing(serve: Serve) -> None:
    async with serve(resets_per_second=1.0) as under, raw_http2(under.path) as client:
        for number in range(1, 61, 2):
            await client.send(client.call(number, WATCH, b""))
            await client.next_headers()
            await client.send(frame(RST_STREAM, 0, number, CANCEL))
        await until(lambda: under.service.ended == 30)
        assert not under.refusals.counts


async def test_a_call_reset_before_its_task_starts_is_released(serve: Serve) -> None:
    async with serve(streams_per_caller=3) as under, raw_http2(under.path) as client:
        # In one piece: the call's task is cancelled before it has begun.
        for number in range(1, 41, 2):
            await client.send(client.reset_call(number, WATCH))
        await client.send(client.call(41, CHECK, b""))
        assert (await client.next_headers())[":status"] == "200"
        assert under.service.begun == under.service.ended


async def test_a_header_block_without_end_ends_the_connection(serve: Serve) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        block = frame(HEADERS, 0, 1, client.block(CHECK)) + frame(CONTINUATION, 0, 1, bytes(64)) * 100
        sending = asyncio.create_task(flood(client, block))
        assert await client.farewell() == (CALM, Refusal.HEADERS.value)
        await sending
        assert await under.asked() == 3


async def test_a_header_block_in_a_few_frames_is_taken(serve: Serve) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        block = client.block(CHECK)
        await client.send(frame(HEADERS, 0, 1, block[:5]) + frame(CONTINUATION, END_HEADERS, 1, block[5:]))
        await client.send(frame(DATA, END_STREAM, 1, bytes(5)))
        assert (await client.next_headers())[":status"] == "200"
        assert not under.refusals.counts


async def test_a_header_block_that_grows_when_it_is_unpacked_ends_the_connection(serve: Serve) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        # One long field enters the table, and is then referenced by one byte a thousand times.
        field = b"\x40\x01x\x7f\x81\x1e" + b"y" * 4000
        bomb = client.block(CHECK) + field + b"\xbe" * 1000
        sending = asyncio.create_task(flood(client, frame(HEADERS, END_HEADERS, 1, bomb)))
        assert await client.farewell() == (1, Refusal.PROTOCOL.value)
        await sending
        assert await under.asked() == 3


async def test_a_message_that_is_too_long_is_refused_by_its_length_alone(serve: Serve) -> None:
    async with serve(message_bytes=100_000) as under, raw_http2(under.path) as client:
        announced = frame(DATA, 0, 1, struct.pack(">BI", 0, 700 << 20))
        await client.send(client.call(1, CHECK) + announced)
        answer = await client.next_headers()
        assert answer["grpc-status"] == "8"
        assert answer["grpc-message"] == "wanted a message of at most 100000 bytes, got one of 734003200"
        assert await under.asked("x" * 90_000) == 90_000


async def test_data_for_a_call_that_is_over_ends_the_connection_after_a_window(serve: Serve) -> None:
    async with serve(message_bytes=100_000) as under, raw_http2(under.path) as client:
        await client.send(client.call(1, CHECK) + frame(DATA, 0, 1, struct.pack(">BI", 0, 700 << 20)))
        await client.next_headers()
        sending = asyncio.create_task(flood(client, frame(DATA, 0, 1, bytes(1 << 14)) * 20))
        assert (await client.farewell())[1] in (Refusal.DISCARDED_DATA.value, Refusal.PROTOCOL.value)
        await sending
        assert await under.asked() == 3


async def test_incomplete_messages_have_a_total_bound(serve: Serve) -> None:
    async with serve(message_bytes=100_000) as under, raw_http2(under.path) as client:
        for number in range(1, 11, 2):
            await client.send(client.call(number, CHECK) + frame(DATA, 0, number, struct.pack(">BI", 0, 100_000)))
        answer = await client.next_headers()
        assert answer["grpc-status"] == "8"
        assert answer["grpc-message"].endswith("sends too many messages at once")
        # The reservation is released when its calls end.
        await client.send(b"".join(frame(RST_STREAM, 0, number, CANCEL) for number in range(1, 9, 2)))
        await client.send(frame(PING, 0, 0, bytes(8)))
        await client.next_of(PING)
        assert await under.asked("y" * 90_000) == 90_000


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal.NOT_HTTP2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(PING, 0, 0, bytes(8)), Refusal.NOT_HTTP2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + b"\x00\x40\x01\0\0\0\0\0\1", Refusal.PROTOCOL),
    ],
    ids=["HTTP/1.1", "no SETTINGS first", "a frame that is too long"],
)
async def test_bytes_other_than_http2_end_the_connection(first: bytes, why: Refusal, serve: Serve) -> None:
    async with serve() as under, raw_http2(under.path, greet=False) as client:
        await client.send(first)
        assert await client.farewell() == (1, why.value)
        assert under.refusals.counts == {("test", why): 1}


@pytest.mark.parametrize(
    ("extra", "status", "message"),
    [
        (("grpc-timeout", "123456789S"), "3", "grpc-timeout: wanted up to 8 digits and a unit"),
        (("grpc-timeout", "0n"), "4", "the call's deadline is over"),
        (("x-bin", "a"), "3", "metadata: wanted base64 in a key that ends in -bin"),
    ],
)
async def test_bad_headers_are_answered_without_a_traceback(
    extra: tuple[str, str], status: str, message: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        await client.send(frame(HEADERS, END_HEADERS, 1, client.block(CHECK, [extra])))
        answer = await client.next_headers()
        assert (answer["grpc-status"], answer["grpc-message"]) == (status, message)
        assert await under.asked() == 3
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("message", "status"),
    [(b"\1\0\0\0\0", "12"), (b"\0\0\0\0\5ab", "3"), (b"\0\0", "3"), (b"\0\0\0\0\2\xff\xff", "3")],
    ids=["compressed", "cut short", "no whole prefix", "no protobuf"],
)
async def test_bad_messages_are_answered_without_a_traceback(
    message: bytes, status: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as under, raw_http2(under.path) as client:
        await client.send(client.call(1, CHECK) + frame(DATA, 1, 1, message))
        assert (await client.next_headers())["grpc-status"] == status
        assert await under.asked() == 3
    assert not [record for record in caplog.records if record.exc_info]
