"""A host that HTTP/1.1 refuses in Host, HTTP/2 refuses in :authority and in Host."""

from __future__ import annotations

import hpack
import pytest

from meshtls.wire.http import Forward, HttpRequest
from meshtls.wire.http1.filter import Http1Filter
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE
from tests.unit.wire.http2.ends import headers, settings

#: Whether they are accepted.
HOSTS = {
    "h": True,
    "h.test:80": True,
    "h_1~.test": True,
    "[::1]": True,
    "[::1]:8080": True,
    "h:0": True,
    "h:080": True,
    "h:65535": True,
    "h:": False,
    "h:65536": False,
    "h:99999": False,
    "h:000080": False,
    "h:-1": False,
    "h:+1": False,
    "h:8a": False,
    ":80": False,
    "h:80:80": False,
    "::1": False,
    "[::1": False,
    "[::1]80": False,
    "%68": False,
    "h,i": False,
    "u@h": False,
    "h/": False,
    "\xb2": False,
    "h:\xb2": False,
}


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
@pytest.mark.parametrize("host", HOSTS)
def test_both_versions_take_the_same_hosts(host: str, method: str) -> None:
    def judge(http: HttpRequest, answer: object) -> None:
        judged.append(http.host)

    accepted = HOSTS[host] and (method == "GET" or host.rpartition(":")[2].isdigit())
    for sent in (http1(host, method), *http2(host, method)):
        judged: list[str] = []
        one = Http2Filter(judge, lambda: None) if sent.startswith(PREFACE) else Http1Filter(judge, lambda: None)
        one.from_client(sent)
        assert judged == ([host] if accepted else [])


def http1(host: str, method: str) -> bytes:
    return f"{method} {host if method == 'CONNECT' else '/'} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")


def http2(host: str, method: str) -> list[bytes]:
    pseudo = [(b":method", method.encode())]
    if method != "CONNECT":
        pseudo += [(b":scheme", b"http"), (b":path", b"/")]
    raw = host.encode("latin-1")
    heads = [[*pseudo, (b":authority", raw)]]
    if method != "CONNECT":
        heads.append([*pseudo, (b"host", raw)])
    return [PREFACE + settings() + headers(1, hpack.Encoder().encode(head), END_HEADERS | END_STREAM) for head in heads]


@pytest.mark.parametrize("host", [host for host in HOSTS if host.isascii()])
def test_a_ruling_with_a_host_that_is_refused_is_answered_with_500_and_not_written_for_the_app(host: str) -> None:
    def judge(http: HttpRequest, answer: object) -> None:
        assert callable(answer)
        answer(Forward(HttpRequest(http.method, host, http.path)))

    first, second = Http1Filter(judge, lambda: None), Http2Filter(judge, lambda: None)
    first.from_client(http1("h", "GET"))
    second.from_client(http2("h", "GET")[0])
    for written, refused in (
        (b"GET / " in first.for_app(), b" 500 " in first.for_client()),
        (b":method\x03GET" in second.for_app(), b":status\x03500" in second.for_client()),
    ):
        assert (written, refused) == (HOSTS[host], not HOSTS[host])
