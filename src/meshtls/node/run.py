"""The loop between standard input and standard output."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from meshtls.clock import Clock, SystemClock
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.node.decode import Request, decode
from meshtls.node.dispatch import answer, failure_reply
from meshtls.node.handshake import Handshakes
from meshtls.node.handshake_reply import handshake_reply
from meshtls.node.lines import LineCutter, Oversized
from meshtls.node.mesh import Attempt, Mesh
from meshtls.node.messages import Message, Reply, encode
from meshtls.node.stdio import chunks, write_all
from meshtls.node.verdict import Verdict
from meshtls.scalars import shown
from meshtls.spiffeid import TrustDomain

__all__ = ["run_node"]

log = logger("meshtls.node")
#: Stands for a line that could not even be looked at.
_UNREAD = Request({})
#: Messages without a written reply; at this many the node stops reading.
_MOST_OPEN = 4096
#: Seconds of reading before the handshakes under way and the replies get their turn.
_READING = 0.02
#: Each unknown field is named once, and at most so many are.
_MOST_UNKNOWN = 1000


async def run_node(
    stdin: int, stdout: int, trust_domain: TrustDomain, *, envelope: bool = False, clock: Clock | None = None
) -> None:
    """Answer each line of ``stdin`` (a file descriptor) on ``stdout`` until the end of it, then finish what is open.

    ``envelope`` puts a reply in an envelope where its message had one. Raises MeshtlsError, in an ExceptionGroup, where
    nobody reads the replies any more.
    """
    clock = clock or SystemClock()
    node = _Node(Mesh(trust_domain, clock), envelope)
    await node.run(stdin, stdout, clock)


class _Node:
    def __init__(self, mesh: Mesh, envelope: bool) -> None:
        self._mesh = mesh
        self._envelope = envelope
        self._replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_MOST_OPEN)
        self._unknown: set[str] = set()

    async def run(self, stdin: int, stdout: int, clock: Clock) -> None:
        async with asyncio.TaskGroup() as writing:
            writing.create_task(self._write(stdout))
            async with Handshakes(clock) as handshakes, asyncio.TaskGroup() as open_:
                await self._read(stdin, handshakes, open_)
            self._replies.put_nowait(None)

    async def _read(self, stdin: int, handshakes: Handshakes, open_: asyncio.TaskGroup) -> None:
        cutter = LineCutter()
        async for data in chunks(stdin):
            await self._take(cutter.feed(data), handshakes, open_)
        await self._take(cutter.finish(), handshakes, open_)

    async def _take(self, lines: Iterable[bytes | Oversized], handshakes: Handshakes, open_: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        pause_at = loop.time() + _READING
        for line in lines:
            if isinstance(line, bytes) and not line.strip():
                continue  # a blank line holds no message
            await self._room.acquire()
            with self._answering(_UNREAD):
                request = decode(line)
                self._warn_of(request.unknown)
                with self._answering(request):
                    self._handle(request, handshakes, open_)
            # Not after each line: one turn of a loop with many handshakes takes long, and the reply to a message that
            # needs none would wait for a turn for every line before it.
            if loop.time() >= pause_at:
                await asyncio.sleep(0)
                pause_at = loop.time() + _READING

    def _warn_of(self, unknown: Iterable[str]) -> None:
        for field in unknown:
            if field not in self._unknown and len(self._unknown) < _MOST_UNKNOWN:
                self._unknown.add(field)
                log.warning("ignoring the unknown field %s", shown(field))

    def _handle(self, request: Request, handshakes: Handshakes, open_: asyncio.TaskGroup) -> None:
        message = request.content
        if not isinstance(message, Message):
            self._reply(request, message)
            return
        answered = answer(message, self._mesh)
        if isinstance(answered, Attempt):
            verdict = handshakes.submit(answered)
            open_.create_task(self._reply_later(request, message.msg_id, answered, verdict))
        else:
            self._reply(request, answered)

    async def _reply_later(
        self, request: Request, msg_id: int, attempt: Attempt, verdict: asyncio.Future[Verdict]
    ) -> None:
        with self._answering(request):
            self._reply(request, handshake_reply(msg_id, attempt, await verdict))

    @contextlib.contextmanager
    def _answering(self, request: Request) -> Iterator[None]:
        try:
            yield
        except Exception:
            # The one place where whatever it is will do: a fault of ours in one message must not take the replies to
            # all the others with it, nor the node. Each message comes through here until its reply is in the queue.
            log.exception("a message could not be answered")
            self._reply(request, failure_reply(request.content))

    def _reply(self, request: Request, reply: Reply) -> None:
        self._replies.put_nowait(encode(request.wrap(reply) if self._envelope else reply))

    async def _write(self, stdout: int) -> None:
        while (reply := await self._replies.get()) is not None:
            try:
                await write_all(stdout, reply)
            except OSError as error:
                raise MeshtlsError(f"standard output: wanted someone to read the replies: {error.strerror}") from error
            self._room.release()
