"""load.c's modes in Python, for machines without a compiler: the same arguments and output, a tenth of the speed."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import sys
from collections.abc import Sequence
from time import perf_counter

_CHUNK = 256 * 1024
_HELLO = 16
_BATCH = 64
_LIMIT_S = 120
_BACKLOG = 4096

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        if await reader.readexactly(1) == b"E":
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
        else:
            await _swallow(reader, writer, int.from_bytes(await reader.readexactly(8), "big"))
    except (OSError, EOFError):
        pass
    finally:
        writer.close()


async def _swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    writer.write(b"R")
    left = size
    while data := await reader.read(_CHUNK):
        left -= len(data)
        if size and left <= 0:
            writer.write(b"K")
            break
    await reader.read()


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_served, "127.0.0.1", port, backlog=_BACKLOG)
    async with server:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)


async def _dial(port: int, hello: bytes, answer: int) -> Connection:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(hello)
    await reader.readexactly(answer)
    return reader, writer


async def _open_all(port: int, count: int, hello: bytes, answer: int) -> list[Connection]:
    connections: list[Connection] = []
    while len(connections) < count:
        batch = min(_BATCH, count - len(connections))
        connections += await asyncio.gather(*(_dial(port, hello, answer) for _ in range(batch)))
    return connections


async def _go() -> float:
    print("ready", flush=True)
    if not await asyncio.to_thread(sys.stdin.readline):
        raise SystemExit
    return perf_counter()


async def _report(began: float, units: int, size: int, latencies: Sequence[float] = ()) -> None:
    result = {"units": units, "bytes": size, "seconds": perf_counter() - began}
    if latencies:
        ordered = sorted(latencies)
        result["p50_ms"] = ordered[len(ordered) // 2] * 1000
        result["p99_ms"] = ordered[len(ordered) * 99 // 100] * 1000
    print(json.dumps(result), flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def _bulk(port: int, count: int, each: int) -> None:
    connections = await _open_all(port, count, b"S" + each.to_bytes(8, "big"), 1)
    began = await _go()
    await asyncio.gather(*(_pour(reader, writer, each) for reader, writer in connections))
    await _report(began, count, count * each)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, each: int) -> None:
    chunk = bytes(_CHUNK)
    left = each
    while left or not each:
        writer.write(chunk[:left] if each else chunk)
        left -= min(left, _CHUNK)
        await writer.drain()
    await reader.readexactly(1)


async def _pingpong(port: int, count: int, messages: int, size: int, seconds: float) -> None:
    connections = await _open_all(port, count, b"E" + bytes(_HELLO), _HELLO)
    latencies: list[float] = []
    tickets = itertools.count()
    began = await _go()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while next(tickets) < messages and perf_counter() < began + seconds:
            asked = perf_counter()
            writer.write(bytes(size))
            await reader.readexactly(size)
            latencies.append(perf_counter() - asked)

    await asyncio.gather(*(talk(*connection) for connection in connections))
    await _report(began, len(latencies), 2 * size * len(latencies), latencies)


async def _connect(port: int, concurrency: int, total: int) -> None:
    latencies: list[float] = []
    tickets = itertools.count()
    began = await _go()

    async def knock() -> None:
        while next(tickets) < total:
            asked = perf_counter()
            _, writer = await _dial(port, b"E" + bytes(_HELLO), _HELLO)
            latencies.append(perf_counter() - asked)
            writer.close()

    await asyncio.gather(*(knock() for _ in range(concurrency)))
    await _report(began, len(latencies), 2 * _HELLO * len(latencies), latencies)


async def _idle(port: int, count: int) -> None:
    connections = await _open_all(port, count, b"E" + bytes(_HELLO), _HELLO)
    await _report(await _go(), len(connections), 0)


def main(arguments: Sequence[str]) -> None:
    """Arguments: MODE PORT NUMBER..., as for load.c."""
    mode, port, *numbers = arguments
    first, second, third = (int(float(number)) for number in [*numbers, "0", "0", "0"][:3])
    if mode != "serve":
        signal.alarm(_LIMIT_S)
    match mode:
        case "serve":
            asyncio.run(_serve(int(port)))
        case "bulk":
            asyncio.run(_bulk(int(port), first, second))
        case "pingpong":
            asyncio.run(_pingpong(int(port), first, second, third, float(numbers[3])))
        case "connect":
            asyncio.run(_connect(int(port), first, second))
        case "idle":
            asyncio.run(_idle(int(port), first))
        case _:
            raise SystemExit(f"wanted serve, bulk, pingpong, connect or idle, got {mode}")


if __name__ == "__main__":
    main(sys.argv[1:])
