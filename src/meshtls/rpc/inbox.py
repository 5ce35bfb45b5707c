"""The received bytes of one call's messages. It replaces grpclib's buffer, which is unbounded.

The window is returned only while a message is read whose length was checked. So at most the initial window and the
admitted messages of a caller are buffered here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpclib import GRPCError, Status

from meshtls.rpc.admission import Admission, CallerBudgets
from meshtls.rpc.shedding import Refusal

__all__ = ["Inbox"]

#: The flag of compression and the length (gRPC over HTTP/2, Length-Prefixed-Message).
_PREFIX = 5


class Inbox:
    """Has the interface of grpclib's stream buffer: ``add``, ``eof``, ``read``, ``unacked_size``.

    ``refused`` is called with each refusal, before the GRPCError for the caller is raised.
    """

    def __init__(
        self,
        admission: Admission,
        caller: CallerBudgets,
        acknowledge: Callable[[int], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        self._admission = admission
        self._caller = caller
        self._acknowledge = acknowledge
        self._refused = refused
        self._data = bytearray()
        self._unacknowledged = 0
        self._reserved = 0
        self._ended = self._begun = False
        self._arrived = asyncio.Event()

    def add(self, data: bytes, ack_size: int) -> None:
        self._data += data
        self._unacknowledged += ack_size
        self._arrived.set()

    def eof(self) -> None:
        self._ended = True
        self._arrived.set()

    def unacked_size(self) -> int:
        """The bytes to acknowledge when the call ends. Also releases the memory reserved for its message."""
        self._free()
        left, self._unacknowledged = self._unacknowledged, 0
        return left

    async def read(self, size: int) -> bytes:
        """The next bytes, empty at the end of the messages. grpclib reads a prefix, then the message.

        Raises GRPCError for a message that is too long, too late, cut short or compressed.
        """
        if size == _PREFIX and not self._reserved:
            return await self._prefix()
        try:
            return await self._in_time(size)
        finally:
            self._free()

    async def _prefix(self) -> bytes:
        # After its first message a caller may be silent for any length of time.
        prefix = await (self._taken(_PREFIX) if self._begun else self._in_time(_PREFIX))
        self._begun = True
        if prefix:
            if prefix[0]:
                raise GRPCError(Status.UNIMPLEMENTED, "wanted a message without compression")
            self._reserve(int.from_bytes(prefix[1:], "big"))
        return prefix

    def _reserve(self, size: int) -> None:
        limits = self._admission.limits
        if size > limits.message_bytes:
            self._refused(Refusal.MESSAGE)
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED,
                f"wanted a message of at most {limits.message_bytes} bytes, got one of {size}",
            )
        if not self._admission.reserve(self._caller, size):
            self._refused(Refusal.MESSAGES_PER_CALLER)
            raise GRPCError(Status.RESOURCE_EXHAUSTED, f"{self._caller.name} sends too many messages at once")
        self._reserved = size

    def _free(self) -> None:
        self._admission.free(self._caller, self._reserved)
        self._reserved = 0

    async def _in_time(self, size: int) -> bytes:
        seconds = self._admission.limits.request_timeout
        try:
            async with asyncio.timeout(seconds):
                return await self._taken(size)
        except TimeoutError as error:
            self._refused(Refusal.REQUEST_TIMEOUT)
            raise GRPCError(Status.DEADLINE_EXCEEDED, f"wanted a request message within {seconds:g} s") from error

    async def _taken(self, size: int) -> bytes:
        while len(self._data) < size and not self._ended:
            self._arrived.clear()
            unacknowledged, self._unacknowledged = self._unacknowledged, 0
            self._acknowledge(unacknowledged)
            await self._arrived.wait()
        if len(self._data) < size:
            if self._data or self._reserved:
                raise GRPCError(Status.INVALID_ARGUMENT, "the request message was cut short")
            return b""
        taken = bytes(self._data[:size])
        del self._data[:size]
        return taken
