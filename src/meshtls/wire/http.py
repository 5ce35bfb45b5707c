"""An HTTP request's head, and a filter that judges requests between a client and an app. Sans-IO. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Protocol

import msgspec

__all__ = [
    "SHOWN_METHOD",
    "SHOWN_PATH",
    "Answer",
    "Cancel",
    "Forward",
    "HttpFilter",
    "HttpLimits",
    "HttpRequest",
    "Judge",
    "OnUnjudged",
    "Refuse",
    "Ruling",
    "Tunnel",
    "UnjudgedRequest",
]


#: Characters of a refused request's method, host and path that a log gets.
SHOWN_METHOD, SHOWN_HOST, SHOWN_PATH = 32, 256, 2048


class HttpLimits(msgspec.Struct, frozen=True):
    """What a client may send. Sizes are in bytes.

    - ``header_bytes``, ``header_count``: a head's size, start line included, and its fields.
    - ``uri_length``: the request's target.
    - ``extension_bytes``, ``trailer_bytes``: a chunked body's chunk extensions together, and its trailer section.
    - ``dropped_bytes``: of a refused request's body, read and dropped so that the connection stays usable.
    - ``pipelined``: requests on a connection of HTTP/1 that await their answers; the next is not read meanwhile.
    - ``streams``: open streams on a connection of HTTP/2.
    - ``underscore_names``: whether a field's name may have an underscore. CGI, WSGI and what is like them read
      ``X_User`` as ``X-User``, so that a policy and the app could disagree about it.
    - ``pass_trailers``: whether the trailers of a request go on to the app. No policy sees them, and some servers take
      them for headers (uvicorn with httptools does), so by default they are checked and dropped.
    """

    header_bytes: int = 1 << 16
    header_count: int = 100
    uri_length: int = 1 << 13
    extension_bytes: int = 1 << 12
    trailer_bytes: int = 1 << 13
    dropped_bytes: int = 1 << 16
    pipelined: int = 16
    streams: int = 100
    underscore_names: bool = False
    pass_trailers: bool = False


class HttpRequest(msgspec.Struct, frozen=True):
    """An HTTP request's head (RFC 9110, sections 6.2 and 6.3).

    ``host`` is the Host field or ``:authority``, with its port if it was sent. ``path`` includes the query. ``headers``
    are in the order of their arrival, with names in lower case, decoded as Latin-1, and without those that are only
    for this connection (RFC 9110, section 7.6.1) or that frame the body.
    """

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


class Tunnel(msgspec.Struct, eq=False):
    """What follows a CONNECT or an upgrade, which no judge reads. ``is_open``: whether bytes may still pass; the filter
    sets it where a tunnel may be over before its connection.
    """

    is_open: Callable[[], bool] = lambda: True


class Forward(msgspec.Struct, frozen=True):
    """Pass the request on to the app with this head, which may differ from the one that was judged.

    ``answered``, if it is given, is called once: with the status of the final answer, or 0 where none came. It returns
    a Tunnel if the answer begins one whose end matters. ``added`` stands after the fields of the app's final answer:
    names in lower case, and values without spaces at the ends. ``stands`` is asked where the request had to wait for
    the app: if it says no, the request is judged anew, and ``answered`` is not called.
    """

    request: HttpRequest
    answered: Callable[[int], Tunnel | None] | None = None
    added: tuple[tuple[str, str], ...] = ()
    stands: Callable[[], bool] | None = None


class Refuse(msgspec.Struct, frozen=True):
    """Answer the client in the app's place. ``text`` is the body. A gRPC request gets a gRPC status in its trailers
    instead, which ``status`` determines (403 is PERMISSION_DENIED, 401 UNAUTHENTICATED). ``reason`` is for the log, and
    the client does not get it.
    """

    status: int
    text: str
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""


class UnjudgedRequest(msgspec.Struct, frozen=True):
    """A request that a filter refused by itself: it breaks a rule, or exceeds a limit.

    ``method``, ``host`` and ``path`` are as they came, as far as they were read, and not escaped; ``of`` cuts them.
    ``status`` is that of the answer; 0 where the stream or the connection was reset instead.
    """

    method: str
    host: str
    path: str
    status: int
    reason: str

    @classmethod
    def of(cls, method: str, host: str, path: str, status: int, reason: str) -> UnjudgedRequest:
        """One whose method, host and path have at most SHOWN_METHOD, SHOWN_HOST and SHOWN_PATH characters."""
        return cls(method[:SHOWN_METHOD], host[:SHOWN_HOST], path[:SHOWN_PATH], status, reason)


Ruling = Forward | Refuse
#: Takes the ruling on one request: once, at the call of the judge or later.
Answer = Callable[[Ruling], None]
#: Stops the work on a ruling that nobody waits for any more.
Cancel = Callable[[], object]
#: Judges a request before a byte of it goes on. No byte of it reaches the app until the ruling is there. If that comes
#: later, the judge may return how to stop its work on it.
Judge = Callable[[HttpRequest, Answer], Cancel | None]
#: Called with each request that never came before the judge.
OnUnjudged = Callable[[UnjudgedRequest], None]


class HttpFilter(Protocol):
    """HTTP between one client and one app, without IO: bytes in, bytes out, for HTTP/1.1 or HTTP/2.

    The caller passes what it reads, and takes what is to be written. After each call, and after each late ruling
    (``on_change`` of the constructor), it looks at the attributes again.
    """

    #: A request was allowed: the app is wanted. Until then nothing is written to it, and it need not be dialled.
    wants_app: bool
    #: Read from the client, or from the app; False is back-pressure, or the wait for a ruling.
    reads_client: bool
    reads_app: bool
    #: Nothing more will be written to the app, or to the client: half-close it after what is taken.
    app_finished: bool
    client_finished: bool
    #: Why a request that was allowed can't be written for the app, while it is told that it was answered with 500.
    unwritable: str
    #: What is wrong with the app, where it did not answer what it got; empty as long as nothing is.
    app_fault: str

    @property
    def queued_for_app(self) -> Sized:
        """Empty if there is nothing to take for the app. An attribute, since it is asked for more often than there is
        something, and a call would cost as much as the taking.
        """

    @property
    def queued_for_client(self) -> Sized:
        """The same for the client."""

    def from_client(self, data: bytes | memoryview) -> None: ...

    def from_app(self, data: bytes | memoryview) -> None: ...

    def client_ended(self) -> None:
        """The client's clean end."""

    def app_ended(self) -> None:
        """The app's clean end."""

    def app_broke(self) -> bool:
        """The app's connection broke. True if requests are now answered in its place, and nothing more is written to
        it; False if the client's connection has to break, too.
        """

    def app_failed(self) -> None:
        """The app can't be reached: waiting requests are answered with 503."""

    def for_app(self) -> bytes:
        """Take what is to be written to the app. Call it once the app is connected: requests that had to wait for that
        are judged again if their ruling stands no more.
        """

    def for_client(self) -> bytes:
        """Take what is to be written to the client."""
