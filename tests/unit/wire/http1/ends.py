"""A client and an app around an ``Http1Filter``. The app is h11's server, which reads what it gets on its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import h11

from meshtls.wire.http import Answer, Forward, HttpLimits, HttpRequest, Refuse, Ruling
from meshtls.wire.http1.filter import Http1Filter

__all__ = ["App", "Around", "Seen", "bytewise", "deny_below", "get"]


def get(path: str = "/", *lines: str, host: str = "app") -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", "")).encode("latin-1")


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def deny_below(prefix: str) -> Callable[[HttpRequest], Ruling]:
    """Refuse requests for paths with this prefix."""

    def rule(request: HttpRequest) -> Ruling:
        return Refuse(403, "denied\n") if request.path.startswith(prefix) else Forward(request)

    return rule


@dataclass(frozen=True)
class Seen:
    """A whole request as the app read it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def host(self) -> str:
        return dict(self.headers)["host"]


def _text(pairs: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)


class App:
    """Answers each request with its method, target and the length of its body, and opens a tunnel for CONNECT.

    Raises what h11 does not accept.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.closed = False
        self._connection = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = b""

    def feed(self, data: bytes) -> bytes:
        self._connection.receive_data(data)
        answers = b""
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                answers += self._answer(event)
                if self._connection.our_state is not h11.DONE:
                    self.closed = True
                    return answers
                self._connection.start_next_cycle()
            else:
                return answers

    def _answer(self, end: h11.EndOfMessage) -> bytes:
        request = self._request
        assert request is not None
        method, target = request.method.decode(), request.target.decode()
        self.seen.append(Seen(method, target, _text(request.headers), self._body, _text(end.headers)))
        text = f"{method} {target} {len(self._body)}\n".encode()
        if method == "CONNECT":
            # What follows belongs to the tunnel and is no HTTP.
            return self._connection.send(h11.Response(status_code=200, headers=[], reason=b"OK")) or b""
        sent = b""
        for event in (
            h11.Response(status_code=200, headers=[("content-length", str(len(text)))], reason=b"OK"),
            h11.Data(data=b"" if method == "HEAD" else text),
            h11.EndOfMessage(),
        ):
            sent += self._connection.send(event) or b""
        return sent


@dataclass
class Around:
    """The filter, what was judged, and what came out of it on both sides. Without ``app`` the test answers itself.

    ``rule`` is called within the judge; None leaves the rulings to the test, which calls ``answers``.
    """

    rule: Callable[[HttpRequest], Ruling] | None = Forward
    app: App | None = None
    limits: HttpLimits = field(default_factory=HttpLimits)
    judged: list[HttpRequest] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    to_app: bytes = b""
    to_client: bytes = b""
    changes: int = 0

    def __post_init__(self) -> None:
        self.filter = Http1Filter(self._judge, self._changed, self.limits)

    def _judge(self, request: HttpRequest, answer: Answer) -> None:
        self.judged.append(request)
        if self.rule is None:
            self.answers.append(answer)
        else:
            answer(self.rule(request))

    def _changed(self) -> None:
        self.changes += 1
        self.take()

    def client(self, *pieces: bytes) -> Around:
        for piece in pieces:
            self.filter.from_client(piece)
            self.take()
        return self

    def answer(self, *pieces: bytes) -> Around:
        """The app sends these."""
        for piece in pieces:
            self.filter.from_app(piece)
            self.take()
        return self

    def client_ends(self) -> Around:
        self.filter.client_ended()
        self.take()
        return self

    def app_ends(self) -> Around:
        self.filter.app_ended()
        self.take()
        return self

    def take(self) -> None:
        while True:
            data = self.filter.for_app()
            assert not data or self.filter.wants_app
            self.to_app += data
            self.to_client += self.filter.for_client()
            if not data or self.app is None or self.app.closed:
                return
            if answers := self.app.feed(data):
                self.filter.from_app(answers)

    @property
    def statuses(self) -> list[int]:
        """Of the answers that the client got. No body of the tests has a status line."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", self.to_client)]

    @property
    def finished(self) -> tuple[bool, bool]:
        """Whether the sides of the app and of the client are."""
        return self.filter.app_finished, self.filter.client_finished
