"""What is spoken inside TLS, or instead of it: HTTP/1.1, HTTP/2, gRPC, tunnels, and plaintext on a TLS port."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import hpack

from meshtls.observe.events import Outcome
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE, Kind, frame
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert, fatal_alert
from tests.corpus.case import Case, Made, Told
from tests.corpus.sessions import REQUEST, RESPONSE, SAID, carried, contexts_of, made, spoken, whole
from tests.support.packets import Talk
from tests.support.tls_wire import Flight, Wire

__all__ = ["INSIDE"]

C, S = Side.CLIENT, Side.SERVER
_SETTINGS = frame(Kind.SETTINGS, 0, 0, b"")
_ACKNOWLEDGED = frame(Kind.SETTINGS, 1, 0, b"")


def _head(fields: Sequence[tuple[str, str]], *, end: bool = False) -> bytes:
    flags = END_HEADERS | (END_STREAM if end else 0)
    return frame(Kind.HEADERS, flags, 1, hpack.Encoder().encode(fields))


def _data(content: bytes, *, end: bool = False) -> bytes:
    return frame(Kind.DATA, END_STREAM if end else 0, 1, content)


def _asked(method: str, path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [(":method", method), (":scheme", "https"), (":path", path), (":authority", "web.test"), *more]


def h2(*said: Flight) -> list[Flight]:
    """HTTP/2: both say their settings, and then this."""
    return [(C, PREFACE + _SETTINGS), (S, _SETTINGS + _ACKNOWLEDGED), (C, _ACKNOWLEDGED), *said]


def _h2() -> list[Flight]:
    return h2(
        (C, _head(_asked("GET", "/pay"), end=True)),
        (S, _head([(":status", "200")]) + _data(b"ok", end=True)),
    )


def _grpc() -> list[Flight]:
    typed = ("content-type", "application/grpc")
    message = _data(b"\0\0\0\0\1x", end=True)
    encoder = hpack.Encoder()
    head = frame(Kind.HEADERS, END_HEADERS, 1, encoder.encode([(":status", "200"), typed]))
    trailers = frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, encoder.encode([("grpc-status", "0")]))
    return h2(
        (C, _head(_asked("POST", "/shop.v1.Cart/Add", typed)) + message),
        (S, head + _data(b"\0\0\0\0\1y") + trailers),
    )


def inside(said: Callable[[], Sequence[Flight]]) -> Callable[[Path], Made]:
    """This inside of mutual TLS."""
    return lambda directory: made(directory, carried(whole(directory, said())))


def _tunnel(directory: Path) -> Made:
    """HTTP/1.1's CONNECT inside of TLS, and another session of TLS in the tunnel."""
    inner = whole(directory)
    ask = (C, b"CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n")
    return made(directory, carried(whole(directory, [ask, (S, b"HTTP/1.1 200 OK\r\n\r\n"), *inner])))


def _hbone(directory: Path) -> Made:
    """HTTP/2's CONNECT, as meshes use it, and HTTP/1.1 in the tunnel."""
    said = h2(
        (C, _head([(":method", "CONNECT"), (":authority", "10.0.0.2:80")])),
        (S, _head([(":status", "200")])),
        (C, _data(REQUEST, end=True)),
        (S, _data(RESPONSE, end=True)),
    )
    return made(directory, carried(whole(directory, said)))


def clear(*said: Flight, port: int = 443, server_first: bool = False) -> Callable[[Path], Made]:
    """Plaintext."""
    talk = (("10.0.0.1", 40000), ("10.0.0.2", port))
    return lambda directory: made(directory, carried(said, talk=Talk(*talk), server_first=server_first))


def _tls_to_http(directory: Path) -> Made:
    """A ClientHello to a server of HTTP/1.1."""
    hello = spoken(Wire(*contexts_of(directory)))[0]
    refusal = (S, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    return made(directory, carried([hello, refusal], server_first=True))


_TOLD = Told()
_NO_TLS = replace(
    _TOLD,
    protocol="HTTP/1.1",
    version="",
    suite="",
    group="",
    server_name="",
    mutual="",
    resumed="",
    complete=False,
    decrypted=False,
    legal=None,
    ids=("", ""),
    alerts=(),
)
_PLAINTEXT = replace(_NO_TLS, requests=("GET /pay 0",), outcome=Outcome.PLAINTEXT_REFUSED)
_STARTS = "the client 10.0.0.1:40000 sent plaintext that starts with 'GET /pay HTTP/1.1', and the server"
_BY_ALERT = replace(
    _PLAINTEXT,
    problem=f"{_STARTS} answered with the TLS alert unexpected_message",
    troubles=("server, byte 0: HTTP/1.1: wanted lines that end with CRLF and have no control bytes, got others",),
)
_NOT_TLS = replace(
    _NO_TLS,
    protocol="TLS",
    server_name="web.test",
    mutual="unknown",
    resumed="unknown",
    legal=True,
    requests=(),
    outcome=Outcome.HANDSHAKE_FAILED,
    problem="the server 10.0.0.2:443 answered the ClientHello with plaintext that starts with 'HTTP/1.1 400'",
    troubles=("server, byte 0: wanted a content type from 20 to 24, got 72",),
)

INSIDE: Mapping[str, Case] = {
    "HTTP/2 inside": Case(inside(_h2)),
    "gRPC inside": Case(inside(_grpc), replace(_TOLD, requests=("POST /shop.v1.Cart/Add 200 shop.v1.Cart/Add",))),
    "CONNECT tunnel with TLS inside": Case(
        _tunnel, replace(_TOLD, requests=("CONNECT web.test:443 200", "GET /pay 200"))
    ),
    "CONNECT tunnel of HTTP/2": Case(_hbone, replace(_TOLD, requests=("CONNECT 10.0.0.2:80 200", "GET /pay 200"))),
    "plaintext HTTP/1.1": Case(clear(*SAID, port=80), _NO_TLS),
    "plaintext on a TLS port, answered by an alert": Case(
        clear((C, REQUEST), (S, fatal_alert(Alert.UNEXPECTED_MESSAGE)), server_first=True), _BY_ALERT
    ),
    "plaintext on a TLS port, closed": Case(
        clear((C, REQUEST), server_first=True),
        replace(
            _PLAINTEXT, outcome=None, problem=f"{_STARTS} closed the connection without a byte: likely it wants TLS"
        ),
    ),
    "TLS on a plaintext port": Case(_tls_to_http, _NOT_TLS),
}
