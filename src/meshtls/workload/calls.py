"""Calls of a Workload API: the security header, deadlines, translated failures, and reconnection."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from google.protobuf.message import Message
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod

from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError
from meshtls.svid.lifetime import backoff
from meshtls.workload.address import Address, UnixAddress
from meshtls.workload.failures import CALL_FAILURES, WorkloadApiError, failure_of

__all__ = ["MOST_WITHOUT_SVID", "WITHOUT_SVID", "Calls", "OnFailure", "OnWithoutSvid", "Urgent", "any_jitter"]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
T = TypeVar("T")
OnFailure = Callable[[LocalIdentityError], None]
Urgent = Callable[[], bool]
OnWithoutSvid = Callable[[frozenset[str]], None]

#: Our agent's metadata of a stream of X509-SVIDs: the caller's SPIFFE IDs, separated by spaces, that have an entry and
#: no valid SVID at its beginning. The standard has no word for it, and other clients ignore it.
WITHOUT_SVID = "meshtls-without-svid"
#: So many are named: each is up to 2 KiB of a header.
MOST_WITHOUT_SVID = 8

_METADATA = {"workload.spiffe.io": "true"}


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls the Workload API. ``timeout`` is in seconds, for a whole unary call and for a stream's first message."""

    address: Address
    clock: Clock
    timeout: float
    jitter: Callable[[], float]

    async def ask(self, method: UnaryUnaryMethod[Q, R], request: Q) -> R:
        """One attempt. Raises WorkloadApiError."""
        try:
            return await method(request, timeout=self.timeout, metadata=_METADATA)
        except CALL_FAILURES as error:
            raise failure_of(error, method.name, self.address) from error

    async def first(
        self,
        method: UnaryStreamMethod[Q, R],
        request: Q,
        convert: Callable[[R], T],
        on_without_svid: OnWithoutSvid | None = None,
    ) -> T:
        """One attempt to get a stream's first value. Raises WorkloadApiError, and what ``convert`` raises."""
        async with aclosing(self._follow(method, request, convert, on_without_svid)) as values:
            return await anext(values)

    async def watch(
        self,
        method: UnaryStreamMethod[Q, R],
        request: Q,
        convert: Callable[[R], T],
        on_failure: OnFailure | None,
        urgent: Urgent | None = None,
        on_without_svid: OnWithoutSvid | None = None,
    ) -> AsyncGenerator[T]:
        """A stream's values, forever. A LocalIdentityError of ``convert`` counts as a failure of the stream.

        A failure is retried after a backoff that doubles, or within a second if ``urgent()`` is true or the socket was
        created again since the last attempt. ``on_without_svid`` is called before the first value of each stream. Ends
        only by raising a WorkloadApiError that is not temporary.
        """
        failures = 0
        while True:
            tried = _socket(self.address)
            try:
                async with aclosing(self._follow(method, request, convert, on_without_svid)) as values:
                    async for value in values:
                        failures = 0
                        yield value
            except LocalIdentityError as error:
                if isinstance(error, WorkloadApiError) and not error.temporary:
                    raise
                failures += 1
                if on_failure:
                    on_failure(error)
            if await self._back_off(failures, tried, urgent):
                failures = 0

    async def _back_off(self, failures: int, tried: object, urgent: Urgent | None) -> bool:
        """Wait before the next attempt. True if the socket ``tried`` was replaced, so that a new server listens."""
        jitter = self.jitter()
        until = self.clock.monotonic() + backoff(failures, jitter)
        while (left := until - self.clock.monotonic()) > 0:
            await self.clock.sleep(min(left, backoff(1, jitter)))
            if _socket(self.address) not in (tried, None):
                return True
            if urgent is not None and urgent():
                break
        return False

    async def _follow(
        self,
        method: UnaryStreamMethod[Q, R],
        request: Q,
        convert: Callable[[R], T],
        on_without_svid: OnWithoutSvid | None = None,
    ) -> AsyncGenerator[T]:
        """One stream's values, then an error, however the stream ended."""
        try:
            async with method.open(metadata=_METADATA) as stream:
                async with asyncio.timeout(self.timeout):
                    await stream.send_message(request, end=True)
                    reply = await stream.recv_message()
                if on_without_svid is not None and stream.initial_metadata is not None:
                    on_without_svid(frozenset(str(stream.initial_metadata.get(WITHOUT_SVID, "")).split()))
                while reply is not None:
                    yield convert(reply)
                    reply = await stream.recv_message()
        except CALL_FAILURES as error:
            raise failure_of(error, method.name, self.address) from error
        raise WorkloadApiError(
            f"Workload API at {self.address}, {method.name.rpartition('/')[2]}: the stream was ended", is_end=True
        )


def any_jitter() -> float:
    """A number in [-1, 1]."""
    return SystemRandom().uniform(-1, 1)


def _socket(address: Address) -> tuple[int, int, int] | None:
    """Identifies a Unix socket among those at the same path over time; None if there is no socket."""
    if not isinstance(address, UnixAddress):
        return None
    try:
        found = os.stat(address.path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns
