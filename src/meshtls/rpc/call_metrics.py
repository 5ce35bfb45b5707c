"""Counts the calls of gRPC methods, by method and status, with the latency of those that have one response.

A method is one that a listener serves: what a caller asks for beside them reaches no method, and is in no label.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.server import Stream

from meshtls.observe.metrics import Family, Metrics

if TYPE_CHECKING:
    from grpclib._typing import IServerMethodFunc

__all__ = ["CODES", "CallMetrics"]

#: The values of a label with the status of a call.
CODES = tuple(one.name for one in Status)


class CallMetrics:
    """Counts and times the calls of gRPC methods. ``rpcs`` is a counter with the labels method and code, ``duration`` a
    histogram in seconds with the label method.

    ``open`` has the number of calls of each method that have not ended.
    """

    def __init__(self, metrics: Metrics, rpcs: Family, duration: Family) -> None:
        self.open: Counter[str] = Counter()
        self._rpcs = metrics.counter(rpcs)
        self._duration = metrics.histogram(duration)

    def refused(self, method: str, status: Status) -> None:
        """Count a call that was refused before its method ran."""
        self._rpcs.labels(method, status.name).inc()

    def counted(self, method: str, call: IServerMethodFunc, *, stream_of_responses: bool) -> IServerMethodFunc:
        """Wrap ``call``, the method with this path, so that it is counted. The duration of a stream of responses is not
        observed.
        """

        async def counted(stream: Stream[Any, Any]) -> None:
            with self._one_call(method, stream, timed=not stream_of_responses):
                await call(stream)

        return counted

    @contextmanager
    def _one_call(self, method: str, stream: Stream[Any, Any], *, timed: bool) -> Iterator[None]:
        began, status = time.perf_counter(), Status.UNKNOWN
        self.open[method] += 1
        try:
            yield
            status = Status.OK
        except GRPCError as error:
            status = error.status
            raise
        except (asyncio.CancelledError, StreamTerminatedError):
            # grpclib cancels a method whose deadline is over, as it does one whose caller has left.
            over = stream.deadline is not None and stream.deadline.time_remaining() <= 0
            status = Status.DEADLINE_EXCEEDED if over else Status.CANCELLED
            raise
        finally:
            self.open[method] -= 1
            self._rpcs.labels(method, status.name).inc()
            if timed:
                self._duration.labels(method).observe(time.perf_counter() - began)
