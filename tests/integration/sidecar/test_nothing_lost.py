"""Byte for byte, whatever happens to the wire, the sizes, the ends and the identities meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from meshtls.address import Address
from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from tests.integration.sidecar.mesh import OTHER, OURS, A, B, Streams, an_app, connected, echoed, rest, side_a, side_b
from tests.support.waiting import until

LARGE = int(os.environ.get("MESHTLS_TEST_LARGE_MIB", "256")) << 20
BLOCK = random.Random(4).randbytes(1 << 20)  # noqa: S311  # any bytes will do, the same each time


@dataclass
class Sum:
    """What went by: how much, and its checksum."""

    size: int = 0
    crc: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)


async def take_all(reader: asyncio.StreamReader) -> Sum:
    taken = Sum()
    while data := await reader.read(1 << 18):
        taken.add(data)
    return taken


@dataclass
class Chopper:
    """Lies between the sidecars and cuts what they send into pieces of any size, down to single bytes."""

    to: Address
    dice: random.Random

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = await asyncio.open_connection(self.to.host, self.to.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._chop(reader, far[1]))
            group.create_task(self._chop(far[0], writer))
        writer.close()
        far[1].close()

    async def _chop(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            while data:
                size = self.dice.choice((1, 2, 5, 6, 100, 1460, 16_406, 65_536))
                writer.write(data[:size])
                data = data[size:]
                await writer.drain()
                await asyncio.sleep(0)
        writer.write_eof()


@pytest.mark.parametrize("seed", range(4))
async def test_records_cut_anywhere_and_messages_of_any_size_arrive_as_they_were_sent(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311  # a test's
    messages = [dice.randbytes(dice.choice((1, 3, 64, 1500, 16_384, 16_385, 70_000, 300_000))) for _ in range(24)]

    async def send(writer: asyncio.StreamWriter) -> None:
        for message in messages:
            writer.write(message)
            await writer.drain()
            if dice.random() < 0.5:
                await asyncio.sleep(0)
        writer.write_eof()

    async with (
        an_app() as app,
        side_b(app.address) as b,
        await asyncio.start_server(Chopper(b.inbound, dice).serve, "127.0.0.1", 0) as between,
        side_a(Address(*between.sockets[0].getsockname())) as a,
    ):
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            group.create_task(send(streams[1]))
            assert await rest(streams) == b"".join(messages)
        assert await a.lines.outcome() == await b.lines.outcome() == "OK"


async def test_bytes_written_one_by_one_arrive_in_order() -> None:
    data = BLOCK[:3000]
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        got = b""
        for start in range(0, len(data), 100):
            for byte in data[start : start + 100]:
                streams[1].write(bytes((byte,)))
                await asyncio.sleep(0)
            got += await streams[0].readexactly(100)
    assert got == data


async def test_a_large_transfer_arrives_whole() -> None:
    """256 MiB, or what MESHTLS_TEST_LARGE_MIB says."""
    sent = Sum()
    arrived: asyncio.Future[Sum] = asyncio.get_running_loop().create_future()

    async def app(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(await take_all(reader))
        writer.close()

    server = await asyncio.start_server(app, "127.0.0.1", 0, limit=1 << 20)
    async with server, side_b(Address(*server.sockets[0].getsockname())) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            while sent.size < LARGE:
                streams[1].write(BLOCK)
                sent.add(BLOCK)
                await streams[1].drain()
            streams[1].write_eof()
            assert await arrived == sent
        line = await b.lines.next()
        assert (line["outcome"], line["bytes_in"]) == ("OK", sent.size)


async def speaks_after_the_client_s_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"got %d, " % (await take_all(reader)).size)
    for _ in range(8):
        writer.write(BLOCK)
        await writer.drain()
    writer.close()


async def ends_first_and_listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"that is all from me")
    writer.write_eof()
    heard.append(await take_all(reader))
    writer.close()


heard: list[Sum] = []
App = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def through(app: App, talk: Callable[[Streams], Awaitable[None]]) -> tuple[str, str]:
    """One connection to this app through both sidecars; how each of them saw it end."""
    server = await asyncio.start_server(app, "127.0.0.1", 0)
    async with server, side_b(Address(*server.sockets[0].getsockname())) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            await talk(streams)
        return await a.lines.outcome(), await b.lines.outcome()


async def test_after_the_client_s_half_close_the_app_goes_on() -> None:
    async def talk(streams: Streams) -> None:
        streams[1].write(b"question")
        streams[1].write_eof()
        assert await rest(streams) == b"got 8, " + 8 * BLOCK

    assert await through(speaks_after_the_client_s_end, talk) == ("OK", "OK")


async def test_after_the_app_s_half_close_the_client_goes_on() -> None:
    sent = Sum()

    async def talk(streams: Streams) -> None:
        assert await rest(streams) == b"that is all from me"
        for _ in range(8):
            streams[1].write(BLOCK)
            sent.add(BLOCK)
            await streams[1].drain()
        streams[1].write_eof()

    assert await through(ends_first_and_listens, talk) == ("OK", "OK")
    await until(lambda: bool(heard))
    assert heard.pop() == sent


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_client_that_resets_is_no_clean_end_for_the_app() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            streams[1].write(b"half of a")
            reset(streams[1])
        assert await app.ended.get() == "reset"
        assert (await a.lines.outcome(), await b.lines.outcome()) == ("RESET", "RESET")


async def test_an_app_that_dies_in_the_middle_of_a_stream_is_no_clean_end_for_the_client() -> None:
    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            writer.write(BLOCK)
        await writer.drain()
        reset(writer)

    async def talk(streams: Streams) -> None:
        with pytest.raises(ConnectionResetError):
            await rest(streams)

    assert await through(dies, talk) == ("RESET", "RESET")


async def test_bytes_keep_flowing_while_identities_rotate_and_policies_change() -> None:
    as_a, as_b = RotatingSource(LocalIssuer(OURS, A)), RotatingSource(LocalIssuer(OURS, B))
    async with (
        as_a,
        as_b,
        an_app() as app,
        side_b(app.address, source=as_b) as b,
        side_a(b.inbound, as_a) as a,
    ):

        async def one(number: int) -> None:
            async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
                sending = group.create_task(send(streams[1], number))
                assert await take_all(streams[0]) == await sending

        async def send(writer: asyncio.StreamWriter, number: int) -> Sum:
            sent, data = Sum(), BLOCK[number * 1000 :][:200_000]
            for _ in range(20):
                writer.write(data)
                sent.add(data)
                await writer.drain()
            writer.write_eof()
            return sent

        async def disturb() -> None:
            for turn in range(12):
                await (as_a if turn % 2 else as_b).rotate()
                b.sidecar.set_allow(0, [A, OTHER] if turn % 3 else [A])

        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(one(number))
            group.create_task(disturb())
            await asyncio.sleep(0)
            for number in range(8):
                group.create_task(one(number))
        assert [await b.lines.outcome() for _ in range(16)] == ["OK"] * 16
