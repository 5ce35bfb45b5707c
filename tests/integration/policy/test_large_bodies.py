"""Bodies of 100 MB through a pair of sidecars that judges requests: whole, and with little of them in memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import Limits, Protocol
from tests.integration.policy.web_app import POLICY
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import side_a

MB = 1_000_000
SIZE = 100 * MB
#: The two sidecars and the app are this process. A body kept anywhere would be 100 MB.
MOST_GROWTH_KIB = 44_000
#: A stream of a tunnel may keep a window for an app that is slower than the caller.
LIMITS = Limits(tunnel_window=6 << 20, handshake_timeout=60, connect_timeout=60)
CHUNK = bytes(range(256)) * 256
_SLOW = 1 << 13
TUNNEL = pytest.mark.parametrize("tunnel", [False, True], ids=["mTLS", "tunnel"])


def status_kib(key: str) -> int:
    """A figure of this process in KiB, as Linux has it in /proc."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """The peak of this process's memory is not much above where it began."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_kib("VmRSS")
    yield
    assert status_kib("VmHWM") - before < MOST_GROWTH_KIB


@contextlib.asynccontextmanager
async def digesting_app(*, slow: bool = False) -> AsyncIterator[tuple[Address, list[str]]]:
    """Answers a GET with SIZE bytes, and any other request with nothing; digests what is sent to it, in HTTP/1.1.

    A ``slow`` app is slower than curl, on any machine.
    """
    digests: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"get "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE)
            for begin in range(0, SIZE, len(CHUNK)):
                writer.write(CHUNK[: SIZE - begin])
                await writer.drain()
        else:
            digest = hashlib.sha256()
            async for data in _body(reader, head):
                digest.update(data)
            digests.append(digest.hexdigest())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    listening = socket.create_server(("127.0.0.1", 0))
    if slow:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW)
    async with await asyncio.start_server(serve, sock=listening, limit=_SLOW if slow else 1 << 16):
        yield Address(*listening.getsockname()[:2]), digests


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    if b"transfer-encoding: chunked" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        return
    left = int(head.partition(b"content-length:")[2].split()[0])
    while left:
        data = await reader.read(min(left, 1 << 16))
        left -= len(data)
        yield data


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path, digest = tmp_path_factory.mktemp("large") / "body", hashlib.sha256()
    with path.open("wb") as file:
        for begin in range(0, SIZE, len(CHUNK)):
            part = CHUNK[: SIZE - begin]
            file.write(part)
            digest.update(part)
    return path, digest.hexdigest()


@pytest.mark.timeout(300)
@TUNNEL
@pytest.mark.parametrize("slow", [False, True], ids=["", "slow app"])
@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_curl_sends_100_mb_in_bounded_memory_and_nothing_of_it_where_denied(
    tunnel: bool, framing: str, slow: bool, large_file: tuple[Path, str]
) -> None:
    path, digest = large_file
    chunked = ("-H", "Transfer-Encoding: chunked") if framing == "chunked" else ()
    async with (
        digesting_app(slow=slow) as (app, digests),
        governed(app, POLICY, protocol=Protocol.HTTP, tunnel=tunnel, limits=LIMITS) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        with bounded_memory():
            for target, status in (("/ok", b"200"), ("/admin", b"403")):
                curl = await asyncio.create_subprocess_exec(
                    *("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", str(path), "-X", "POST"),
                    *(*chunked, f"http://{a.outbound}{target}"),
                    stdout=asyncio.subprocess.PIPE,
                )
                told, _ = await curl.communicate()
                assert told == status
    assert digests == [digest]


@pytest.mark.timeout(300)
@TUNNEL
async def test_curl_receives_100_mb_in_bounded_memory(
    tunnel: bool, large_file: tuple[Path, str], tmp_path: Path
) -> None:
    got = tmp_path / "got"
    async with (
        digesting_app() as (app, _),
        governed(app, POLICY, protocol=Protocol.HTTP, tunnel=tunnel, limits=LIMITS) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        with bounded_memory():
            curl = await asyncio.create_subprocess_exec("curl", "-sS", "-o", str(got), f"http://{a.outbound}/ok")
            assert await curl.wait() == 0
    with got.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == large_file[1]
