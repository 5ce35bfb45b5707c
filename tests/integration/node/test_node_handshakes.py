"""What decides that a handshake was one, below the messages."""

import asyncio

from meshtls.clock import SystemClock
from meshtls.node.handshake import Handshakes, echo
from meshtls.node.mesh import Attempt, Mesh
from meshtls.observe.events import Outcome
from meshtls.spiffeid import TrustDomain

LOST = "the byte that was sent through both sidecars did not come back"


def attempt() -> Attempt:
    mesh = Mesh(TrustDomain("example.com"), SystemClock())
    return mesh.attempt(mesh.id_of("a", None, None), mesh.id_of("b", None, None), None)


async def another_byte(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(byte ^ 1 for byte in await reader.read()))
    writer.close()


async def the_byte_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read() * 2)
    writer.close()


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def test_success_needs_the_exact_byte_that_was_sent() -> None:
    for app, success in ((echo, True), (another_byte, False), (the_byte_twice, False), (nothing, False)):
        async with Handshakes(SystemClock(), app=app) as handshakes:
            verdict = await handshakes.submit(attempt())

        assert verdict.success is success, app
        if not success:
            assert (verdict.outcome, verdict.detail) == (Outcome.RESET, LOST)


async def test_an_unbounded_attempt_needs_a_reason() -> None:
    async with Handshakes(SystemClock(), patience=0) as handshakes:
        verdict = await handshakes.submit(attempt())

    assert (verdict.success, verdict.outcome) == (False, Outcome.CONNECT_FAILED)
    assert verdict.detail == "the sidecars gave no verdict within 0 s"
