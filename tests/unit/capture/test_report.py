"""The HTML page of a capture: complete, self-contained, bounded, and safe whatever the connections say."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import msgspec
import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Peer, Request
from meshtls.capture.keylog import KeyLog
from meshtls.capture.report.collecting import Report
from meshtls.capture.report.moments import MOST_MOMENTS
from meshtls.capture.report.page import page
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, shaken

HOSTILE = "</title></svg><script>alert(1)</script>\"' onload=x <img src=http://evil.test/>\x1b[31m\u202e"
_VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that each element is closed in turn, and keeps tags, attributes and text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.texts: list[str] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(attrs)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def reported(tape: Tape, keys: Path | None = None, report: Report | None = None) -> Report:
    made = report or Report()
    log = KeyLog(keys.read_bytes()) if keys is not None else None
    for one in Analysis(io.BytesIO(tape.pcapng()), log, keep=made.keep):
        made.add(one)
    return made


def written(report: Report) -> str:
    return "\n".join(page(report))


def diagrams(document: str) -> list[Element]:
    parts = [part.partition("</svg>")[0] for part in document.split("<svg ")[1:]]
    return [fromstring(f"<svg {part}</svg>") for part in parts]  # noqa: S314 - our own page


def labels(svg: Element) -> list[str]:
    return ["".join(group.findall("text")[-1].itertext()) for group in svg.findall("g")]


def three(directory: Path) -> Tape:
    tape = Tape()
    tape.wire(shaken(directory))
    tape.wire(shaken(directory, mutual=False))
    tape.plaintext(REQUEST, RESPONSE)
    return tape


def test_the_page_tells_of_each_connection_and_loads_nothing(tmp_path: Path) -> None:
    document = written(reported(three(tmp_path), tmp_path / "keys"))
    found = Page(document)
    style = document.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert ("content", policy) in found.attributes
    assert found.tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "form"})
    assert {name for name, _ in found.attributes}.isdisjoint({"src", "style", "srcset", "xlink:href"})
    assert {value for name, value in found.attributes if name == "href"} == {"#c1", "#c2", "#c3"}
    assert {("id", "c1"), ("id", "c2"), ("id", "c3")} <= found.attributes
    assert "http:" not in document
    assert "https:" not in document
    assert "url(" not in document
    for wanted in (
        "Verdict: allowed, OK: the connection was allowed and closed by both sides.",
        "Problem: the server 10.0.0.2:443 (spiffe://a.test/web) sent the alert certificate_required: "
        "the client 10.0.0.1:40002 presented no certificate.",
        "Advice: call through a sidecar, which has an SVID; check it with `meshtls check --sidecar FILE`.",
        "spiffe://a.test/client",
        "/pay?(12 bytes)",
        "yes: the client sent a certificate",
        "overhead ratio (other bytes for each byte of application data)",
        "share of both handshakes in the duration",
        "session tickets for the client to keep",
        "largest record that the server buffers",
        "No loss, duplication or reordering was seen.",
    ):
        assert wanted in found.text
    assert "token=secret" not in document


def test_a_diagram_has_the_messages_of_both_sides_with_their_lengths_in_order(tmp_path: Path) -> None:
    first, refused, plain = diagrams(written(reported(three(tmp_path), tmp_path / "keys")))
    shown = [re.sub(r", \d+ bytes?", "", one) for one in labels(first)]
    assert shown[:5] == ["SYN", "SYN ACK", "ACK", "ClientHello", "ServerHello"]
    assert [one for one in shown if one.startswith(("Certificate", "Finished"))] == [
        *("CertificateRequest", "Certificate", "CertificateVerify", "Finished"),
        *("Certificate", "CertificateVerify", "Finished"),
    ]
    assert f"application data, {len(REQUEST)} bytes" in labels(first)
    assert f"application data, {len(RESPONSE)} bytes" in labels(first)
    assert shown[-4:] == [*["alert: close_notify"] * 2, "client: closed", "server: closed"]
    assert not first.findall("g[@class='alert']")
    assert len(refused.findall("g[@class='alert']")) == 1
    assert "alert: certificate_required" in labels(refused)
    assert labels(plain) == ["SYN", "SYN ACK", "ACK", "server: closed", "client: closed"]
    heights = [float(line.attrib["y1"]) for group in first.findall("g") for line in group.findall("line")]
    assert heights == sorted(set(heights))


@pytest.mark.parametrize("keys", [True, False], ids=["with keys", "without keys"])
def test_tickets_are_counted_with_keys_and_unknown_without(tmp_path: Path, *, keys: bool) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path))
    texts = Page(written(reported(tape, tmp_path / "keys" if keys else None))).texts
    tickets = texts[texts.index("session tickets for the client to keep") + 1]
    assert re.fullmatch(r"2, \d+ bytes" if keys else "unknown without keys", tickets)


def test_hostile_values_are_text_and_nothing_else(tmp_path: Path) -> None:
    report = reported(three(tmp_path), tmp_path / "keys")
    drawn = report.drawn[0]
    shake = drawn.connection.handshake
    assert shake is not None
    end = msgspec.structs.replace(drawn.connection.client, peer=Peer(HOSTILE, 1, False, HOSTILE), ending=HOSTILE)
    hostile = msgspec.structs.replace(
        drawn.connection,
        client=end,
        protocol=HOSTILE,
        first_line=HOSTILE,
        problem=HOSTILE,
        advice=HOSTILE,
        requests=(Request(HOSTILE, HOSTILE, 200, HOSTILE),),
        troubles=(HOSTILE,),
        handshake=msgspec.structs.replace(shake, server_name=HOSTILE, alpn=HOSTILE, state=HOSTILE, group=HOSTILE),
    )
    plain = Page(written(report))
    moment = drawn.first[3]._replace(words=HOSTILE)
    report.rows[0], report.drawn[0] = hostile, drawn._replace(connection=hostile, first=(moment,))
    document = written(report)
    found = Page(document)
    assert found.tags <= plain.tags | {"h3", "ul", "li", "p"}
    assert {name for name, _ in found.attributes} <= {name for name, _ in plain.attributes}
    assert "<script" not in document
    assert "\x1b" not in document
    assert "\u202e" not in document
    assert sum("<script>alert(1)</script>" in text for text in found.texts) >= 12
    assert len(diagrams(document)) == 3


def test_a_hostile_server_name_in_a_capture_is_escaped(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    side, hello = wire.flights[0]
    assert b"web.test" in hello
    wire.flights[0] = (side, hello.replace(b"web.test", b"<b>&\"'>/"))
    tape = Tape()
    tape.wire(wire)
    document = written(reported(tape))
    assert "<b>" not in document
    assert "<b>&\"'>/" in Page(document).texts


def test_diagrams_and_rows_are_bounded_and_the_page_says_what_is_left_out(tmp_path: Path) -> None:
    tape, fine, refused = Tape(), shaken(tmp_path), shaken(tmp_path, mutual=False, version=2)
    for wire in (fine, fine, fine, refused, refused):
        tape.wire(wire)
    report = reported(tape, report=Report(most_drawn=3, most_rows=4))
    assert [(one.connection.number, bool(one.connection.problem)) for one in report.drawn] == [
        (1, False),
        (2, False),
        (4, True),
    ]
    found = Page(document := written(report))
    assert "Connections without a row: 1. --output ndjson has all of them." in found.texts
    assert "Connections without a diagram, by the page's limit: 2. --detail N shows one." in found.texts
    assert len(diagrams(document)) == 3
    assert {value for name, value in found.attributes if name == "href"} == {"#c1", "#c2", "#c4"}


def test_a_long_talk_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    tape, wire = Tape(), shaken(tmp_path, version=2)
    side_of = [side for side, _ in wire.flights]
    data = [at for at, (_, said) in enumerate(wire.flights) if said[0] == 0x17]
    request, response = wire.flights[data[0]], wire.flights[data[1]]
    assert side_of[data[0]] is not side_of[data[1]]
    wire.flights[data[1] + 1 : data[1] + 1] = [request, response] * 100
    tape.wire(wire)
    report = reported(tape)
    (drawn,) = report.drawn
    assert (len(drawn.first) + len(drawn.last), drawn.left_out > 80) == (MOST_MOMENTS, True)
    assert drawn.last[-1].kind == "end"
    (svg,) = diagrams(written(report))
    assert f"not drawn: {drawn.left_out}" in [text.text for text in svg.findall("text")]


def test_loss_and_duplication_are_counted_and_drawn(tmp_path: Path) -> None:
    wire, tape = shaken(tmp_path), Tape()
    talk = tape.talk()
    tape.frames += talk.handshake()
    for at, (side, data) in enumerate(wire.flights):
        frame = talk.send(side, data)
        tape.frames += {0: [frame, frame], 1: []}.get(at, [frame])
    tape.frames += talk.close()
    document = written(reported(tape, tmp_path / "keys"))
    texts = Page(document).texts
    rows = texts[texts.index("Loss, duplication and reordering") :]
    lost, twice = rows.index("bytes lost"), rows.index("packets captured twice")
    assert rows[lost + 1 : lost + 3] == ["0", str(len(wire.flights[1][1]))]
    assert rows[twice + 1 : twice + 3] == ["1", "0"]
    (svg,) = diagrams(document)
    assert [one for one in labels(svg) if one.startswith("gap: ") and "lost" in one]
