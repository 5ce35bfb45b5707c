"""go-spiffe, unmodified, as the other side: our small program in ``tests/interop/go``, which reports events as JSON.

async with go_peer(program, mesh.agent.address, "watch") as peer:
    assert (await peer.told())["event"] == "x509"

Without a Go that can build it the test is skipped, or fails if MESHTLS_REQUIRE includes ``go``.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.peers.go_spiffe import GoModulesError, build_go_program, go_missing
from tests.support.require import require

__all__ = ["GoPeer", "Json", "build_go_peer", "echo_line", "go_peer"]

Json = dict[str, Any]
_ANSWER_SECONDS = 60


class GoPeer:
    """A running Go program."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._told, self._asked = process.stdout, process.stdin

    async def told(self) -> Json:
        """The program's next event; fails if it has ended."""
        line = await asyncio.wait_for(self._told.readline(), _ANSWER_SECONDS)
        assert line, "the Go program has ended; why is on standard error"
        said: Json = json.loads(line)
        return said

    async def address(self) -> tuple[str, int]:
        """The address of ``listen``, which is its first event."""
        host, _, port = str((await self.told())["address"]).rpartition(":")
        return host, int(port)

    async def ask(self, *words: str) -> Json:
        """Send a line, and return the next event."""
        self._asked.write(" ".join(words).encode() + b"\n")
        return await self.told()


@asynccontextmanager
async def go_peer(program: Path, workload_api: str, *arguments: str) -> AsyncIterator[GoPeer]:
    """Run the program while the body runs, with this address of a Workload API; killed at the end."""
    environment = {"SPIFFE_ENDPOINT_SOCKET": workload_api}
    process = await asyncio.create_subprocess_exec(program, *arguments, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        yield GoPeer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def echo_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo a line, as the program's ``dial`` expects from a listener."""
    writer.write(await reader.readline())
    writer.close()


def build_go_peer(directory: Path) -> Path:
    """Build the program into this directory; its modules come from Go's cache or proxy."""
    missing = go_missing()
    require("go", missing is None, f"{missing}, for the peer of go-spiffe")
    try:
        return build_go_program(directory)
    except GoModulesError as error:
        require("go", False, str(error))
        raise
