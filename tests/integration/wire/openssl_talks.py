"""OpenSSL's own programs talk to each other, and each writes down all messages that it sends and receives.

They do what Python's ``ssl`` can't: early data, key updates, renegotiations.
"""

from __future__ import annotations

import asyncio
import re
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from meshtls.wire.side import Side
from tests.integration.wire.tls_pairs import View, events_shown
from tests.support.waiting import SECONDS, until

__all__ = ["Server", "Talk", "serving"]

CLIENT, SERVER = Side
_KINDS = {"ChangeCipherSpec": 20, "Alert": 21, "Handshake": 22, "RecordHeader": 256, "InnerContent": 257}
_PORT = re.compile(rb"ACCEPT 127\.0\.0\.1:([0-9]+)")


def _shown(text: str) -> Iterator[tuple[str, int, bytes]]:
    """The arrow, kind and bytes of each message that OpenSSL has written down whole."""
    for part in text.replace("\n<<<", "\n\f<<<").replace("\n>>>", "\n\f>>>").split("\f"):
        head, _, dump = part.partition("\n")
        kind, _, rest = head.partition(", ")[2].partition(" [length ")
        if kind in _KINDS and dump.endswith("\n"):
            data = bytes.fromhex(dump)
            if len(data) == int(rest[:4], 16):
                yield head[:3], _KINDS[kind], data


class Talk:
    """One connection of the two programs."""

    def __init__(self, messages: dict[Side, Path], before: int, processes: dict[Side, Process]) -> None:
        self._messages, self._processes = messages, processes
        #: How much the server wrote of earlier connections.
        self._skip = {CLIENT: 0, SERVER: before}

    def view(self, side: Side) -> View:
        """What this side has sent and received until now, in its order."""
        view = View()
        path = self._messages[side]
        text = path.read_text()[self._skip[side] :] if path.exists() else ""
        for arrow, kind, data in _shown(text):
            sender = side if arrow == ">>>" else side.other
            view.see(sender, *events_shown(view.read, sender, kind, data, sent=sender is side))
        return view

    def type(self, side: Side, command: str) -> None:
        """Type a command of one letter into a program."""
        stdin = self._processes[side].stdin
        assert stdin is not None
        stdin.write(f"{command}\n".encode())

    async def until(self, state: str, steps: int = 0) -> None:
        """Wait until both sides see the connection in this state, after so many steps or more."""
        await until(lambda: all(self._is(side, state, steps) for side in Side))

    def _is(self, side: Side, state: str, steps: int) -> bool:
        view = self.view(side)
        assert view.illegal is None, f"{side.value}: {view.illegal}"
        return view.state.name == state and view.steps >= steps


class Server:
    """A running ``openssl s_server``."""

    def __init__(self, directory: Path, common: tuple[str, ...], port: int, process: Process) -> None:
        self._directory, self._common, self._port, self._process = directory, common, port, process

    @asynccontextmanager
    async def connected(self, *options: str) -> AsyncIterator[Talk]:
        """With ``openssl s_client`` and these options, which is told to quit at the end."""
        messages = {side: self._directory / f"{side.value}.messages" for side in Side}
        messages[CLIENT].unlink(missing_ok=True)
        before = len(messages[SERVER].read_text()) if messages[SERVER].exists() else 0
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{self._port}", "-msgfile", str(messages[CLIENT])),
            *self._common,
            *options,
            stdin=PIPE,
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        try:
            talk = Talk(messages, before, {CLIENT: process, SERVER: self._process})
            yield talk
            if process.returncode is None:
                talk.type(CLIENT, "Q")
            async with asyncio.timeout(SECONDS):
                await process.wait()
            # What the server still writes of this connection must not look like the next one's.
            await until(lambda: talk.view(SERVER).state.name in ("CLOSED", "FAILED_BY_CLIENT", "FAILED_BY_SERVER"))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def serving(directory: Path, certificates: Path, *options: str, connections: int = 1) -> AsyncIterator[Server]:
    """An ``openssl s_server`` with these options, for so many connections."""
    common = ("-msg", "-cert", f"{certificates}/leaf.pem", "-key", f"{certificates}/leaf.pem")
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", str(connections)),
        *("-msgfile", f"{directory}/server.messages"),
        *common,
        *options,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
    )
    reading: asyncio.Task[bytes] | None = None
    try:
        assert process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while not (found := _PORT.search(await process.stdout.readline())):
                assert not process.stdout.at_eof()
        reading = asyncio.create_task(process.stdout.read())
        yield Server(directory, common, int(found[1]), process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if reading is not None:
            await reading
