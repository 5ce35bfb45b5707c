"""The loop from standard input to standard output, on file descriptors that may be shared with other processes.

The descriptors' flags stay as they are, since O_NONBLOCK would affect those processes too; no read or write blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from meshtls.clock import Clock, SystemClock
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.node.decode import LineCutter, Oversized, Request, decode
from meshtls.node.dispatch import answer, failure_reply
from meshtls.node.handshake import Handshakes
from meshtls.node.mesh import Attempt, Mesh
from meshtls.node.messages import Message, Reply, encode
from meshtls.node.verdict import Verdict, handshake_reply
from meshtls.scalars import shown
from meshtls.spiffeid import TrustDomain

__all__ = ["chunks", "run_node", "write_all"]

log = logger("meshtls.node")
_CHUNK = 1 << 16
#: Stands for a line that could not be decoded because of an internal error.
_UNREAD = Request({})
#: Messages whose reply is not written yet; at this number the node stops reading.
_MOST_PENDING = 4096
#: Seconds of reading before handshakes and replies get a turn of the event loop.
_READING = 0.02
#: Each unknown field is logged once, up to this number of fields.
_MOST_UNKNOWN = 1000


async def run_node(
    stdin: int, stdout: int, trust_domain: TrustDomain, *, envelope: bool = False, clock: Clock | None = None
) -> None:
    """Answer each line of ``stdin`` (a file descriptor) on ``stdout``, until the end of input and the last reply.

    ``envelope`` puts a reply into an envelope if its message had one.
    Raises MeshtlsError, in an ExceptionGroup, if the reader of the replies has gone.
    """
    clock = clock or SystemClock()
    node = _Node(Mesh(trust_domain, clock), envelope)
    async with asyncio.TaskGroup() as writing:
        writing.create_task(node.write(stdout))
        async with Handshakes(clock) as handshakes, asyncio.TaskGroup() as pending:
            cutter = LineCutter()
            async for data in chunks(stdin):
                await node.take(cutter.feed(data), handshakes, pending)
            await node.take(cutter.finish(), handshakes, pending)
        node.end()


class _Node:
    def __init__(self, mesh: Mesh, envelope: bool) -> None:
        self._mesh = mesh
        self._envelope = envelope
        self._replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._slots = asyncio.Semaphore(_MOST_PENDING)
        self._unknown: set[str] = set()

    async def take(
        self, lines: Iterable[bytes | Oversized], handshakes: Handshakes, pending: asyncio.TaskGroup
    ) -> None:
        """Handle each line. Replies, and failures, go to the queue that ``write`` empties."""
        loop = asyncio.get_running_loop()
        pause_at = loop.time() + _READING
        for line in lines:
            if isinstance(line, bytes) and not line.strip():
                continue  # a blank line holds no message
            await self._slots.acquire()
            with self._reply_on_failure(_UNREAD):
                request = decode(line)
                for field in request.unknown:
                    if field not in self._unknown and len(self._unknown) < _MOST_UNKNOWN:
                        self._unknown.add(field)
                        log.warning("ignoring the unknown field %s", shown(field))
                with self._reply_on_failure(request):
                    self._handle(request, handshakes, pending)
            # Not after each line: with many handshakes a turn of the loop takes long, and the reply to a message that
            # needs no handshake would be delayed by one turn for each line before it.
            if loop.time() >= pause_at:
                await asyncio.sleep(0)
                pause_at = loop.time() + _READING

    def end(self) -> None:
        """Let ``write`` return after the last reply."""
        self._replies.put_nowait(None)

    async def write(self, stdout: int) -> None:
        """Write replies until ``end``. Raises MeshtlsError if the reader has gone."""
        while (reply := await self._replies.get()) is not None:
            try:
                await write_all(stdout, reply)
            except OSError as error:
                raise MeshtlsError(f"standard output: wanted someone to read the replies: {error.strerror}") from error
            self._slots.release()

    def _handle(self, request: Request, handshakes: Handshakes, pending: asyncio.TaskGroup) -> None:
        message = request.content
        if not isinstance(message, Message):
            self._reply(request, message)
            return
        answered = answer(message, self._mesh)
        if not isinstance(answered, Attempt):
            self._reply(request, answered)
            return
        verdict = handshakes.submit(answered)
        pending.create_task(self._reply_later(request, message.msg_id, answered, verdict))

    async def _reply_later(
        self, request: Request, msg_id: int, attempt: Attempt, verdict: asyncio.Future[Verdict]
    ) -> None:
        with self._reply_on_failure(request):
            self._reply(request, handshake_reply(msg_id, attempt, await verdict))

    @contextlib.contextmanager
    def _reply_on_failure(self, request: Request) -> Iterator[None]:
        try:
            yield
        except Exception:
            # The only place that catches everything: an internal error in one message must not lose the replies to the
            # others, nor end the node. Each message is in this block until its reply is queued.
            log.exception("a message could not be answered")
            self._reply(request, failure_reply(request.content))

    def _reply(self, request: Request, reply: Reply) -> None:
        self._replies.put_nowait(encode(request.wrap(reply) if self._envelope else reply))


async def chunks(descriptor: int) -> AsyncIterator[bytes]:
    """The input as it arrives, until the end. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        await _ready(loop.add_reader, loop.remove_reader, descriptor)
        data = os.read(descriptor, _CHUNK)
        if not data:
            return
        yield data


async def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``. Raises OSError if the reader has gone."""
    loop = asyncio.get_running_loop()
    rest = memoryview(data)
    while rest:
        await _ready(loop.add_writer, loop.remove_writer, descriptor)
        # A pipe that is ready takes PIPE_BUF bytes without blocking; one byte more may block.
        rest = rest[os.write(descriptor, rest[: select.PIPE_BUF]) :]


async def _ready(add: Callable[..., object], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.Event()
    try:
        add(descriptor, ready.set)
    except PermissionError:
        return  # a regular file: always ready, and refused by epoll
    try:
        await ready.wait()
    finally:
        remove(descriptor)
