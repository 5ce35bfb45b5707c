"""What an ``Http1Filter`` gives the app and the client, message by message."""

from __future__ import annotations

import pytest

from meshtls.wire.http import Forward, HttpLimits, HttpRequest, Refuse
from meshtls.wire.http1.filter import Http1Filter
from tests.unit.wire.http1.ends import App, Around, bytewise, deny_below, get

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
DENIED = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 7\r\n\r\ndenied\n"
CUTS = pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])

#: The client's request, and what the app gets.
WRITTEN = {
    "get": (get("/a?b=1"), b"GET /a?b=1 HTTP/1.1\r\nhost: app\r\n\r\n"),
    "names in lower case and values trimmed": (
        get("/", "X-One: \t two words \t", "ACCEPT:*/*", "x-empty:"),
        b"GET / HTTP/1.1\r\nhost: app\r\nx-one: two words\r\naccept: */*\r\nx-empty: \r\n\r\n",
    ),
    "Latin-1 in a value": (get("/", "X-One: caf\xe9"), b"GET / HTTP/1.1\r\nhost: app\r\nx-one: caf\xe9\r\n\r\n"),
    "host comes first": (
        b"GET / HTTP/1.1\r\nA: 1\r\nHost: App.Example:8080\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: App.Example:8080\r\na: 1\r\n\r\n",
    ),
    "IPv6 host": (get(host="[::1]:80"), b"GET / HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"),
    "an empty line before the request": (b"\r\n" + get(), b"GET / HTTP/1.1\r\nhost: app\r\n\r\n"),
    "absolute form": (get("HTTP://APP/x?y"), b"GET /x?y HTTP/1.1\r\nhost: app\r\n\r\n"),
    "absolute form without a path": (get("http://app?y"), b"GET /?y HTTP/1.1\r\nhost: app\r\n\r\n"),
    "OPTIONS of all": (
        b"OPTIONS http://app HTTP/1.1\r\nHost: app\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: app\r\n\r\n",
    ),
    "fields of the connection": (
        get("/", "Connection: X-Gone, keep-alive", "Keep-Alive: 5", "X-Gone: 1", "TE: trailers", "X-Stays: 1"),
        b"GET / HTTP/1.1\r\nhost: app\r\nx-stays: 1\r\n\r\n",
    ),
    "the last request": (get("/", "Connection: close"), b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n"),
    "an upgrade to h2c": (
        get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        b"GET / HTTP/1.1\r\nhost: app\r\n\r\n",
    ),
    "an upgrade to WebSocket or h2c": (
        get("/", "Connection: Upgrade", "Upgrade: websocket, h2c"),
        b"GET / HTTP/1.1\r\nhost: app\r\n\r\n",
    ),
    "HTTP/1.0": (
        b"GET / HTTP/1.0\r\nHost: app\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: app\r\nconnection: close\r\n\r\n",
    ),
    "HTTP/1.0 that persists": (
        b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: app\r\nconnection: keep-alive\r\n\r\n",
    ),
    "a body with a length": (
        b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0005\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 5\r\n\r\nhello",
    ),
    "an empty body": (
        b"POST / HTTP/1.1\r\nHost: app\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n",
    ),
    "100-continue": (
        b"PUT / HTTP/1.1\r\nHost: app\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n",
        b"PUT / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n",
    ),
    "100-continue without a body": (get("/", "Expect: 100-continue"), b"GET / HTTP/1.1\r\nhost: app\r\n\r\n"),
    "CONNECT": (
        b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n",
        b"CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n",
    ),
    "WebSocket": (
        get("/", "Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k"),
        b"GET / HTTP/1.1\r\nhost: app\r\nsec-websocket-key: k\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ),
}


@CUTS
@pytest.mark.parametrize("name", WRITTEN)
def test_a_request_is_written_anew(name: str, cut: object) -> None:
    sent, written = WRITTEN[name]
    around = Around().client(*cut(sent))  # type: ignore[operator]
    assert around.to_app == written
    assert around.to_client == b""


def test_a_chunked_body_is_written_as_one_chunk_for_each_receive() -> None:
    head = b"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: Chunked\r\n\r\n"
    around = Around(limits=HttpLimits(pass_trailers=True))
    around.client(head + b"3;a=b\r\nabc\r\n02\r\nde\r\n", b"1\r\nf", b"\r\n0;x\r\nX-Sum: 6\r\n\r\n")
    assert around.to_app == (
        b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5\r\nabcde\r\n1\r\nf\r\n0\r\nx-sum: 6\r\n\r\n"
    )


@pytest.mark.parametrize(("passes", "trailers"), [(True, (("x-sum", "6"),)), (False, ())])
def test_trailers_pass_where_they_may_if_they_replace_no_field_of_the_head(passes: bool, trailers: object) -> None:
    around = Around(app=App(), limits=HttpLimits(pass_trailers=passes))
    around.client(
        b"POST / HTTP/1.1\r\nHost: app\r\nX-Role: user\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
        b"X-Role: admin\r\nHost: b\r\nContent-Length: 9\r\nX-Forwarded-For: ::1\r\nCookie: a\r\nX-Sum: 6\r\n\r\n"
    )
    assert around.app is not None
    assert around.app.seen[0].trailers == trailers


def test_the_head_that_is_judged_has_no_fields_of_the_connection() -> None:
    around = Around().client(
        b"POST /a?b HTTP/1.1\r\nHost: app\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\nConnection: x-b\r\nX-B: 2\r\n\r\n"
    )
    assert around.judged == [HttpRequest("POST", "app", "/a?b", (("x-a", "1"),))]


# -- answers --


@CUTS
def test_a_denied_request_is_answered_and_the_connection_stays_usable(cut: object) -> None:
    around = Around(deny_below("/no"), App())
    stream = get("/1") + b"POST /no HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nbody" + get("/2")
    around.client(*cut(stream))  # type: ignore[operator]
    ok = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nGET /%d 0\n"
    assert around.to_client == ok % 1 + DENIED + ok % 2
    assert around.finished == (False, False)
    assert b"/no" not in around.to_app


@CUTS
def test_headers_that_a_ruling_adds_are_in_the_final_response_head_alone(cut: object) -> None:
    added = (("x-seen", "yes"), ("set-cookie", "a=1"), ("content-length", "9"), ("x-forged", "1\r\nx-more: 2"))
    around = Around(lambda request: Forward(request, None, added if request.path == "/1" else ()))
    around.client(get("/1") + get("/2"))
    for data in (b"HTTP/1.1 103 Early Hints\r\n\r\n", OK, OK):
        around.answer(*cut(data))  # type: ignore[operator]
    head, end, body = OK.partition(b"\r\n\r\n")
    lines = b"\r\nx-seen: yes\r\nset-cookie: a=1\r\nx-forged: 1??x-more: 2"
    assert around.to_client == b"HTTP/1.1 103 Early Hints\r\n\r\n" + head + lines + end + body + OK


def test_a_refusal_waits_for_the_answer_before_it() -> None:
    around = Around(deny_below("/no")).client(get("/1") + get("/no") + get("/2"))
    assert around.to_client == b""
    around.answer(OK)
    assert around.to_client == OK + DENIED
    around.answer(OK)
    assert around.to_client == OK + DENIED + OK


@CUTS
def test_a_chunked_body_that_is_refused_is_dropped(cut: object) -> None:
    around = Around(deny_below("/no"), App())
    body = b"4\r\nbody\r\n0\r\nX: 1\r\n\r\n"
    around.client(
        *cut(b"POST /no HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n" + body + get("/2"))  # type: ignore[operator]
    )
    assert around.statuses == [403, 200]
    assert around.to_app == b"GET /2 HTTP/1.1\r\nhost: app\r\n\r\n"


@pytest.mark.parametrize(
    ("framing", "body"),
    [("Content-Length: 101", b""), ("Transfer-Encoding: chunked", b"65\r\n" + b"x" * 101)],
)
def test_a_refused_body_beyond_the_bound_ends_the_connection(framing: str, body: bytes) -> None:
    around = Around(deny_below("/no"), App(), HttpLimits(dropped_bytes=100))
    around.client(f"POST /no HTTP/1.1\r\nHost: app\r\n{framing}\r\n\r\n".encode() + body, get("/2"))
    assert around.statuses == [403]
    assert around.finished == (True, True)
    assert around.to_app == b""


def test_a_client_that_goes_on_after_the_end_is_read_up_to_a_bound() -> None:
    around = Around(limits=HttpLimits(dropped_bytes=100)).client(b"GET\n")
    assert around.filter.client_finished
    assert around.filter.reads_client
    assert not around.client(b"x" * 101).filter.reads_client


def test_a_denied_client_that_expects_100_is_answered_and_sends_no_body() -> None:
    head = b"PUT %b HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    denied = Around(deny_below("/no")).client(head % b"/no")
    assert denied.statuses == [403]
    assert b"connection: close\r\n" in denied.to_client
    assert denied.finished == (True, True)
    allowed = Around(deny_below("/no")).client(head % b"/yes")
    allowed.answer(b"HTTP/1.1 100 Continue\r\n\r\n").client(b"ab").answer(OK)
    assert allowed.statuses == [100, 200]
    assert allowed.to_app.endswith(b"\r\n\r\nab")
    assert allowed.finished == (False, False)


def test_interim_answers_pass_but_not_to_http_1_0() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    assert Around().client(get()).answer(early + early + OK).to_client == early + early + OK
    old = Around().client(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n").answer(early + early + OK)
    assert old.to_client == OK


#: The request's method, the app's answer, and how much of it is the answer.
BODILESS = {
    "HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
    "HEAD, chunked": (b"HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": (b"GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n"),
    "a length of 0": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@CUTS
@pytest.mark.parametrize("name", BODILESS)
def test_an_answer_without_a_body_is_complete_with_its_head(name: str, cut: object) -> None:
    method, answer = BODILESS[name]
    around = Around(deny_below("/no")).client(method + b" / HTTP/1.1\r\nHost: app\r\n\r\n" + get("/no"))
    around.answer(*cut(answer))  # type: ignore[operator]
    assert around.to_client == answer + DENIED


@CUTS
def test_a_chunked_answer_passes_as_it_came(cut: object) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    around = Around(deny_below("/no")).client(get() + get("/no")).answer(*cut(answer))  # type: ignore[operator]
    assert around.to_client == answer + DENIED


@CUTS
def test_an_answer_up_to_the_end_of_the_connection_ends_with_it(cut: object) -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nall of it"
    around = Around(deny_below("/no")).client(get() + get("/no")).answer(*cut(answer))  # type: ignore[operator]
    assert around.finished == (False, False)
    around.app_ends()
    assert around.to_client == answer
    assert around.finished == (True, True)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
def test_an_app_that_closes_ends_the_connection_after_its_answer(answer: bytes) -> None:
    around = Around().client(get() + get("/2")).answer(answer)
    assert around.to_client == answer
    assert around.finished == (True, True)


def test_a_client_that_closes_is_done_after_its_answer() -> None:
    around = Around().client(get("/", "Connection: close") + get("/2"))
    assert len(around.judged) == 1
    assert around.answer(OK).to_client == OK
    assert around.finished == (True, True)


def test_an_old_client_that_does_not_persist_is_done_after_its_answer() -> None:
    assert Around().client(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n").answer(OK).finished == (True, True)
    kept = Around().client(b"GET / HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n")
    assert kept.answer(OK).finished == (False, False)


#: Answers that are broken before the client got anything of them.
BROKEN = {
    "both lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n",
    "no number": b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n",
    "bare LF in the middle": b"HTTP/1.1 200 OK\r\nx: 1\ncontent-length: 2\r\n\r\nok",
    "folded": b"HTTP/1.1 200 OK\r\nx: 1\r\n y\r\ncontent-length: 2\r\n\r\nok",
    "another protocol": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n",
}


@CUTS
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_becomes_502_and_the_end(name: str, cut: object) -> None:
    around = Around().client(get()).answer(*cut(BROKEN[name]))  # type: ignore[operator]
    assert around.statuses == [502]
    assert around.finished == (True, True)


def test_a_chunked_answer_to_http_1_0_is_broken() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    assert Around().client(b"GET / HTTP/1.0\r\nHost: app\r\n\r\n").answer(chunked).statuses == [502]
    assert Around().client(get()).answer(chunked).statuses == [200]


def test_an_answer_without_a_request_ends_the_connection() -> None:
    around = Around().client(get()).answer(OK + OK)
    assert around.to_client == OK
    assert around.finished == (True, True)


def test_an_answer_to_a_request_that_the_app_does_not_have_yet_is_none() -> None:
    around = Around()
    around.filter.from_client(get())
    assert around.filter.wants_app
    around.filter.from_app(OK)
    around.take()
    assert around.statuses == [502]


def test_an_answer_whose_chunks_break_ends_the_connection() -> None:
    around = Around().client(get()).answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"x\r\n")
    assert around.statuses == [200]
    assert around.finished == (True, True)


def test_an_early_answer_does_not_end_the_body() -> None:
    around = Around().client(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nab").answer(OK)
    assert around.to_client == OK
    around.client(b"cd" + get("/2"))
    assert around.to_app.endswith(b"\r\n\r\nabcdGET /2 HTTP/1.1\r\nhost: app\r\n\r\n")
    assert around.answer(OK).to_client == OK + OK


def test_an_early_answer_of_an_app_that_closes_ends_the_connection() -> None:
    early = b"HTTP/1.1 413 Too Long\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    around = Around().client(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nab").answer(early)
    assert around.to_client == early
    assert around.finished == (True, True)


# -- tunnels --

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
WEBSOCKET = get("/", "Connection: Upgrade", "Upgrade: websocket")


@CUTS
def test_bytes_pass_both_ways_after_101(cut: object) -> None:
    around = Around().client(*cut(WEBSOCKET))  # type: ignore[operator]
    before = len(around.to_app)
    around.client(b"\x81")
    assert not around.filter.reads_client
    assert len(around.to_app) == before
    around.answer(*cut(SWITCHED + b"\x82\x00")).client(b"\x00")  # type: ignore[operator]
    assert around.to_app[before:] == b"\x81\x00"
    assert around.to_client == SWITCHED + b"\x82\x00"
    assert around.client_ends().finished == (True, False)
    assert around.answer(b"rest").app_ends().finished == (True, True)
    assert around.to_client.endswith(b"rest")


def test_an_app_that_does_not_switch_goes_on_with_http() -> None:
    around = Around(deny_below("/no")).client(WEBSOCKET + get("/no"))
    assert len(around.judged) == 1
    assert around.answer(OK).to_client == OK + DENIED
    assert len(around.judged) == 2


@CUTS
def test_the_answer_to_an_earlier_request_does_not_decide_on_a_switch(cut: object) -> None:
    around = Around().client(get("/first") + WEBSOCKET)
    assert not around.filter.reads_client
    around.answer(*cut(OK))  # type: ignore[operator]
    assert not around.filter.reads_client
    around.client(b"GET /frame")
    assert b"/frame" not in around.to_app
    around.answer(*cut(SWITCHED))  # type: ignore[operator]
    assert around.to_app.endswith(b"GET /frame")
    assert around.to_client == OK + SWITCHED


def test_connect_is_a_tunnel_after_200() -> None:
    around = Around().client(b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n" + get("/no"))
    assert around.judged == [HttpRequest("CONNECT", "db:1", "")]
    around.answer(b"HTTP/1.1 200 Connected\r\n\r\n")
    assert around.to_app.endswith(get("/no"))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_an_app_that_takes_connect_for_a_plain_method_opens_no_tunnel(answer: bytes) -> None:
    around = Around().client(b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n" + get("/smuggled")).answer(answer)
    assert b"smuggled" not in around.to_app
    assert around.statuses == [502]


def test_connect_that_the_app_refuses_goes_on_with_http() -> None:
    no = b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n"
    around = Around(deny_below("/no")).client(b"CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n" + get("/no")).answer(no)
    assert around.to_client == no + DENIED


# -- rulings that come later --


def test_the_client_is_not_read_until_the_ruling_is_there() -> None:
    around = Around(None).client(get("/1") + get("/2"))
    assert len(around.judged) == 1
    assert not around.filter.reads_client
    assert not around.filter.wants_app
    around.answers[0](Forward(around.judged[0]))
    assert around.changes == 1
    assert around.to_app == b"GET /1 HTTP/1.1\r\nhost: app\r\n\r\n"
    assert len(around.judged) == 2
    around.answers[1](Refuse(403, "denied\n"))
    assert around.filter.reads_client
    assert around.answer(OK).to_client == OK + DENIED


def test_a_body_that_came_before_the_ruling_follows_it() -> None:
    around = Around(None).client(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nab", b"c")
    assert around.to_app == b""
    around.answers[0](Forward(around.judged[0]))
    assert around.client(b"d").to_app.endswith(b"\r\n\r\nabcd")


def test_a_second_ruling_is_an_error_and_one_after_the_end_is_none() -> None:
    around = Around(None).client(get())
    around.answers[0](Refuse(403, "denied\n"))
    with pytest.raises(RuntimeError, match="one ruling"):
        around.answers[0](Forward(around.judged[0]))
    assert around.to_app == b""
    told: list[int] = []
    gone = Around(None).client(get())
    gone.filter.app_failed()
    gone.answers[0](Forward(gone.judged[0], told.append))
    gone.take()
    assert gone.to_app == b""
    assert told == [0]


@pytest.mark.parametrize(
    ("answer", "status"), [(OK, 200), (b"HTTP/1.1 404 No\r\n", 0), (b"nonsense\r\n\r\n", 502), (b"", 0)]
)
def test_the_status_of_an_answer_is_told_once(answer: bytes, status: int) -> None:
    told: list[int] = []
    around = Around(lambda request: Forward(request, told.append)).client(get()).answer(OK).client(get())
    around.answer(*([answer] if answer else [])).app_ends().app_ends()
    assert told == [200, status]


def test_pipelined_requests_beyond_the_limit_are_not_read() -> None:
    around = Around(limits=HttpLimits(pipelined=2)).client(get("/1") + get("/2") + get("/3"))
    assert len(around.judged) == 2
    assert not around.filter.reads_client
    around.answer(OK)
    assert len(around.judged) == 3
    assert around.answer(OK).filter.reads_client


def test_a_new_filter_reads_the_client_only_and_has_no_fault() -> None:
    made = Http1Filter(lambda request, answer: None, lambda: None)
    assert (made.wants_app, made.reads_client, made.reads_app) == (False, True, False)
    assert (made.app_finished, made.client_finished, made.app_fault) == (False, False, "")


def test_bytes_that_arrive_while_a_request_is_judged_are_read_after_it() -> None:
    """A judge may run the loop, which may have more of the client's bytes."""

    def rule(request: HttpRequest) -> Forward:
        if request.path == "/1":
            around.filter.from_client(get("/2"))
            assert len(around.judged) == 1
        return Forward(request)

    around = Around(rule)
    around.client(get("/1"))
    assert [one.path for one in around.judged] == ["/1", "/2"]


def test_bytes_of_a_buffer_are_read_as_bytes_are() -> None:
    whole = get("/a") + get("/b")
    around = Around()
    for at in range(0, len(whole), 7):
        around.filter.from_client(memoryview(bytearray(whole[at : at + 7])))
        around.take()
    assert [one.path for one in around.judged] == ["/a", "/b"]


# -- rulings that change the request --


def test_a_request_is_forwarded_as_the_ruling_has_it() -> None:
    changed = HttpRequest("GET", "other", "/b", (("x-added", "1"),))
    around = Around(lambda _: Forward(changed)).client(get("/a", "X-Old: 1"))
    assert around.to_app == b"GET /b HTTP/1.1\r\nhost: other\r\nx-added: 1\r\n\r\n"


@pytest.mark.parametrize(
    "changed",
    [
        HttpRequest("GET", "app", "/", (("x", "1\r\nx-smuggled: 1"),)),
        HttpRequest("GET", "app", "/", (("x", "1\n"),)),
        HttpRequest("GET", "app", "/", (("x\r\ny", "1"),)),
        HttpRequest("GET", "app", "/", (("x:y", "1"),)),
        HttpRequest("GET", "app", "/", (("X", "1"),)),
        HttpRequest("GET", "app", "/", (("x", "\u20ac"),)),
        HttpRequest("GET", "app", "/", (("content-length", "9"),)),
        HttpRequest("GET", "app", "/", (("transfer-encoding", "chunked"),)),
        HttpRequest("GET", "app", "/", (("host", "other"),)),
        HttpRequest("GET", "app", "/a b"),
        HttpRequest("GET", "app", "/a HTTP/1.1\r\nx: 1"),
        HttpRequest("GET", "app", ""),
        HttpRequest("GET", "app", "*"),
        HttpRequest("GET", "a b", "/"),
        HttpRequest("GET ", "app", "/"),
        HttpRequest("CONNECT", "app", ""),
        HttpRequest("GET", "app", "/", (("x", "1\n"), ("y", "2"))),
    ],
)
def test_a_ruling_that_cannot_be_written_becomes_500_and_no_byte_goes_on(changed: HttpRequest) -> None:
    told: list[tuple[int, str]] = []
    around = Around(lambda _: Forward(changed, lambda status: told.append((status, around.filter.unwritable))))
    around.client(get("/", "X: 1", "Y: 2"))
    assert around.statuses == [500]
    assert around.to_app == b""
    assert not around.filter.wants_app
    [(status, why)] = told
    assert (status, why.startswith("the ruling's request has "), around.filter.unwritable) == (500, True, "")


def test_a_ruling_may_add_a_value_beyond_ascii() -> None:
    around = Around(lambda _: Forward(HttpRequest("GET", "app", "/", (("x", "caf\xe9"),)))).client(get())
    assert b"\r\nx: caf\xe9\r\n" in around.to_app


def test_a_refused_old_client_that_persists_is_told_that_the_connection_goes_on() -> None:
    head = b"GET / HTTP/1.0\r\nHost: app\r\n"
    stays = Around(deny_below("/")).client(head + b"Connection: keep-alive\r\n\r\n")
    assert (stays.statuses, stays.finished, b"connection: keep-alive\r\n" in stays.to_client) == (
        [403],
        (False, False),
        True,
    )
    ends = Around(deny_below("/")).client(head + b"\r\n")
    assert (ends.statuses, b"connection: close\r\n" in ends.to_client) == ([403], True)


def test_a_ruling_may_change_the_method_but_not_of_a_request_for_no_path() -> None:
    around = Around(lambda _: Forward(HttpRequest("PATCH", "app", "/"))).client(get())
    assert around.to_app.startswith(b"PATCH / HTTP/1.1\r\n")
    options = b"OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n"
    assert Around(lambda _: Forward(HttpRequest("GET", "app", "*"))).client(options).statuses == [500]
    assert Around().client(options).to_app == options.replace(b"Host", b"host")


def test_a_refusal_cannot_add_lines_to_its_head() -> None:
    refuse = Refuse(
        401,
        "no\r\n\r\nHTTP/1.1 200 OK\r\n",
        (
            ("www-authenticate", "Bearer\r\nset-cookie: a"),
            ("x\r\ny", "1"),
            ("Content-Length", "0"),
            ("x-euro", "\u20ac"),
        ),
    )
    assert Around(lambda _: refuse).client(get()).to_client == (
        b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer??set-cookie: a\r\nx-euro: ?\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\n\r\nno\r\n\r\nHTTP/1.1 200 OK\r\n"
    )


@pytest.mark.parametrize(
    ("status", "method", "body"), [(302, "GET", b"no"), (204, "GET", b""), (403, "HEAD", b""), (99, "GET", b"no")]
)
def test_a_refusal_has_a_body_where_its_answer_has_one(status: int, method: str, body: bytes) -> None:
    around = Around(lambda _: Refuse(status, "no")).client(f"{method} / HTTP/1.1\r\nHost: app\r\n\r\n".encode())
    assert around.statuses == [500 if status == 99 else status]
    assert around.to_client.partition(b"\r\n\r\n")[2] == body


# -- ends and failures --


def test_a_client_that_ends_its_side_gets_the_answers_first() -> None:
    around = Around().client(get("/1") + get("/2")).client_ends()
    assert around.finished == (False, False)
    assert around.answer(OK).finished == (False, False)
    assert around.answer(OK).finished == (True, True)
    assert around.to_client == OK + OK


def test_a_client_that_ends_between_requests_is_done() -> None:
    assert Around().client_ends().finished == (True, True)
    assert Around().client(get()).answer(OK).client_ends().finished == (True, True)


@pytest.mark.parametrize("part", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 4\r\n\r\nab"])
def test_a_request_that_ends_in_the_middle_is_400_and_never_whole(part: bytes) -> None:
    around = Around(app=App()).client(part).client_ends()
    assert around.statuses == [400]
    assert around.finished == (True, True)
    assert around.app is not None
    assert around.app.seen == []


def test_an_app_that_ends_before_its_first_answer_is_502_and_later_just_the_end() -> None:
    assert Around().client(get()).app_ends().statuses == [502]
    later = Around().client(get()).answer(OK).client(get()).app_ends()
    assert later.to_client == OK
    assert later.finished == (True, True)


def test_an_app_that_ends_in_its_answer_ends_the_connection() -> None:
    around = Around().client(get()).answer(OK[:-1]).app_ends()
    assert around.to_client == OK[:-1]
    assert around.finished == (True, True)


def test_an_app_that_cannot_be_reached_is_503_for_all_that_wait() -> None:
    around = Around(deny_below("/no"))
    around.client(get("/1") + get("/no") + get("/2")).filter.app_failed()
    around.take()
    assert around.statuses == [503, 403, 503]
    assert around.to_client.count(b"connection: close") == 1
    assert around.finished == (True, True)


def test_more_than_the_app_takes_stops_reading_the_client() -> None:
    around = Around()
    around.filter.from_client(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 9999999\r\n\r\n")
    around.filter.from_client(bytes(1 << 19))
    assert not around.filter.reads_client
    around.filter.for_app()
    assert around.filter.reads_client


def test_more_than_the_client_takes_stops_reading_the_app() -> None:
    around = Around().client(get())
    assert around.filter.reads_app
    around.filter.from_app(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 19))
    assert not around.filter.reads_app
    around.filter.for_client()
    assert around.filter.reads_app


def test_a_judge_that_raises_forwards_nothing() -> None:
    def rule(_: HttpRequest) -> Forward:
        raise LookupError("broken")

    around = Around(rule)
    with pytest.raises(LookupError):
        around.client(get())
    around.take()
    assert around.client(get()).to_app == b""
    assert not around.filter.wants_app


def test_a_client_that_sends_requests_and_reads_no_answer_is_not_read_for_ever() -> None:
    """Refusals are ours, and no app is there to slow the client down."""
    one = Http1Filter(lambda _, answer: answer(Refuse(403, "denied\n")), lambda: None)
    sent = 0
    while one.reads_client:
        one.from_client(get() * 100)
        sent += 100
        assert sent < 10_000
    waiting = one.for_client()
    assert waiting.count(b"HTTP/1.1 403 ") == sent
    assert one.reads_client


# -- the wait for the app --


@pytest.mark.parametrize(("stands", "statuses"), [(True, [200]), (False, [403])])
def test_a_request_that_waited_for_the_app_is_judged_again_before_it_is_written(
    stands: bool, statuses: list[int]
) -> None:
    told: list[int] = []
    around = Around(lambda request: Forward(request, told.append, stands=lambda: stands))
    around.filter.from_client(b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi")
    assert around.filter.wants_app  # it is dialled now
    around.rule = lambda _: Refuse(403, "no\n")
    around.take()
    if stands:
        around.answer(OK)
    assert around.statuses == statuses
    assert around.to_app == (b"POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 2\r\n\r\nhi" if stands else b"")
    assert told == ([200] if stands else [])
    assert around.filter.reads_client


def test_requests_behind_the_one_that_waits_for_the_app_are_judged_once_it_is_there() -> None:
    around = Around(deny_below("/no"))
    around.filter.from_client(get("/1") + get("/no") + get("/2"))
    assert [one.path for one in around.judged] == ["/1"]
    around.take()
    assert [one.path for one in around.judged] == ["/1", "/no", "/2"]
    assert around.answer(OK, OK).statuses == [200, 403, 200]


def test_a_request_that_waits_for_an_app_that_cannot_be_reached_is_told_once() -> None:
    told: list[int] = []
    around = Around(lambda request: Forward(request, told.append, stands=lambda: False))
    around.filter.from_client(get())
    around.filter.app_failed()
    around.take()
    assert (around.statuses, told, len(around.judged)) == ([503], [503], 1)


@CUTS
@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x03\x00\x02\x02\x0a", b"HTTP/2 200\r\n\r\n"]
)
def test_an_app_that_answers_with_no_http_becomes_502_that_says_so(answer: bytes, cut: object) -> None:
    around = Around().client(get()).answer(*cut(answer))  # type: ignore[operator]
    assert around.statuses == [502]
    assert around.to_client.partition(b"\r\n\r\n")[2].startswith(b"the app did not answer with HTTP/1.1: ")
    assert around.filter.app_fault in around.to_client.decode()
    assert around.finished == (True, True)


def test_an_app_that_breaks_before_its_first_answer_is_502_and_later_breaks_the_connection() -> None:
    around = Around().client(get())
    assert around.filter.app_broke()
    around.take()
    assert around.statuses == [502]
    for answered in (Around().client(get()).answer(OK), Around().client(get()).answer(OK).client(get())):
        assert not answered.filter.app_broke()
    assert not Around().client(get()).answer(OK[:-1]).filter.app_broke()
