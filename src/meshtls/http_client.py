"""An HTTP/1.1 client for the few services that are asked: key sets, external authorization and logs (RFC 9112).

A response has a largest size. The caller bounds the time with ``asyncio.timeout``, from the wait for a connection to
the last byte. Connections are kept and used again, unless anything comes on them without a request: the next request
must not take it for its response.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType

import httptools

from meshtls.address import Address, os_reason
from meshtls.errors import MeshtlsError

__all__ = ["HttpClient", "HttpClientError", "HttpResponse", "ResponseReading", "TooLargeError"]

_MAX_HEAD = 1 << 16
_MAX_INTERIM = 8
_CHUNK = 1 << 16
#: asyncio's error for a connection that ends in the TLS handshake has no text.
_ENDED = "it ended the connection in the TLS handshake"


class HttpClientError(MeshtlsError):
    """There was no response, or none that is valid and within the limits."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """``headers`` are in their order, with names in lower case, decoded as Latin-1."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first of this name, which is in lower case."""
        return next((value for one, value in self.headers if one == name), None)


class HttpClient:
    """A client of one HTTP/1.1 server. ``async with`` closes its connections at the end.

    - ``tls``: verifies the server's name, ``address.host``; None is plaintext.
    - ``connections``: at once; further requests wait for one.
    - ``largest``: bytes of a response's body.
    """

    def __init__(
        self, address: Address, *, tls: ssl.SSLContext | None = None, connections: int = 1, largest: int = 1 << 20
    ) -> None:
        self._address, self._tls, self._largest = address, tls, largest
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> HttpResponse:
        """Send a request. ``headers`` include Host; the length of a body is added to them.

        Raises HttpClientError. The parts of the request are the caller's, and have no line breaks.
        """
        head = "".join(f"{name}: {value}\r\n" for name, value in headers)
        if body:
            head += f"Content-Length: {len(body)}\r\n"
        data = f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
        try:
            async with self._slots:
                return await self._exchange(method, data)
        except ssl.SSLCertVerificationError as error:
            raise HttpClientError(f"{self._address}: its certificate is refused: {error.verify_message}") from error
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver takes
            said = error.strerror if isinstance(error, OSError) else None
            raise HttpClientError(f"{self._address}: {said or str(error) or _ENDED}") from error

    async def _exchange(self, method: str, data: bytes) -> HttpResponse:
        # The server may close a kept connection at any time: then nothing came, and a new one gets the request again.
        while self._idle:
            with contextlib.suppress(_ClosedBeforeResponseError):
                return await self._use(self._idle.pop(), method, data)
        try:
            return await self._use(await self._connect(), method, data)
        except _ClosedBeforeResponseError as error:
            raise HttpClientError(f"{self._address} closed the connection without an answer") from error

    async def _connect(self) -> _Connection:
        host, port = self._address.host, self._address.port
        name = host if self._tls else None
        try:
            streams = await asyncio.open_connection(host, port, ssl=self._tls, server_hostname=name)
        except OSError as error:
            if isinstance(error, ssl.SSLError) or error.errno is None:
                raise  # it was reached; asyncio's errors of a handshake have no number
            raise HttpClientError(f"{self._address} can't be reached: {os_reason(error)}") from error
        return _Connection(*streams)

    async def _use(self, connection: _Connection, method: str, data: bytes) -> HttpResponse:
        reusable = False
        try:
            await connection.wake()
            response, reusable = await connection.exchange(method, data, self._largest)
        except httptools.HttpParserError as error:
            raise HttpClientError(f"{self._address} gave an invalid answer: {error}") from error
        except TooLargeError as error:
            raise HttpClientError(f"{self._address} gave too large an answer: {error}") from error
        finally:
            if reusable:
                self._idle.append(connection)
                connection.rest(self._drop)
            else:
                connection.abort()
        return response

    def _drop(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
            connection.abort()

    def __repr__(self) -> str:
        return f"<HttpClient {self._address} [{len(self._idle)} idle]>"


class _ClosedBeforeResponseError(Exception):
    """The connection ended before a byte of the response."""


class TooLargeError(Exception):
    """The response is larger than the caller takes."""


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._resting: asyncio.Task[bytes] | None = None

    def rest(self, ended: Callable[[_Connection], None]) -> None:
        """Until ``wake``, call ``ended`` if the server closes the connection or sends anything."""

        def unexpected(read: asyncio.Task[bytes]) -> None:
            if not read.cancelled():
                read.exception()  # taken note of: how a connection ends does not matter
                ended(self)

        self._resting = asyncio.ensure_future(self._reader.read(1))
        self._resting.add_done_callback(unexpected)

    async def wake(self) -> None:
        """Raises _ClosedBeforeResponseError if the connection can't be used again."""
        resting, self._resting = self._resting, None
        if resting is None:
            return
        resting.cancel()
        await asyncio.wait([resting])
        if not resting.cancelled():
            raise _ClosedBeforeResponseError

    async def exchange(self, method: str, data: bytes, largest: int) -> tuple[HttpResponse, bool]:
        """The response, and whether the connection can be used again."""
        reading = ResponseReading(bodiless=method == "HEAD", largest=largest)
        started = False
        try:
            self._writer.write(data)
            await self._writer.drain()
            while not reading.complete:
                received = await self._reader.read(_CHUNK)
                if not received and not started:
                    raise _ClosedBeforeResponseError
                started = True
                reading.feed(received)
        except (ConnectionError, ssl.SSLError) as error:
            if started:
                raise
            raise _ClosedBeforeResponseError from error
        return HttpResponse(reading.status, tuple(reading.headers), bytes(reading.body)), reading.reusable

    async def close(self) -> None:
        with contextlib.suppress(_ClosedBeforeResponseError):
            await self.wake()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def abort(self) -> None:
        self._writer.transport.abort()


class ResponseReading:
    """One response, as httptools finds its parts; interim ones (1xx) before it are skipped."""

    def __init__(self, *, bodiless: bool, largest: int) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.complete = self.reusable = False
        self._bodiless, self._largest = bodiless, largest
        self._head_bytes = self._interim = 0
        self._has_head = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Takes what was read; nothing is the end. Raises HttpParserError or TooLargeError."""
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD + _CHUNK:
                raise TooLargeError(f"its head has more than {_MAX_HEAD} bytes")
        if data:
            self._feed(data)
        elif not self._has_head or any(name in ("content-length", "transfer-encoding") for name, _ in self.headers):
            raise httptools.HttpParserError("it ended too early")
        else:
            self.complete = True  # the end of the connection is the end of the body

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise httptools.HttpParserError("it switched protocols") from error
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, TooLargeError):
                raise error.__context__ from error
            raise

    def on_message_begin(self) -> None:
        self.reusable = self.reusable and not self.complete  # more than one response to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200
        if self._has_head and self._bodiless:
            self.complete = True

    def on_body(self, body: bytes) -> None:
        if self.complete:
            return
        if len(self.body) + len(body) > self._largest:
            raise TooLargeError(f"its body has more than {self._largest} bytes")
        self.body += body

    def on_message_complete(self) -> None:
        if self.complete:
            return
        if not self._has_head:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise TooLargeError(f"more than {_MAX_INTERIM} interim answers")
            self.headers.clear()
            return
        self.complete = True
        self.reusable = self._parser.should_keep_alive()
