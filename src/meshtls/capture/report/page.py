"""The page: totals, the table of connections, and for each that is drawn its diagram, facts and costs. Pure.

It needs no other file, and has no script. The policy for content allows its own style and nothing else, so that a
browser would load and run nothing even if a text were not escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from xml.etree.ElementTree import Element

from meshtls.capture.analysis.connection import Connection, End
from meshtls.capture.analysis.row import COLUMNS, NUMBERS, row_of
from meshtls.capture.report.collecting import Drawn, Report
from meshtls.capture.report.costs import failures, latency, overhead, state
from meshtls.capture.report.diagram import diagram
from meshtls.capture.report.markup import add, element, table, written

__all__ = ["page"]

_STYLE = (
    ":root{color-scheme:light dark;--ink:#1b1f24;--soft:#59636e;--line:#d1d9e0;--back:#fff;--bad:#b42318;"
    "--data:#0a6640;--note:#0b57a4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4ae;--line:#3d444d;--back:#0d1117;--bad:#ff8a80;"
    "--data:#6fd39b;--note:#79b8ff}}"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:1.5rem auto;"
    "max-width:76rem;padding:0 1rem}"
    "a{color:var(--note)}.wide{overflow-x:auto}table{border-collapse:collapse;margin:.5rem 0 1rem}"
    "caption{text-align:left;font-weight:600;padding:.3rem 0}"
    "th,td{border-bottom:1px solid var(--line);padding:.2rem .6rem;text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere;font-weight:400}thead th{color:var(--soft)}td.number{text-align:right}"
    ".wide th,.wide td{overflow-wrap:break-word}"
    "section{border-top:2px solid var(--line);margin-top:2rem}.problem{color:var(--bad)}"
    "svg{max-width:100%;height:auto}svg text{font:12px ui-monospace,monospace;fill:var(--ink)}"
    "svg line{stroke:var(--soft)}svg polygon{fill:var(--soft)}svg .lane{fill:var(--soft)}svg .time{fill:var(--soft)}"
    "svg .message line{stroke:var(--note)}svg .message polygon{fill:var(--note)}"
    "svg .data line{stroke:var(--data)}svg .data polygon{fill:var(--data)}"
    "svg .alert line,svg .gap line{stroke:var(--bad);stroke-dasharray:5 3}"
    "svg .alert text,svg .gap text{fill:var(--bad)}svg .alert polygon,svg .gap polygon{fill:var(--bad)}"
    "svg .tcp line,svg .end line{stroke-dasharray:2 3}"
)
_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
_TITLE = "Connections of a capture"


def page(report: Report) -> Iterator[str]:
    """The page, a line at a time."""
    yield "<!DOCTYPE html>"
    yield '<html lang="en">'
    yield written(_head())
    yield "<body><main>"
    yield written(element("h1", _TITLE))
    yield written(_totals(report))
    yield '<div class="wide"><table><caption>Connections</caption>'
    yield written(_columns())
    yield "<tbody>"
    linked = {one.connection.number for one in report.drawn}
    for one in sorted(report.rows, key=_number):
        yield written(_row(one, linked=one.number in linked))
    yield "</tbody></table></div>"
    if report.rows_left_out:
        words = f"Connections without a row: {report.rows_left_out}. --output ndjson has all of them."
        yield written(element("p", words))
    if report.not_drawn:
        words = f"Connections without a diagram, by the page's limit: {report.not_drawn}. --detail N shows one."
        yield written(element("p", words))
    for drawn in sorted(report.drawn, key=lambda one: one.connection.number):
        yield written(_section(drawn))
    yield "</main></body></html>"


def _head() -> Element:
    head = element("head")
    add(head, "meta", charset="utf-8")
    add(head, "meta", http_equiv="Content-Security-Policy", content=_POLICY)
    add(head, "meta", name="referrer", content="no-referrer")
    add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "title", _TITLE)
    add(head, "style", _STYLE)
    return head


def _totals(report: Report) -> Element:
    figures, times = report.figures, report.figures.handshake_ms
    none = "unknown: synthetic headers" if figures.application_bytes else "no application data"
    rows = [
        ("connections", str(figures.connections)),
        ("bytes on the wire", str(figures.wire_bytes)),
        ("bytes of applications", f"{figures.marks.amount}{figures.application_bytes}"),
        ("overhead ratio", f"{figures.marks.ratio}{figures.overhead:.2f}" if figures.overhead is not None else none),
        ("segments retransmitted", str(figures.retransmitted)),
        ("bytes lost", str(figures.lost_bytes)),
        ("outcomes", ", ".join(f"{name} {count}" for name, count in figures.most("outcome"))),
    ]
    if times is not None:
        words = f"median {times.p50:.1f} ms, 90 % {times.p90:.1f} ms, 99 % {times.p99:.1f} ms"
        rows.append((f"TLS handshakes ({times.handshakes} complete)", words))
    made = element("div")
    table(made, (), rows, caption="Totals")
    return made


def _columns() -> Element:
    head = element("thead")
    line = add(head, "tr")
    for title in COLUMNS:
        add(line, "th", title, scope="col")
    return head


def _row(one: Connection, *, linked: bool) -> Element:
    line = element("tr")
    for title, cell in zip(COLUMNS, row_of(one), strict=True):
        if title == "#" and linked:
            add(add(line, "td"), "a", cell, href=f"#c{one.number}")
        else:
            add(line, "td", cell, **({"class_": "number"} if title in NUMBERS else {}))
    return line


def _section(drawn: Drawn) -> Element:
    one = drawn.connection
    made = element("section", id=f"c{one.number}")
    add(made, "h2", f"#{one.number}: {one.client.address} to {one.server.address}")
    if one.outcome is not None:
        add(made, "p", f"Verdict: {one.outcome.verdict.value}, {one.outcome.name}: {one.outcome.value}.")
    else:
        why = f": {one.unknown_because}" if one.unknown_because else ""
        add(made, "p", f"Verdict: none. The capture does not prove how it ended{why}.")
    if one.problem:
        add(made, "p", f"Problem: {one.problem}.", class_="problem")
    if one.advice:
        add(made, "p", f"Advice: {one.advice}.")
    add(made, "div", class_="wide").append(diagram(drawn))
    if one.handshake is None:
        add(made, "p", "No TLS was seen: the diagram has only the beginning and the end of the TCP connection.")
    table(made, (), _facts(one), caption="Facts")
    table(made, (), overhead(one), caption="Overhead")
    table(made, (), latency(one), caption="Latency")
    table(made, (), state(one, drawn.state), caption="State")
    lost = list(failures(drawn.state))
    if lost:
        table(made, ("what", "of the client", "of the server"), lost, caption="Loss, duplication and reordering")
    else:
        add(made, "p", "No loss, duplication or reordering was seen.")
    _lists(made, one)
    return made


def _facts(one: Connection) -> Iterator[tuple[str, str]]:
    yield "start", datetime.fromtimestamp(one.start_ns // 10**9, UTC).isoformat()
    yield "protocol", one.protocol
    if one.preamble:
        yield "before it", one.preamble
    if one.first_line:
        yield "first line", one.first_line
    for side, end in (("client", one.client), ("server", one.server)):
        yield side, _identity(end)
        yield f"end of the {side}", end.ending or "not seen"
    if one.roles_guessed:
        yield "client and server", "guessed by the ports: they may be the other way round"
    shake = one.handshake
    if shake is None:
        return
    yield "mutual TLS", f"{shake.mutual}: {shake.mutual_reason}" if shake.mutual_reason else shake.mutual
    for name in ("version", "suite", "group", "server_name", "alpn"):
        if value := getattr(shake, name):
            yield name.replace("_", " "), value
    yield "resumed", shake.resumed
    yield "HelloRetryRequest", "yes" if shake.retried else "no"
    yield "decrypted", "yes" if shake.decrypted else "no"


def _identity(end: End) -> str:
    peer = end.peer
    if peer is None:
        return f"{end.address}, no certificate seen"
    unverified = ": ".join(filter(None, ("not verified", peer.unverified_because)))
    checked = {None: unverified, True: "verified", False: f"refused: {peer.why_refused}"}[peer.verified]
    return f"{end.address}, {peer.spiffe_id or 'no SPIFFE ID'}, certificates: {peer.certificates}, {checked}"


def _lists(made: Element, one: Connection) -> None:
    requests = [(req.method, req.target, str(req.status or "none"), req.grpc or "-") for req in one.requests]
    if requests:
        table(made, ("method", "target", "status", "gRPC"), requests, caption="Requests")
    if one.requests_left_out:
        add(made, "p", f"Requests left out: {one.requests_left_out}.")
    if one.troubles:
        add(made, "h3", "What could not be read")
        listed = add(made, "ul")
        for trouble in one.troubles:
            add(listed, "li", trouble)


def _number(one: Connection) -> int:
    return one.number
