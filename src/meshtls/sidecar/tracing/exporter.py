"""Sends spans to a collector by OTLP over HTTP, in a task of its own: what makes spans never waits for it.

Spans wait in a bounded queue; what finds it full is dropped and counted. A batch that the collector could not take (no
answer, or 429, 502, 503 or 504) is sent again, and one that it refused is dropped. An outage is one line of the log.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable

from meshtls.admin.plain import HIDDEN
from meshtls.clock import Clock
from meshtls.errors import ConfigError, MeshtlsError
from meshtls.http_client import HttpClient, HttpClientError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.printable import printable
from meshtls.sidecar.tracing.headers import read_headers
from meshtls.sidecar.tracing.keys import TracingKeys
from meshtls.sidecar.tracing.spans import Span

__all__ = ["Drop", "SpanExporter"]

log = logger("meshtls.tracing")

Headers = tuple[tuple[str, str], ...]
Encode = Callable[[Iterable[Span]], bytes]
#: How many spans of an answered batch the collector rejected, and its words. Raises ValueError.
Rejected = Callable[[bytes], tuple[int, str]]

#: Spans of one post: encoding that many takes about 2 ms of the loop.
_BATCH = 64
#: Seconds: between posts, unless a batch is full before; for one post; and for the last ones at the end.
_INTERVAL, _TIMEOUT, _LAST = 1.0, 10.0, 2.0
_LONGEST_PAUSE = 30.0
_TRY_AGAIN = (429, 502, 503, 504)
_OK = range(200, 300)
#: Bytes of an answer, and characters of its text that are logged.
_LARGEST, _SHOWN = 1 << 16, 200
_SHORTEST_TOKEN = 4


class Drop:
    """Why spans were not delivered: values of a metric's label."""

    QUEUE_FULL = "queue_full"
    REJECTED = "rejected"
    STOPPED = "stopped"
    ALL = (QUEUE_FULL, REJECTED, STOPPED)


class _RejectedError(MeshtlsError):
    """The collector does not want this batch, and would not want it again."""


class SpanExporter:
    """``put`` takes a span. ``run`` sends until it is cancelled, and then ``finish`` sends what is left.

    ``sent`` and ``dropped`` count spans. Raises ConfigError for files that can't be used.
    """

    def __init__(self, keys: TracingKeys, encode: Encode, rejected: Rejected, clock: Clock) -> None:
        self.sent = 0
        self.dropped = dict.fromkeys(Drop.ALL, 0)
        self._keys = keys
        self._encode, self._rejected = encode, rejected
        self._clock = clock
        self._queue: deque[Span] = deque()
        self._batch: list[Span] = []
        self._full = asyncio.Event()
        self._outage = Outage(log, clock)
        self._client = HttpClient(keys.otlp.address, tls=_tls(keys), largest=_LARGEST)
        self._headers()

    def put(self, span: Span) -> None:
        """Send it later, or drop it."""
        if len(self._queue) >= self._keys.queue:
            self.dropped[Drop.QUEUE_FULL] += 1
            return
        self._queue.append(span)
        if len(self._queue) >= _BATCH:
            self._full.set()

    async def run(self) -> None:
        """Send again and again."""
        pause = _INTERVAL
        while True:
            await self._wait(pause)
            pause = _INTERVAL
            while (self._batch or self._queue) and pause == _INTERVAL:
                if not await self._send(_TIMEOUT):
                    pause = min(_LONGEST_PAUSE, _INTERVAL * 2 ** min(self._outage.failures, 5))

    async def finish(self) -> None:
        """Send what is left, for a short time, and count the rest as dropped."""
        async with self._client:
            try:
                async with asyncio.timeout(_LAST):
                    while (self._batch or self._queue) and await self._send(_LAST):
                        pass
            except TimeoutError:
                log.debug("%s did not take the last spans within %g s", self._keys.otlp, _LAST)
        left = len(self._batch) + len(self._queue)
        self._batch.clear()
        self._queue.clear()
        if left:
            self.dropped[Drop.STOPPED] += left
            log.warning("%s: %d spans were not sent before the sidecar stopped", self._keys.otlp, left)

    async def _wait(self, seconds: float) -> None:
        """Until a batch is full, or so many seconds are over. In an outage it is the seconds alone."""
        self._full.clear()
        if seconds > _INTERVAL:
            await self._clock.sleep(seconds)
            return
        if len(self._queue) < _BATCH:
            try:
                async with asyncio.timeout(seconds):
                    await self._full.wait()
            except TimeoutError:
                pass

    async def _send(self, timeout: float) -> bool:
        """Send one batch; False if it is to be sent again."""
        otlp = self._keys.otlp
        while self._queue and len(self._batch) < _BATCH:
            self._batch.append(self._queue.popleft())
        try:
            async with asyncio.timeout(timeout):
                await self._post()
        except TimeoutError:
            self._outage.failed("timeout", f"spans could not be sent to {otlp}: no answer within {timeout:g} s")
            return False
        except (HttpClientError, ConfigError) as error:
            self._outage.failed(str(error), f"spans could not be sent to {otlp}: {error}")
            return False
        except _RejectedError as error:
            self.dropped[Drop.REJECTED] += len(self._batch)
            self._batch.clear()
            self._outage.failed(str(error), f"spans for {otlp} are dropped: {error}")
            return True
        self._batch.clear()
        self._outage.ended(f"spans are sent to {otlp} again")
        return True

    async def _post(self) -> None:
        try:
            body = self._encode(self._batch)
        except (TypeError, ValueError) as error:  # such as a text that is no Unicode; the task must go on
            raise _RejectedError(f"they can't be encoded: {error}") from error
        otlp = self._keys.otlp
        headers = self._headers()
        ours = (("host", str(otlp.address)), ("content-type", "application/x-protobuf"))
        response = await self._client.request("POST", f"{otlp.path}/v1/traces", (*ours, *headers), body)
        if response.status in _TRY_AGAIN:
            raise HttpClientError(f"it answered {response.status}")
        if response.status not in _OK:
            # A collector explains itself in text. Anything else is a message in protobuf, and is left out.
            in_text = (response.header("content-type") or "").startswith("text/plain")
            said = f": {_shown(response.body.decode('latin-1'), headers)}" if in_text else ""
            raise _RejectedError(f"it answered {response.status}{said}")
        try:
            rejected, why = self._rejected(response.body)
        except ValueError as error:
            raise _RejectedError(f"it answered {response.status} with something else than OTLP: {error}") from error
        rejected = min(rejected, len(self._batch))
        self.sent += len(self._batch) - rejected
        if rejected:
            self.dropped[Drop.REJECTED] += rejected
            log.warning("%s rejected %d spans: %s", otlp, rejected, _shown(why, headers))

    def _headers(self) -> Headers:
        return () if self._keys.headers_file is None else read_headers(self._keys.headers_file)

    def __repr__(self) -> str:
        waiting, dropped = len(self._queue), sum(self.dropped.values())
        return f"<SpanExporter {self._keys.otlp} [{waiting} waiting, {self.sent} sent, {dropped} dropped]>"


def _shown(text: str, headers: Headers) -> str:
    """The begin of a collector's words, without a token that it may repeat."""
    for _, value in headers:
        for part in value.split():
            if len(part) >= _SHORTEST_TOKEN:
                text = text.replace(part, HIDDEN)
    return printable(text[:_SHOWN])


def _tls(keys: TracingKeys) -> ssl.SSLContext | None:
    if not keys.otlp.tls:
        return None
    try:
        return ssl.create_default_context(cafile=keys.ca_file)
    except OSError as error:
        raise ConfigError(
            f"tracing.ca_file: {keys.ca_file}: wanted certificates in PEM, to verify the collector: {error}"
        ) from error
