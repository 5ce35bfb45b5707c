"""A connection remembers heads. What it makes of a head that came before is what a new connection makes of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.http import Answer, Forward, HttpRequest
from meshtls.wire.http1.filter import Http1Filter

#: Heads without bodies that differ in little, and mean different things.
HEADS = [
    f"{method} {target} {version}\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")
    for method, target, host in (("GET", "/", "app"), ("GET", "/a", "app"), ("GET", "/", "other"), ("HEAD", "/", "app"))
    for version, more in (
        ("HTTP/1.1", ""),
        ("HTTP/1.1", "X: 1\r\n"),
        ("HTTP/1.1", "X: 2\r\n"),
        ("HTTP/1.1", "X: 2\r\nConnection: x\r\n"),
        ("HTTP/1.0", "Connection: keep-alive\r\n"),
    )
]
ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
]


class Connection:
    def __init__(self) -> None:
        self.judged: list[HttpRequest] = []
        self.told: list[int] = []
        self.filter = Http1Filter(self._judge, lambda: None)

    def _judge(self, request: HttpRequest, answer: Answer) -> None:
        self.judged.append(request)
        answer(Forward(request, self.told.append))

    def exchange(self, head: bytes, answer: bytes) -> tuple[object, ...]:
        """What the judge, the app and the client got."""
        self.judged.clear()
        self.told.clear()
        self.filter.from_client(head)
        sent = self.filter.for_app()
        body = answer if not head.startswith(b"HEAD") else answer[: answer.index(b"\r\n\r\n") + 4]
        self.filter.from_app(body)
        closed = self.filter.client_finished
        return tuple(self.judged), sent, self.filter.for_client(), tuple(self.told), closed


@given(st.lists(st.tuples(st.sampled_from(HEADS), st.sampled_from(ANSWERS)), max_size=40))
def test_a_connection_makes_the_same_of_a_head_as_a_new_one(exchanges: list[tuple[bytes, bytes]]) -> None:
    connection = Connection()
    for head, answer in exchanges:
        assert connection.exchange(head, answer) == Connection().exchange(head, answer)


def test_an_answer_s_head_means_to_each_method_what_it_means_to_it() -> None:
    connection = Connection()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for method, body in ((b"GET", b"ok"), (b"HEAD", b""), (b"GET", b"ok")):
        connection.filter.from_client(method + b" / HTTP/1.1\r\nHost: app\r\n\r\n")
        connection.filter.for_app()
        connection.filter.from_app(head)
        assert connection.told == [200]
        connection.told.clear()
        connection.filter.from_app(body)
        assert connection.filter.for_client() == head + body
        assert repr(connection.filter) == "<Http1Filter reads HEAD, 0 unanswered>"


def test_a_head_that_came_before_is_written_as_each_ruling_has_it() -> None:
    paths = iter(["/one", "/two", "/one"])

    def judge(request: HttpRequest, answer: Answer) -> None:
        answer(Forward(HttpRequest(request.method, request.host, next(paths), request.headers)))

    filter_ = Http1Filter(judge, lambda: None)
    for path in (b"/one", b"/two", b"/one"):
        filter_.from_client(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        assert filter_.for_app() == b"GET " + path + b" HTTP/1.1\r\nhost: app\r\n\r\n"


def test_a_connection_remembers_few_heads_and_no_long_ones() -> None:
    connection = Connection()
    for number in range(40):
        head = f"GET /{number} HTTP/1.1\r\nHost: app\r\n\r\n".encode()
        connection.exchange(head, f"HTTP/1.1 200 OK\r\nX: {number}\r\nContent-Length: 2\r\n\r\nok".encode())
        assert 1 <= len(connection.filter._client_heads) <= 8
        assert 1 <= len(connection.filter._app_heads) <= 8
    for length, more in ((900, 1), (1100, 0)):
        connection = Connection()
        connection.exchange(
            f"GET / HTTP/1.1\r\nHost: app\r\nX: {'x' * length}\r\n\r\n".encode(),
            f"HTTP/1.1 200 OK\r\nX: {'x' * length}\r\nContent-Length: 2\r\n\r\nok".encode(),
        )
        assert len(connection.filter._client_heads) == len(connection.filter._app_heads) == more
