"""The HTTP/2 filter between an h2 client and an h2 app: what passes, what is refused, and how things end."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import hpack
import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    InformationalResponseReceived,
    PingAckReceived,
    PingReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    TrailersReceived,
)
from h2.settings import SettingCodes

from meshtls.wire.http import Answer, Cancel, Forward, HttpLimits, HttpRequest, Refuse, Ruling, Tunnel, UnjudgedRequest
from meshtls.wire.http2.fields import BlockWriter
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import HIGHEST_STREAM, Kind, frame
from tests.unit.wire.http2.ends import frames_of
from tests.unit.wire.http2.filtered import (
    DENIED,
    GET,
    GRPC,
    POST,
    Between,
    Fields,
    Judging,
    body,
    events,
    heads,
    resets,
    trailers,
)

WEBSOCKET: Fields = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":path", "/chat"),
    (":authority", "db.test"),
    ("sec-websocket-version", "13"),
]
CONNECT: Fields = [(":method", "CONNECT"), (":authority", "db.test:443")]
#: Stream 1's window at our two sides, and a body beyond all windows.
WINDOW, LARGE = 1 << 18, 3 << 20


def denying(request: HttpRequest) -> Ruling:
    return DENIED if request.path.startswith("/denied") or ("deny", "yes") in request.headers else Forward(request)


def fixed(ruling: Ruling, request: HttpRequest) -> Ruling:
    return ruling


def at(path: str, fields: Fields = GET) -> Fields:
    return [(name, path if name == ":path" else value) for name, value in fields]


def in_pieces(data: bytes) -> Iterable[bytes]:
    cuts = random.Random(len(data))  # noqa: S311
    while data:
        size = cuts.choice([1, 2, 9, 10, 300, 20_000])
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("cut", [lambda data: [data], in_pieces], ids=["whole", "in pieces"])
def test_a_request_and_its_response_pass_whole(cut: object) -> None:
    between = Between(cut=cut)  # type: ignore[arg-type]
    between.request(1, [*POST, ("x-a", "1"), ("x-a", "2")], b"up" * 300_000)
    assert between.judge.requests == [HttpRequest("POST", "db.test", "/a?b=c", (("x-a", "1"), ("x-a", "2")))]
    assert heads(between.at_app) == [[*POST, ("x-a", "1"), ("x-a", "2")]]
    assert body(between.at_app) == b"up" * 300_000
    between.respond(1, 200, b"down" * 200_000, [("x-sum", "9")])
    assert heads(between.at_client) == [[(":status", "200")]]
    assert body(between.at_client) == b"down" * 200_000
    assert trailers(between.at_client) == [("x-sum", "9")]


def test_the_head_is_written_in_order_and_with_one_cookie() -> None:
    between = Between(lenient=True)
    fields = [GET[3], GET[0], GET[2], GET[1], ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("te", "trailers")]
    between.request(1, fields)
    # h2 puts cookies last by itself.
    assert heads(between.at_app) == [[*GET, ("x", "y"), ("te", "trailers"), ("cookie", "a=1; b=2")]]
    assert between.judge.requests[0].headers == (("cookie", "a=1; b=2"), ("x", "y"))


def test_host_alone_becomes_the_authority() -> None:
    between = Between(lenient=True)
    between.request(1, [GET[0], GET[1], GET[3], ("host", "db.test:81")])
    assert heads(between.at_app) == [[GET[0], GET[1], (":authority", "db.test:81"), GET[3]]]
    assert between.judge.requests[0].host == "db.test:81"


def test_the_ruling_may_change_the_head() -> None:
    def rule(request: HttpRequest) -> Ruling:
        return Forward(HttpRequest(request.method, request.host, "/a", (("x-forwarded-client-cert", "URI=x"),)))

    between = Between(Judging(rule))
    between.request(1, [*at("/%61", POST), ("content-length", "2"), ("x-evil", "1")], b"ab")
    assert heads(between.at_app) == [[*at("/a", POST), ("x-forwarded-client-cert", "URI=x"), ("content-length", "2")]]


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("GET", "db.test", "/a", (("x", "a\r\nb: c"),)),
        HttpRequest("GET", "db.test", "/a", ((":path", "/b"),)),
        HttpRequest("GET", "db.test", "/a", (("x", "\u20ac"),)),
        HttpRequest("GET", "db.test", "/a b"),
        HttpRequest("GET /", "db.test", "/"),
        HttpRequest("CONNECT", "db.test:1", ""),
        *(
            HttpRequest("GET", "db.test", "/a", ((name, "1"),))
            for name in ("content-length", "host", "transfer-encoding", "connection", "te", "upgrade")
        ),
    ],
)
def test_a_head_that_cannot_be_written_is_not_sent(request_: HttpRequest) -> None:
    told: list[tuple[int, str]] = []

    def answered(status: int) -> None:
        told.append((status, between.filter.unwritable))

    between = Between(Judging(lambda _: Forward(request_, answered)))
    between.request()
    assert heads(between.at_client)[0][0] == (":status", "500")
    assert events(between.at_app, RequestReceived) == []
    assert told == [(500, "the request can't be written for the app")]
    assert between.filter.unwritable == ""


def test_a_head_gets_the_fields_that_a_ruling_adds_where_others_were_taken_out() -> None:
    came = [*GET, ("authorization", "t"), ("http2-settings", "s")]
    for kept in ((("authorization", "t"), ("http2-settings", "s")), (("http2-settings", "s"),), ()):
        changed = HttpRequest("GET", "db.test", "/a", (*kept, ("x-user", "a")))
        ruling = Forward(changed)
        between = Between(Judging(partial(fixed, ruling)))
        between.request(1, came)
        assert tuple(heads(between.at_app)[0][4:]) == changed.headers


def test_nothing_of_a_request_reaches_the_app_before_its_ruling() -> None:
    between = Between(Judging(lambda _: None))
    between.request(1, POST, b"x" * 1000)
    assert (between.filter.wants_app, between.at_app, between.changes) == (False, [], 0)
    between.judge.answers[0](Forward(between.judge.requests[0]))
    assert (between.filter.wants_app, between.changes) == (True, 1)
    between.settle()
    assert body(between.at_app) == b"x" * 1000


def test_rulings_may_come_in_any_order_and_only_once() -> None:
    between = Between(Judging(lambda _: None))
    for number in (1, 3, 5):
        between.request(number, at(f"/{number}"))
    first, second, third = between.judge.answers
    third(Forward(between.judge.requests[2]))
    first(DENIED)
    first(Forward(between.judge.requests[0]))
    third(DENIED)
    between.settle()
    assert [dict(fields)[":path"] for fields in heads(between.at_app)] == ["/5"]
    assert [dict(fields)[":status"] for fields in heads(between.at_client)] == ["403"]
    second(Forward(between.judge.requests[1]))
    between.settle()
    assert [dict(fields)[":path"] for fields in heads(between.at_app)] == ["/5", "/3"]


def test_a_ruling_after_the_clients_reset_sends_nothing() -> None:
    between = Between(Judging(lambda _: None))
    between.request()
    between.client.reset_stream(1)
    between.settle()
    statuses: list[int] = []
    between.judge.answers[0](Forward(between.judge.requests[0], statuses.append))
    between.settle()
    assert (between.at_app, statuses) == ([], [0])


def test_a_denied_request_gets_its_text_and_the_connection_goes_on() -> None:
    between = Between(Judging(denying))
    between.request(1, at("/denied", POST), b"x" * 100_000)
    assert heads(between.at_client) == [
        [
            (":status", "403"),
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(DENIED.text))),
        ]
    ]
    assert body(between.at_client) == DENIED.text.encode()
    assert (between.at_app, resets(between.at_client)) == ([], [])
    between.request(3)
    between.respond(1, 204)
    assert heads(between.at_client, 3) == [[(":status", "204")]]


def test_a_denied_upload_is_reset_after_so_many_bytes() -> None:
    between = Between(Judging(denying))
    between.client.send_headers(1, at("/denied", POST))
    between.settle()
    assert heads(between.at_client)[0][0] == (":status", "403")
    sent = 0
    while not resets(between.at_client):
        between.client.send_data(1, b"x" * 10_000)
        between.settle()
        sent += 10_000
        assert sent < WINDOW + (1 << 17)
    assert resets(between.at_client) == [(1, ErrorCodes.NO_ERROR)]
    between.request(3)
    assert len(events(between.at_app, RequestReceived)) == 1


def test_a_denied_upload_gives_the_connections_window_back() -> None:
    between = Between(Judging(denying))
    for number in range(1, 61, 2):
        between.client.send_headers(number, at("/denied", POST))
        between.settle()
        assert not between.send(between.client, number, b"x" * 100_000)
    assert len(events(between.at_client, ResponseReceived)) == 30


@pytest.mark.parametrize(
    ("status", "grpc"),
    [(403, "7"), (401, "16"), (400, "3"), (503, "14"), (429, "14"), (404, "12"), (431, "8"), (418, "2")],
)
def test_a_denied_grpc_call_gets_trailers_alone(status: int, grpc: str) -> None:
    refuse = Refuse(status, "100 % no:\n ü\n", (("x-why", "policy"), ("content-type", "x")))
    between = Between(Judging(lambda _: refuse))
    between.request(1, GRPC, b"\0\0\0\0\1x")
    assert heads(between.at_client) == [
        [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", grpc),
            ("grpc-message", "100 %25 no:%0A %C3%BC"),
            ("x-why", "policy"),
        ]
    ]
    assert len(events(between.at_client, StreamEnded)) == 1


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [("application/grpc+proto", True), ("application/grpc;x=y", True), ("application/grpc-web", False), ("a/b", False)],
)
def test_grpc_is_told_by_its_content_type(content_type: str, is_grpc: bool) -> None:
    between = Between(Judging(lambda _: DENIED))
    between.request(1, [*POST, ("content-type", content_type)])
    assert heads(between.at_client)[0][0] == (":status", "200" if is_grpc else "403")


def test_the_rulings_owner_is_told_of_each_final_status_once() -> None:
    statuses: list[int] = []
    between = Between(Judging(lambda request: Forward(request, statuses.append)))
    between.request(1)
    between.app.send_headers(1, [(":status", "103")])
    between.respond(1, 404)
    between.request(3)
    between.client.reset_stream(3)
    between.settle()
    assert statuses == [404, 0]


class Told:
    """Takes the final status. An exchange is all that keeps it, so that ``seen`` shows how long the exchange lives."""

    def __call__(self, status: int) -> None:
        """Nothing to do."""


def _whole_response(between: Between) -> None:
    between.request(1)
    between.respond(1, body=b"hello")


def _head_alone(between: Between) -> None:
    between.request(1)
    between.respond(1, 204)


def _grpc_call(between: Between) -> None:
    between.request(1, GRPC, b"question")
    between.respond(1, body=b"answer", trailers=[("grpc-status", "0")])


def _early_response(between: Between) -> None:
    between.client.send_headers(1, POST)
    between.settle()
    between.respond(1, body=b"hello")
    assert not between.send(between.client, 1, b"late")


def _request_with_trailers(between: Between) -> None:
    between.client.send_headers(1, POST)
    between.settle()
    between.respond(1)
    between.client.send_headers(1, [("x-sum", "1")], end_stream=True)
    between.settle()


@pytest.mark.parametrize(
    "talk",
    [_whole_response, _head_alone, _grpc_call, _early_response, _request_with_trailers],
    ids=lambda talk: talk.__name__,
)
def test_an_answered_exchange_is_freed_without_the_garbage_collector(talk: Callable[[Between], None]) -> None:
    seen: list[weakref.ref[Told]] = []

    def forwarded(request: HttpRequest) -> Ruling:
        told = Told()
        seen.append(weakref.ref(told))
        return Forward(request, told)

    gc.collect()
    gc.disable()
    try:
        between = Between(Judging(forwarded))
        talk(between)
        assert [one() for one in seen] == [None]
        between.request(3)  # one that is not answered yet is kept
        assert [one() is None for one in seen] == [True, False]
    finally:
        gc.enable()


def test_headers_that_a_ruling_adds_are_in_the_final_response_head_alone() -> None:
    between = Between(Judging(lambda request: Forward(request, None, (("x-seen", "yes"),))))
    between.request(1)
    between.app.send_headers(1, [(":status", "103")])
    between.settle()
    between.respond(1, 200)
    assert [(one[0], ("x-seen", "yes") in one) for one in heads(between.at_client)] == [((":status", "200"), True)]


def test_interim_responses_pass() -> None:
    between = Between()
    between.client.send_headers(1, [*POST, ("expect", "100-continue")])
    between.settle()
    between.app.send_headers(1, [(":status", "100")])
    between.app.send_headers(1, [(":status", "103"), ("link", "</a>")])
    between.settle()
    found = events(between.at_client, InformationalResponseReceived)
    assert [[str(text) for field in one.headers or () for text in field] for one in found] == [
        [":status", "100"],
        [":status", "103", "link", "</a>"],
    ]
    assert not between.send(between.client, 1, b"x")
    between.respond(1)
    assert heads(between.at_client) == [[(":status", "200")]]


def test_a_head_request_may_promise_a_body_that_does_not_come() -> None:
    between = Between()
    between.request(1, [(":method", "HEAD"), *GET[1:]])
    between.app.send_headers(1, [(":status", "200"), ("content-length", "5")], end_stream=True)
    between.settle()
    assert heads(between.at_client) == [[(":status", "200"), ("content-length", "5")]]


# -- CONNECT --


def test_the_name_of_a_protocol_is_judged_in_lower_case_and_passed_on_as_it_came() -> None:
    between = Between(lenient=True, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    between.request(1, GET)
    sent = {**dict(WEBSOCKET), ":protocol": "WebSocket"}
    between.client.send_headers(3, list(sent.items()))
    between.settle()
    assert between.judge.requests[1].headers == (("sec-websocket-version", "13"), ("upgrade", "websocket"))
    assert dict(heads(between.at_app)[1]) == sent


def test_a_websocket_is_judged_as_a_get_and_passes_both_ways_if_the_app_takes_it() -> None:
    between = Between(lenient=True, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    assert between.judge.requests == []
    between.request(1, GET)  # which brings the app's SETTINGS
    between.client.send_headers(3, WEBSOCKET)
    between.settle()
    judged = (("sec-websocket-version", "13"), ("upgrade", "websocket"))
    assert between.judge.requests[1] == HttpRequest("GET", "db.test", "/chat", judged)
    assert dict(heads(between.at_app)[1]) == dict(WEBSOCKET)
    between.app.send_headers(3, [(":status", "200")])
    between.app.send_data(3, b"frame")
    between.settle()
    assert not between.send(between.client, 3, b"other", ended=False)
    assert (body(between.at_client, 3), body(between.at_app, 3)) == (b"frame", b"other")


def _ended_by(between: Between, *ends: H2Connection) -> None:
    for end in ends:
        end.end_stream(3)
        between.settle()


def _reset_by(between: Between, end: H2Connection) -> None:
    end.reset_stream(3)
    between.settle()


#: What happens to a WebSocket, and whether it is open afterwards.
TUNNEL_ENDS: dict[str, tuple[Callable[[Between], object], bool]] = {
    "nothing": (lambda between: None, True),
    "the client ends its half": (lambda between: _ended_by(between, between.client), True),
    "the app ends its half": (lambda between: _ended_by(between, between.app), True),
    "both end": (lambda between: _ended_by(between, between.client, between.app), False),
    "the client's reset": (lambda between: _reset_by(between, between.client), False),
    "the app's reset": (lambda between: _reset_by(between, between.app), False),
    "the client's end": (lambda between: between.filter.client_ended(), False),
    "the app's end": (lambda between: between.filter.app_ended(), False),
}


@pytest.mark.parametrize("name", TUNNEL_ENDS)
def test_a_tunnel_is_open_until_nothing_can_pass_any_more(name: str) -> None:
    happens, is_open = TUNNEL_ENDS[name]
    tunnel = Tunnel()
    judge = Judging(lambda request: Forward(request, lambda _: tunnel if request.path == "/chat" else None))
    between = Between(judge, lenient=True, settings={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    between.request(1, GET)
    between.client.send_headers(3, WEBSOCKET)
    between.settle()
    between.app.send_headers(3, [(":status", "200")])
    between.settle()
    assert tunnel.is_open()
    happens(between)
    assert tunnel.is_open() is is_open


def test_a_websocket_is_refused_if_the_app_does_not_take_it() -> None:
    between = Between(lenient=True)
    between.client.send_headers(1, WEBSOCKET)
    between.settle()
    assert heads(between.at_client)[0][0] == (":status", "501")
    assert heads(between.at_app) == []


def test_the_client_is_told_that_extended_connect_is_understood() -> None:
    between = Between()
    between.settle()
    (changed,) = events(between.at_client, RemoteSettingsChanged)
    told = {int(code): one.new_value for code, one in changed.changed_settings.items()}
    assert told[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    assert told[SettingCodes.MAX_CONCURRENT_STREAMS] == 100
    assert told[SettingCodes.MAX_HEADER_LIST_SIZE] == HttpLimits().header_bytes


def test_connect_is_judged_and_passes() -> None:
    between = Between(lenient=True)
    between.client.send_headers(1, CONNECT)
    between.settle()
    assert between.judge.requests == [HttpRequest("CONNECT", "db.test:443", "")]
    assert heads(between.at_app) == [CONNECT]
    denied = Between(Judging(lambda _: DENIED), lenient=True)
    denied.client.send_headers(1, CONNECT)
    denied.settle()
    assert heads(denied.at_client)[0][0] == (":status", "403")
    assert not denied.filter.wants_app


# -- resets and ends --


@pytest.mark.parametrize("code", [ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR, ErrorCodes.ENHANCE_YOUR_CALM])
def test_a_reset_passes_with_its_code(code: ErrorCodes) -> None:
    between = Between()
    between.request(1, POST)
    between.request(3, POST)
    between.client.reset_stream(1, code)
    between.app.reset_stream(3, code)
    between.settle()
    assert resets(between.at_app) == [(1, code)]
    assert resets(between.at_client) == [(3, code)]


def test_a_complete_response_is_not_lost_by_the_apps_reset() -> None:
    between = Between()
    between.client_credits = False
    between.client.send_headers(1, POST)
    between.settle()
    between.app.send_headers(1, [(":status", "200")])
    assert not between.send(between.app, 1, b"x" * 200_000)
    between.app.reset_stream(1, ErrorCodes.NO_ERROR)
    between.settle()
    assert len(body(between.at_client)) == 65_535
    between.client.increment_flow_control_window(1 << 20)
    between.client.increment_flow_control_window(1 << 20, 1)
    between.settle()
    assert len(body(between.at_client)) == 200_000
    assert len(events(between.at_client, StreamEnded)) == 1


def last_word(between: Between) -> list[tuple[Kind, int, int, bytes]]:
    """The frames for a client that is drained, which then acknowledges the PING. h2 takes nothing after GOAWAY."""
    said = b""
    while more := between.filter.for_client():
        said += more
    got = frames_of(said)
    for payload in [payload for kind, flags, _, payload in got if kind is Kind.PING and not flags]:
        between.filter.from_client(frame(Kind.PING, 1, 0, payload))
    return got


def test_the_apps_goaway_refuses_what_it_did_not_process_and_drains_the_client() -> None:
    between = Between()
    between.request(1)
    between.request(3)
    between.app.close_connection(last_stream_id=1)
    between.client_reads = False
    between.settle()
    got = last_word(between)
    assert [(number, payload) for kind, _, number, payload in got if kind is Kind.RST_STREAM] == [
        (3, ErrorCodes.REFUSED_STREAM.to_bytes(4))
    ]
    assert [payload for kind, _, _, payload in got if kind is Kind.GOAWAY] == [HIGHEST_STREAM.to_bytes(4) + bytes(4)]


def test_a_stream_of_the_app_that_goes_is_served_to_its_end() -> None:
    between = Between()
    between.request(1)
    between.filter.from_app(frame(Kind.GOAWAY, 0, 0, (1).to_bytes(4) + bytes(4)))
    between.client_reads = False
    between.request(3)
    assert heads(between.at_app) == [GET]
    between.respond(1, 200, b"late")
    got = last_word(between)
    assert [(kind, number) for kind, _, number, _ in got if number] == [
        (Kind.RST_STREAM, 3),
        (Kind.HEADERS, 1),
        (Kind.DATA, 1),
    ]
    assert (between.filter.client_finished, between.filter.app_finished) == (True, True)


def test_a_client_that_goes_is_served_to_its_end() -> None:
    between = Between()
    between.request(1)
    between.filter.from_client(frame(Kind.GOAWAY, 0, 0, bytes(8)))
    assert not between.filter.client_finished
    between.respond(1, 200, b"x")
    assert (between.filter.client_finished, between.filter.app_finished) == (True, True)
    assert len(events(between.at_app, ConnectionTerminated)) == 1


def test_the_clients_end_cancels_what_is_open() -> None:
    between = Between()
    between.request(1)
    between.filter.client_ended()
    between.settle()
    assert resets(between.at_app) == [(1, ErrorCodes.CANCEL)]
    assert (between.filter.client_finished, between.filter.app_finished) == (True, True)
    assert not between.filter.reads_client


@pytest.mark.parametrize("failed", [False, True], ids=["ended", "failed"])
def test_an_app_that_is_gone_leaves_503_and_no_half_of_a_response(failed: bool) -> None:
    between = Between()
    for number in (1, 3, 5):
        between.request(number)
    between.request(7, GRPC)
    between.app.send_headers(3, [(":status", "200")])
    between.app.send_data(3, b"half")
    between.app.send_headers(5, [(":status", "200")])
    between.app.send_data(5, b"whole", end_stream=True)
    between.settle()
    if failed:
        between.filter.app_failed()
    else:
        between.filter.app_ended()
    between.client_reads = False
    between.request(9)
    between.client_reads = True
    got = frames_of(between.filter.for_client())
    decoder = hpack.Decoder()
    answers = {
        number: dict(decoder.decode(payload, raw=True)) for kind, _, number, payload in got if kind is Kind.HEADERS
    }
    assert {number: fields[b":status"] for number, fields in answers.items()} == {1: b"503", 7: b"200", 9: b"503"}
    assert answers[7][b"grpc-status"] == b"14"
    assert [number for kind, _, number, _ in got if kind is Kind.RST_STREAM] == [3]
    assert (body(between.at_client, 5), between.filter.app_finished) == (b"whole", True)


def test_pings_are_answered_here() -> None:
    between = Between()
    between.request(1)
    between.client.ping(b"12345678")
    between.app.ping(b"abcdefgh")
    between.settle()
    assert len(events(between.at_client, PingAckReceived)) == len(events(between.at_app, PingAckReceived)) == 1
    assert events(between.at_client, PingReceived) == events(between.at_app, PingReceived) == []


# -- windows and limits --


def test_a_stream_whose_reader_is_slow_does_not_stop_another() -> None:
    between = Between()
    between.app_credits = False
    between.app.increment_flow_control_window(1 << 20)  # the connection's window is not what stops it
    between.client.send_headers(1, POST)
    between.settle()
    rest = between.send(between.client, 1, b"x" * LARGE)
    assert len(body(between.at_app, 1)) == 65_535
    assert LARGE - len(rest) <= 65_535 + WINDOW
    between.request(3, POST, b"y" * 50_000)
    assert body(between.at_app, 3) == b"y" * 50_000
    between.app_credits = True
    between.app.acknowledge_received_data(65_535, 1)
    between.settle()
    assert not between.send(between.client, 1, rest)
    assert body(between.at_app, 1) == b"x" * LARGE


def test_a_client_that_does_not_read_bounds_what_is_kept_for_it() -> None:
    between = Between()
    between.request(1)
    between.client.increment_flow_control_window(1 << 28)
    between.client.increment_flow_control_window(1 << 28, 1)
    between.settle()
    between.client_reads = False
    between.app.send_headers(1, [(":status", "200")])
    rest = between.send(between.app, 1, b"x" * LARGE)
    kept = LARGE - len(rest)
    assert kept <= 3 * WINDOW
    between.client_reads = True
    between.settle()
    assert not between.send(between.app, 1, rest)
    assert len(body(between.at_client)) == LARGE


def test_many_slow_streams_bound_what_is_kept_for_a_connection() -> None:
    between = Between()
    between.app_credits = False
    sent = 0
    for number in range(1, 200, 2):
        between.client.send_headers(number, POST)
        between.settle()
        sent += (1 << 18) - len(between.send(between.client, number, b"x" * (1 << 18)))
    assert sent <= (1 << 22) + (1 << 20) + (1 << 18) + 65_535
    assert len(events(between.at_app, RequestReceived)) == 100


def test_a_client_without_a_window_gets_the_end_once_it_has_one() -> None:
    between = Between()
    between.client_credits = False
    between.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    between.settle()
    between.request(1)
    between.respond(1, 200, b"x" * 10, [("x-sum", "1")])
    assert body(between.at_client) == b""
    between.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 7})
    between.settle()
    assert body(between.at_client) == b"x" * 7
    between.client.increment_flow_control_window(3, 1)
    between.settle()
    assert (body(between.at_client), trailers(between.at_client)) == (b"x" * 10, [("x-sum", "1")])


def test_requests_wait_for_the_apps_stream_limit() -> None:
    between = Between(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    between.request(1)
    for number in (3, 5, 7):
        between.request(number, at(f"/{number}"))
    assert len(heads(between.at_app)) == 2
    between.client.reset_stream(5)
    between.respond(1)
    assert [dict(fields)[":path"] for fields in heads(between.at_app)[2:]] == ["/7"]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("allowed", [False, True])
def test_a_request_that_waits_for_the_app_is_judged_again_if_its_ruling_stands_no_more(
    allowed: bool, late: bool
) -> None:
    policies, told = ["old"], list[tuple[str, int]]()

    def judge(request: HttpRequest) -> Ruling | None:
        (policy,) = policies
        if policy == "new" and late:
            return None
        if policy == "new" and not allowed:
            return DENIED
        return Forward(request, lambda status: told.append((request.path, status)), stands=lambda: policies == [policy])

    between = Between(Judging(judge), settings={SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    between.request(1)
    for number in (3, 5):
        between.client.send_headers(number, at(f"/{number}"), end_stream=True)
    between.settle()
    assert len(heads(between.at_app)) == 1
    policies[:] = ["new"]
    between.respond(1)
    if late:
        assert len(heads(between.at_app)) == 1
        for answer, request in zip(between.judge.answers, between.judge.requests[3:], strict=True):
            answer(Forward(request) if allowed else DENIED)
        between.settle()
    assert [one.path for one in between.judge.requests] == ["/a?b=c", "/3", "/5", "/3", "/5"]
    if allowed:
        assert dict(heads(between.at_app)[1])[":path"] == "/3"
        between.respond(3)
        assert dict(heads(between.at_app)[2])[":path"] == "/5"
    else:
        assert len(heads(between.at_app)) == 1
        assert [heads(between.at_client, number)[0][0] for number in (3, 5)] == [(":status", "403")] * 2
    assert told == [("/a?b=c", 200), *([("/3", 200)] if allowed and not late else [])]


def test_a_change_of_the_table_at_any_time_is_followed() -> None:
    between = Between()
    for number, size in zip(range(1, 41, 2), [0, 4096, 100, 65_536] * 5, strict=True):
        between.client.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        between.app.update_settings({SettingCodes.HEADER_TABLE_SIZE: 65_536 - size})
        between.settle()
        between.request(number, [*GET, ("x-same", "a" * 100), (f"x-{number}", "b" * 100)])
        between.respond(number)
    assert [dict(one)[f"x-{number}"] for number, one in zip(range(1, 41, 2), heads(between.at_app), strict=True)]
    assert len(heads(between.at_client)) == 20


def test_heads_longer_than_a_frame_pass() -> None:
    between = Between()
    fields = [(f"x-{number}", "v" * 3000) for number in range(15)]
    between.request(1, [*GET, *fields])
    assert heads(between.at_app) == [[*GET, *fields]]
    between.app.send_headers(1, [(":status", "200"), *fields], end_stream=True)
    between.settle()
    assert heads(between.at_client) == [[(":status", "200"), *fields]]


def test_a_field_that_no_table_may_hold_keeps_its_mark() -> None:
    between = Between()
    between.filter.from_client(between.client.data_to_send())
    between.filter.from_app(between.app.data_to_send())
    encoded = hpack.Encoder().encode([*GET, hpack.NeverIndexedHeaderTuple("authorization", "secret")])
    between.filter.from_client(frame(Kind.HEADERS, 5, 1, encoded))
    (block,) = [one[3] for one in frames_of(between.filter.for_app()[24:]) if one[0] is Kind.HEADERS]
    marked = [one.indexable for one in hpack.Decoder().decode(block, raw=True) if one[0] == b"authorization"]
    assert marked == [False]


def test_the_same_request_again_reads_the_same_whatever_came_between() -> None:
    between = Between()
    for number in range(1, 80, 2):
        changing = [("x-id", str(number // 6))]
        between.request(number, [*GET, *changing])
        assert heads(between.at_app, number) == [[*GET, *changing]]
        between.respond(number)


def test_a_head_that_came_before_is_written_as_each_ruling_has_it() -> None:
    changed = {path: HttpRequest("POST", "db.test", path, (("x-path", path),)) for path in ("/one", "/two")}
    paths = ["/one", "/two", "/two", "/one"]
    left = iter(paths)
    between = Between(Judging(lambda request: Forward(changed[next(left)])))
    for number in range(1, 2 * len(paths), 2):
        between.request(number, POST)
    assert [(head[":path"], head["x-path"]) for head in map(dict, heads(between.at_app))] == [
        (path, path) for path in paths
    ]


def test_a_head_is_written_once_for_a_request_that_its_rulings_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    write = BlockWriter.block

    def counted(self: BlockWriter, pseudo: Any, fields: Any, never: Any = ()) -> bytes:
        pseudo = list(pseudo)
        written.extend(value for name, value in pseudo if name == ":path")
        return write(self, pseudo, fields, never)

    monkeypatch.setattr(BlockWriter, "block", counted)
    changed = HttpRequest("POST", "db.test", "/changed", (("x-added", "yes"),))
    between = Between(Judging(lambda request: Forward(changed)))
    for number in range(1, 12, 2):
        between.request(number, POST)
    assert [dict(head)[":path"] for head in heads(between.at_app)] == ["/changed"] * 6
    # The second head is another block than the first, which made the client's table.
    assert written == ["/changed"] * 2


def test_repr_shows_both_sides() -> None:
    assert repr(Between().filter).startswith("<Http2Filter client <Downstream server OPEN, expects PREFACE")


@pytest.mark.parametrize("passes", [True, False])
def test_a_requests_trailers_pass_only_where_they_may_and_replace_no_field_of_the_head(passes: bool) -> None:
    between = Between(limits=HttpLimits(pass_trailers=passes))
    between.client.send_headers(1, [*POST, ("x-role", "user")])
    between.client.send_data(1, b"body")
    between.client.send_headers(1, [("x-role", "admin"), ("x-sum", "9")], end_stream=True)
    between.settle()
    assert body(between.at_app) == b"body"
    assert len(events(between.at_app, StreamEnded)) == 1
    if passes:
        assert trailers(between.at_app) == [("x-sum", "9")]
    else:
        assert events(between.at_app, TrailersReceived) == []


class Pending(Judging):
    """A judge whose rulings come later; ``cancelled`` are the paths whose rulings nobody waits for any more."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.cancelled: list[str] = []

    def __call__(self, request: HttpRequest, answer: Answer) -> Cancel:
        super().__call__(request, answer)
        return partial(self.cancelled.append, request.path)


def test_a_stream_that_the_client_resets_cancels_its_ruling_and_no_other() -> None:
    judge = Pending()
    between = Between(judge)
    for number in (1, 3, 5):
        between.request(number, at(f"/{number}"))
    between.client.reset_stream(3)
    between.settle()
    assert judge.cancelled == ["/3"]
    judge.answers[0](Forward(judge.requests[0]))
    between.client.reset_stream(1)
    between.settle()
    assert judge.cancelled == ["/3"], "a ruling that is there is not cancelled"
    judge.answers[2](DENIED)
    assert judge.cancelled == ["/3"]


def test_the_end_of_the_client_cancels_the_rulings_that_are_awaited() -> None:
    judge = Pending()
    between = Between(judge)
    for number in (1, 3):
        between.request(number, at(f"/{number}"))
    between.filter.client_ended()
    assert judge.cancelled == ["/1", "/3"]


def test_a_request_that_ends_with_our_own_answer_is_told_with_its_status() -> None:
    told: list[int] = []
    between = Between(Judging(lambda http: Forward(http, told.append)))
    between.request(1)
    between.filter.app_ended()
    assert told == [503]


@pytest.mark.parametrize(("stands", "status"), [(True, "200"), (False, "403")])
def test_a_request_that_waited_for_the_app_is_judged_again_before_it_is_written(stands: bool, status: str) -> None:
    judge = Judging(lambda http: Forward(http, stands=lambda: stands))
    between = Between(judge)
    between.app_reads = False  # it is dialled still
    between.request(1, POST, b"body")
    assert between.filter.wants_app
    judge.ruling = lambda _: DENIED
    between.app_reads = True
    between.settle()
    if stands:
        between.respond(1, 200)
    assert [dict(head)[":status"] for head in heads(between.at_client)] == [status]
    assert (len(judge.requests), len(heads(between.at_app))) == ((1, 1) if stands else (2, 0))


def refused_with(between: Between) -> tuple[bytes, str]:
    """Status and text of the answer to stream 1. h2's client takes nothing after the GOAWAY before it."""
    got = frames_of(between.filter.for_client())
    (head,) = [payload for kind, _, number, payload in got if (kind, number) == (Kind.HEADERS, 1)]
    text = b"".join(bytes(payload) for kind, _, number, payload in got if (kind, number) == (Kind.DATA, 1))
    return dict(hpack.Decoder().decode(head, raw=True))[b":status"], text.decode()


def asking_an_app_that_is_silent() -> Between:
    between = Between()
    between.client.send_headers(1, GET, end_stream=True)
    between.filter.from_client(between.client.data_to_send())
    assert between.filter.for_app()
    return between


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the app did not answer with HTTP/2"),
        (b"+OK\r\n", "the app did not answer with HTTP/2"),
        (frame(Kind.PING, 0, 0, bytes(8)), "the app did not answer with HTTP/2"),
        (frame(Kind.SETTINGS, 0, 0, b"odd"), "the app's response is malformed"),
    ],
    ids=["HTTP/1.1", "a line", "no SETTINGS", "bad SETTINGS"],
)
@pytest.mark.parametrize("cut", [lambda data: [data], in_pieces], ids=["whole", "in pieces"])
def test_an_app_without_http2_becomes_502_that_says_so(first: bytes, text: str, cut: Any) -> None:
    between = asking_an_app_that_is_silent()
    for piece in cut(first):
        between.filter.from_app(piece)
    status, told = refused_with(between)
    assert (status, told) == (b"502", f"{between.filter.app_fault}\n")
    assert told.startswith(text)
    assert between.filter.app_finished


def test_an_app_that_breaks_before_its_settings_becomes_502() -> None:
    between = asking_an_app_that_is_silent()
    assert between.filter.app_broke()
    status, told = refused_with(between)
    assert (status, told.partition(",")[0]) == (b"502", "the app did not answer with HTTP/2")


def test_an_app_that_breaks_after_its_settings_becomes_503() -> None:
    between = Between()
    between.request(1)
    between.client_reads = False
    assert between.filter.app_broke()
    assert refused_with(between) == (b"503", "the app ended the connection before its response\n")


def test_an_app_that_breaks_while_no_request_is_open_breaks_the_client_s_connection() -> None:
    between = Between()
    between.request(1)
    between.respond(1)
    assert not between.filter.app_broke()


def test_a_new_filter_reads_both_sides_and_has_no_fault() -> None:
    made = Http2Filter(Judging(), lambda: None)
    assert (made.wants_app, made.reads_client, made.reads_app) == (False, True, True)
    assert (made.app_finished, made.client_finished, made.app_fault) == (False, False, "")


def test_a_client_that_breaks_the_protocol_is_told_of_with_the_error() -> None:
    told: list[UnjudgedRequest] = []
    made = Http2Filter(Judging(), lambda: None, on_unjudged=told.append)
    made.from_client(b"GET / HTTP/1.1\r\nHost: db.test\r\n\r\n")
    assert [one.reason for one in told] == ["PROTOCOL_ERROR: wanted the client's preface of HTTP/2, got something else"]
    assert made.client_finished
