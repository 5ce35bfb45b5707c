"""A node to talk to: as the process that people run, or in this process on a clock that the test owns."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from meshtls.clock import Clock
from meshtls.node.run import chunks, run_node, write_all
from meshtls.spiffeid import TrustDomain

__all__ = ["NODE", "Body", "LocalNode", "ask", "lines_of", "local_node", "pipe"]

Body = dict[str, Any]
NODE = (sys.executable, "-m", "meshtls", "node")


def lines_of(messages: Iterable[Body]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def pipe(
    data: bytes,
    *options: str,
    timeout: float = 150,
    node: Sequence[str] = NODE,
    environment: Mapping[str, str] | None = None,
) -> list[Body]:
    """All replies to this input, from a process that must end by itself, with status 0 and nothing on standard error.

    ``environment`` is added to the test's own.
    """
    env = {**os.environ, **(environment or {})}
    done = subprocess.run([*node, *options], input=data, capture_output=True, timeout=timeout, check=False, env=env)
    said = (done.returncode, done.stderr.decode())
    assert said == (0, ""), said  # in words: pytest rewrites no assertion of this module
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask(*messages: Body, options: tuple[str, ...] = ()) -> dict[int | None, Body]:
    """The replies by what they reply to, to messages that are piped at once."""
    replies = {reply["in_reply_to"]: reply for reply in pipe(lines_of(messages), *options)}
    assert len(replies) == len(messages)
    return replies


class LocalNode:
    """Ask it one message at a time, or several at once."""

    def __init__(self, to_node: int, replies: AsyncIterator[bytes]) -> None:
        self._to_node = to_node
        self._replies = replies
        self._rest = b""

    async def ask(self, message: Body) -> Body:
        [reply] = await self.ask_all(message)
        return reply

    async def ask_all(self, *messages: Body) -> list[Body]:
        """The replies, as they come."""
        await write_all(self._to_node, lines_of(messages))
        return [json.loads(await self._line()) for _ in messages]

    async def _line(self) -> bytes:
        while b"\n" not in self._rest:
            self._rest += await anext(self._replies)
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@asynccontextmanager
async def local_node(clock: Clock) -> AsyncIterator[LocalNode]:
    stdin, to_node = os.pipe()
    from_node, stdout = os.pipe()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_node(stdin, stdout, TrustDomain("example.com"), clock=clock))
            try:
                yield LocalNode(to_node, chunks(from_node))
            finally:
                os.close(to_node)
    finally:
        for descriptor in (stdin, from_node, stdout):
            os.close(descriptor)
