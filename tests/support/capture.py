"""Packets on loopback by tcpdump, and what tshark makes of them: both are other people's programs."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.require import require
from tests.support.waiting import SECONDS

__all__ = ["captured", "columns", "decrypted", "dissected"]


@contextlib.asynccontextmanager
async def captured(port: int, file: Path) -> AsyncIterator[None]:
    """Write the packets of this TCP port to ``file`` while the body runs.

    Without tcpdump, tshark or the right to capture, the test is skipped, or fails if MESHTLS_REQUIRE has ``tshark``.
    """
    programs = all(map(shutil.which, ("tcpdump", "tshark")))
    require("tshark", programs and _may_capture(), "no tshark and tcpdump, or no right to capture (CAP_NET_RAW)")
    # In this mode each packet takes a frame of 64 KiB: the default buffer of 2 MiB is full after 31 packets.
    options = ("-i", "lo", "--immediate-mode", "-B", "65536", "-U", "-Z", "root", "-w", str(file), f"port {port}")
    process = await asyncio.create_subprocess_exec("tcpdump", *options, stdout=DEVNULL, stderr=PIPE)
    try:
        assert process.stderr is not None
        async with asyncio.timeout(SECONDS):
            while b"listening on" not in (line := await process.stderr.readline()):
                assert line, "tcpdump has ended"
        yield
        await _written(port, file)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def _written(port: int, file: Path) -> None:
    """Wait until what was sent so far is in the file: packets are written in order, and ours is the last."""
    mark = secrets.token_bytes(16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(mark, ("127.0.0.1", port))
    async with asyncio.timeout(SECONDS):
        while mark not in await asyncio.to_thread(file.read_bytes):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.05)


async def decrypted(capture: Path, port: int, keylog: Path, wanted: str) -> str:
    """The plaintext of the first TLS session, by tshark, once ``wanted`` is in it; fails if it never is."""
    options = ("-r", str(capture), "-d", f"tcp.port=={port},tls", "-o", f"tls.keylog_file:{keylog}")
    try:
        async with asyncio.timeout(2 * SECONDS):
            while True:
                text = await _tshark(*options, "-q", "-z", "follow,tls,ascii,0")
                if wanted in text:
                    return text
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"tshark did not show {wanted!r}") from None


async def dissected(capture: Path, port: int, keylog: Path | None) -> str:
    """The layers TCP and TLS of each packet, as tshark's JSON."""
    keys = ("-o", f"tls.keylog_file:{keylog}") if keylog is not None else ()
    options = ("-r", str(capture), "-d", f"tcp.port=={port},tls", *keys)
    async with asyncio.timeout(2 * SECONDS):
        return await _tshark(*options, "-T", "json", "--no-duplicate-keys", "-J", "tcp tls")


async def columns(capture: Path, port: int, keylog: Path, shown: str, *fields: str) -> list[list[str]]:
    """These fields of each packet that the filter ``shown`` lets through, by tshark; several values have commas."""
    options = ("-r", str(capture), "-d", f"tcp.port=={port},tls", "-o", f"tls.keylog_file:{keylog}", "-Y", shown)
    async with asyncio.timeout(2 * SECONDS):
        text = await _tshark(*options, "-T", "fields", *(part for field in fields for part in ("-e", field)))
    return [line.split("\t") for line in text.split("\n") if line]


async def _tshark(*options: str) -> str:
    process = await asyncio.create_subprocess_exec("tshark", *options, stdout=PIPE, stderr=DEVNULL)
    try:
        return (await process.communicate())[0].decode("utf-8", "replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True
