"""The friendly client beside the strangers: a separate process that makes one new connection after the other, and
reports how long it waited for the first byte of the app.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.processes import started
from bench.raw_http2 import anonymous_tls, raw_http2
from bench.strangers.http2 import Ending, ending_of

__all__ = ["Friend", "FriendError", "FriendProcess", "Waits", "friend_of"]

_CALL_S, _PAUSE_S = 10.0, 0.02
_ECHOED = b"Ehello"


class FriendError(Exception):
    """A friendly client is not served although there is no stranger."""


class Friend(msgspec.Struct, frozen=True):
    """The friendly client's call: over mutual TLS with the PEM files ``chain``, ``key`` and ``roots``, or gRPC to
    ``path``. It has to be served once within ``start_s`` seconds.
    """

    port: int
    chain: str = ""
    key: str = ""
    roots: str = ""
    path: str = ""
    start_s: float = 30.0


class Waits(msgspec.Struct, frozen=True):
    """The waits of a friendly client.

    ``longest_s`` is the longest time from a call's start to its response or, if it failed, to the next response. A
    client that is to stop while it is not served continues until it is, for at most 10 s.
    """

    calls: int
    failed: int
    longest_s: float
    error: str = ""


class FriendProcess:
    """The friendly client in a separate process, so that the process of the strangers does not delay it."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[FriendAnswer]:
        """Make calls while the body runs; ``waits`` is set afterwards. Raises FriendError."""
        answer = FriendAnswer()
        self._say("go")
        yield answer
        self._say("stop")
        answer.found = msgspec.json.decode(await self.line(), type=Waits)

    async def line(self) -> str:
        """The process's next line. Raises FriendError if the process has ended."""
        stdout = self._process.stdout
        line = await asyncio.to_thread(stdout.readline) if stdout is not None else ""
        if not line:
            logged = self._log.read_text(errors="replace").splitlines()
            raise FriendError(logged[-1] if logged else "the friendly client has ended")
        return line

    def _say(self, word: str) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()


@dataclass(slots=True)
class FriendAnswer:
    """Empty until the friendly client has stopped."""

    found: Waits | None = field(default=None)

    @property
    def waits(self) -> Waits:
        if self.found is None:
            raise FriendError("the friendly client has not stopped")
        return self.found


@contextmanager
def friend_of(friend: Friend, log: Path) -> Iterator[FriendProcess]:
    """Run the friendly client; returns once it was served for the first time."""
    argv = [sys.executable, "-m", "bench.strangers.friend", msgspec.json.encode(friend).decode()]
    with started(argv, log, piped=True) as process:
        yield FriendProcess(process, log)


async def _main(friend: Friend) -> None:
    deadline = time.monotonic() + friend.start_s
    while error := await _failure(friend):
        if time.monotonic() > deadline:
            sys.exit(f"wanted an answer within {friend.start_s:g} s: {error}")
        await asyncio.sleep(_PAUSE_S)
    print("ready", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        stop = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
        print(msgspec.json.encode(await _asked(friend, stop)).decode(), flush=True)


async def _asked(friend: Friend, stop: asyncio.Future[str]) -> Waits:
    calls, failed, longest, last = 0, 0, 0.0, ""
    began: float | None = None
    while not stop.done() or calls == 0 or (began is not None and time.monotonic() - began < _CALL_S):
        began = began or time.monotonic()
        calls += 1
        if error := await _failure(friend):
            failed, last = failed + 1, error
        else:
            longest, began = max(longest, time.monotonic() - began), None
        await asyncio.sleep(_PAUSE_S)
    if began is not None:
        longest = max(longest, time.monotonic() - began)
    return Waits(calls, failed, longest, last)


async def _failure(friend: Friend) -> str:
    """Why a call got no response; empty if it did."""
    try:
        async with asyncio.timeout(_CALL_S):
            answered = await (_call(friend) if friend.path else _echo(friend))
    except (OSError, TimeoutError) as error:
        return str(error) or type(error).__name__
    return "" if answered else "the connection ended without an answer"


async def _echo(friend: Friend) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", friend.port, ssl=_mutual_tls(friend))
    try:
        writer.write(_ECHOED)
        return bool(await reader.read(1))
    finally:
        writer.transport.abort()


def _mutual_tls(friend: Friend) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the server has a SPIFFE ID
    context.load_verify_locations(friend.roots)
    context.load_cert_chain(friend.chain, friend.key)
    return context


async def _call(friend: Friend) -> bool:
    async with raw_http2(("127.0.0.1", friend.port), anonymous_tls()) as client:
        await client.send(client.call(1, friend.path, b""))
        return await ending_of(client) is Ending.ANSWERED


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Friend)))
