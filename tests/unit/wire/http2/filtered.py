"""A filter between an h2 client and an h2 app in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, ResponseReceived, StreamReset, TrailersReceived

from meshtls.wire.http import Answer, Cancel, Forward, HttpLimits, HttpRequest, Refuse, Ruling
from meshtls.wire.http2.filter import Http2Filter

E = TypeVar("E", bound=Event)
Fields = list[tuple[str, str]]

GET: Fields = [(":method", "GET"), (":scheme", "https"), (":authority", "db.test"), (":path", "/a?b=c")]
POST: Fields = [(":method", "POST"), *GET[1:]]
GRPC: Fields = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/pkg.Service/Method"),
    (":authority", "db.test:8443"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "grpc-python/1.70"),
]
DENIED = Refuse(403, "denied by policy ns[a]-policy[b]\n")


class Judging:
    """A judge that records what it is asked, and answers at once with ``ruling``; later if that is None."""

    def __init__(self, ruling: Callable[[HttpRequest], Ruling | None] = Forward) -> None:
        self.ruling = ruling
        self.requests: list[HttpRequest] = []
        self.answers: list[Answer] = []

    def __call__(self, request: HttpRequest, answer: Answer) -> Cancel | None:
        self.requests.append(request)
        ruling = self.ruling(request)
        if ruling is None:
            self.answers.append(answer)
        else:
            answer(ruling)
        return None


class Between:
    """A filter, with an h2 connection at each side; ``settle`` carries bytes until nobody has any."""

    def __init__(
        self,
        judge: Judging | None = None,
        limits: HttpLimits | None = None,
        *,
        lenient: bool = False,
        settings: dict[int, int] | None = None,
        cut: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
    ) -> None:
        self.judge = judge or Judging()
        self.changes = 0
        self.filter = Http2Filter(self.judge, self._changed, limits)
        self.client = _h2(client=True, lenient=lenient)
        self.app = _h2(client=False, lenient=lenient)
        self.client.initiate_connection()
        self.app.initiate_connection()
        if settings:
            self.app.update_settings(settings)
        self.cut = cut
        self.at_client: list[Event] = []
        self.at_app: list[Event] = []
        self.app_reads = self.client_reads = True
        self.app_credits = self.client_credits = True

    def _changed(self) -> None:
        self.changes += 1

    def settle(self) -> None:
        """Carry bytes until nobody has any. An end that reads gives its sender the window again."""
        while any([self._from_client(), self._from_app(), self._to_app(), self._to_client()]):
            pass

    def _from_client(self) -> bool:
        data = self.client.data_to_send()
        for piece in self.cut(data) if data else ():
            self.filter.from_client(piece)
        return bool(data)

    def _from_app(self) -> bool:
        data = self.app.data_to_send() if self.filter.wants_app else b""
        for piece in self.cut(data) if data else ():
            self.filter.from_app(piece)
        return bool(data)

    def _to_app(self) -> bool:
        data = self.filter.for_app() if self.app_reads else b""
        self.at_app += self._read(self.app, data, self.app_credits)
        return bool(data)

    def _to_client(self) -> bool:
        data = self.filter.for_client() if self.client_reads else b""
        self.at_client += self._read(self.client, data, self.client_credits)
        return bool(data)

    def _read(self, end: H2Connection, data: bytes, credits_data: bool) -> list[Event]:
        found = end.receive_data(data) if data else []
        for one in events(found, DataReceived):
            if credits_data and one.flow_controlled_length and one.stream_id:
                end.acknowledge_received_data(one.flow_controlled_length, one.stream_id)
        return found

    def send(self, end: H2Connection, number: int, body: bytes, *, ended: bool = True) -> bytes:
        """Send what the windows admit; returns the rest."""
        while body:
            room = min(end.local_flow_control_window(number), end.max_outbound_frame_size, len(body))
            if room <= 0:
                return body
            end.send_data(number, body[:room], end_stream=ended and room == len(body))
            body = body[room:]
            self.settle()
        return b""

    def request(self, number: int = 1, fields: Fields = GET, body: bytes | None = None) -> None:
        self.client.send_headers(number, fields, end_stream=body is None)
        self.settle()
        if body is not None:
            assert not self.send(self.client, number, body)

    def respond(self, number: int = 1, status: int = 200, body: bytes = b"", trailers: Fields | None = None) -> None:
        self.app.send_headers(number, [(":status", str(status))], end_stream=not body and trailers is None)
        self.settle()
        assert not self.send(self.app, number, body, ended=trailers is None)
        if trailers is not None:
            self.app.send_headers(number, trailers, end_stream=True)
        self.settle()


def _h2(*, client: bool, lenient: bool) -> H2Connection:
    return H2Connection(
        H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=not lenient,
            normalize_outbound_headers=not lenient,
            validate_inbound_headers=True,
        )
    )


def events(found: list[Event], kind: type[E], number: int | None = None) -> list[E]:
    """Those of a kind, perhaps of one stream."""
    return [one for one in found if isinstance(one, kind) and number in (None, getattr(one, "stream_id", None))]


def heads(found: list[Event], number: int | None = None) -> list[Fields]:
    """The fields of requests or responses."""
    return [
        [(str(name), str(value)) for name, value in one.headers or ()]
        for one in found
        if isinstance(one, RequestReceived | ResponseReceived) and number in (None, one.stream_id)
    ]


def trailers(found: list[Event], number: int = 1) -> Fields:
    (one,) = events(found, TrailersReceived, number)
    return [(str(name), str(value)) for name, value in one.headers or ()]


def body(found: list[Event], number: int = 1) -> bytes:
    return b"".join(one.data or b"" for one in events(found, DataReceived, number))


def resets(found: list[Event]) -> list[tuple[int | None, int]]:
    return [(one.stream_id, int(one.error_code or 0)) for one in events(found, StreamReset)]
