"""What real servers understand: of what the filter forwards, and of the same requests without it."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.integration.http1.apps import Served, served
from tests.unit.wire.http1.ends import App, Around, get
from tests.unit.wire.http1.smuggling import CASES, REFUSED, SERVERS, UNDERSTOOD

#: Seconds: a bound for the test, and how long a server may be silent before it counts as one that waits.
BOUND, SILENCE = 30.0, 0.3


async def exchange(server: Served, data: bytes, expected: tuple[str, ...]) -> tuple[str, ...]:
    """What the server understood of ``data``: its requests, and the status of an answer without a request.

    It is asked until this is ``expected``, for at most BOUND.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    port = writer.get_extra_info("sockname")[1]
    received = bytearray()
    ended = False

    async def read() -> None:
        nonlocal ended
        try:
            while more := await reader.read(1 << 16):
                received.extend(more)
        except ConnectionError:
            pass
        ended = True

    reading = asyncio.create_task(read())
    try:
        writer.write(data)
        loop = asyncio.get_running_loop()
        start = loop.time()
        while True:
            requests = server.understood[port]
            statuses = re.findall(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})", bytes(received))
            other = tuple(status.decode() for status in statuses if status != b"200")
            waits = () if requests or other or ended else ("waits",)
            found = (*requests, *other, *waits)
            if loop.time() - start > (SILENCE if waits and agrees(found, expected) else BOUND):
                return found
            if agrees(found, expected) and not waits and (other or len(statuses) >= len(requests)):
                return found
            await asyncio.sleep(0.01)
    finally:
        reading.cancel()
        writer.close()


def agrees(found: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    """A server that finds a stream broken may or may not have given its app what came before: that is a race."""
    return found == expected or (expected == REFUSED and found[-1:] == REFUSED and len(found) == 2)


@pytest.mark.parametrize("name", SERVERS)
async def test_an_app_understands_what_was_judged(name: str) -> None:
    cases = [case for case in CASES if case.forwarded]
    async with served(name) as server:
        for case in cases:
            around = Around(app=App()).client(case.raw)
            # One more request shows that nothing was left over, and that there was no other before it.
            wanted = (*case.forwarded, "GET /end a ''")
            assert await exchange(server, around.to_app + get("/end", host="a"), wanted) == wanted, case.name


@pytest.mark.parametrize("name", SERVERS)
async def test_the_table_says_what_a_server_makes_of_the_bytes_as_they_are(name: str) -> None:
    wanted = {case.name: UNDERSTOOD.get(case.name, (REFUSED,) * 3)[SERVERS.index(name)] for case in CASES}
    async with served(name) as server:
        found = await asyncio.gather(*(exchange(server, case.raw, wanted[case.name]) for case in CASES))
    differ = [(*row, got) for row, got in zip(wanted.items(), found, strict=True) if not agrees(got, row[1])]
    assert not differ
