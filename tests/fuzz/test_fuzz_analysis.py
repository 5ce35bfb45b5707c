"""Fuzz targets for the analysis of a capture as a whole: from the file's bytes to records, fields and the HTML page."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.bundles import CaptureBundle
from meshtls.capture.analysis.connection import Connection, as_json
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.certificates import RULES, with_certificates
from meshtls.capture.events import MessageSeen
from meshtls.capture.files.reading import read_packets
from meshtls.capture.keylog import KeyLog
from meshtls.capture.report.collecting import Report
from meshtls.capture.report.page import page
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import TLS_1_2, TLS_1_3, HandshakeType
from tests.corpus.case import Made
from tests.corpus.corpus import CORPUS
from tests.fuzz.running import documented, fuzzed, spliced
from tests.support.packets import EPOCH, MS, captured, pcap

#: Captures of the corpus, one for each thing that the analysis knows.
NAMES = (
    "TLS 1.3 with a bundle",
    "TLS 1.2 of both",
    "TLS 1.2 resumed",
    "HelloRetryRequest",
    "client of a foreign CA",
    "KeyUpdate of both",
    "HTTP/2 inside",
    "gRPC inside",
    "CONNECT tunnel with TLS inside",
    "CONNECT tunnel of HTTP/2",
    "plaintext HTTP/1.1",
    "plaintext on a TLS port, answered by an alert",
    "TLS on a plaintext port",
    "segment sent again, overlapping",
)
#: What happens to a packet: by its place, a kind and two numbers.
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.sampled_from(("lost", "twice", "swapped", "flipped", "cut", "later")),
        st.integers(0, 1600),
        st.integers(0, 255),
    ),
    max_size=5,
)


class Capture(NamedTuple):
    """A capture of the corpus, and its frames, which are Ethernet's."""

    made: Made
    frames: Sequence[bytes]


@cache
def captures() -> tuple[Capture, ...]:
    """All of NAMES."""
    found = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as directory:
            made = CORPUS[name].make(Path(directory))
        found.append(Capture(made, [packet.data for packet in read_packets(io.BytesIO(made.data))]))
    return tuple(found)


def analyzed(data: bytes, made: Made) -> tuple[list[Connection], Analysis]:
    """What ``meshtls capture analyze`` does, to the page and to the fields of each message."""
    report = Report()
    sessions: list[Watched] = []

    def keep(watched: Watched) -> None:
        sessions.append(watched)
        report.keep(watched)

    bundle = CaptureBundle(made.bundle) if made.bundle else None
    analysis = Analysis(io.BytesIO(data), KeyLog(made.keys), bundle, keep=keep)
    found = []
    for one in analysis:
        found.append(one)
        report.add(one)
    for watched in sessions:
        tls = watched.conversation.tls
        for event in tls.events if tls is not None else ():
            if isinstance(event, MessageSeen) and tls is not None:
                with_certificates(decode_message(event.kind, event.data, tls.version))
    assert all(page(report))
    return found, analysis


def checked(data: bytes, made: Made) -> None:
    """The analysis gives records that JSON can have and that a terminal can show, with bounded work."""
    told = documented(lambda: analyzed(data, made), size=len(data), calls=100_000)
    assert told is not None
    records, analysis = told
    packets = sum(one.client.packets + one.server.packets for one in records)
    assert packets <= analysis.packets
    for one in records:
        words = json.dumps(as_json(one), ensure_ascii=False)
        assert words.isprintable(), words
        assert one.client.tls_bytes <= one.client.tcp_bytes + one.client.lost_bytes
        assert one.server.tls_bytes <= one.server.tcp_bytes + one.server.lost_bytes


def test_captures_whose_packets_are_lost_altered_and_reordered() -> None:
    def target(which: int, changes: list[tuple[int, str, int, int]]) -> None:
        capture = captures()[which]
        frames = list(capture.frames)
        delays: dict[int, int] = {}
        for place, kind, at, value in changes:
            here = place % len(frames)
            frame = bytearray(frames[here])
            if kind == "lost" and len(frames) > 1:
                del frames[here]
            elif kind == "twice":
                frames.insert(here, bytes(frame))
            elif kind == "swapped":
                frames[here], frames[here - 1] = frames[here - 1], frames[here]
            elif kind == "flipped" and frame:
                frame[at % len(frame)] ^= value
                frames[here] = bytes(frame)
            elif kind == "cut":
                frames[here] = bytes(frame[: max(14, at)])
            elif kind == "later":
                delays[here] = value * 20 * MS
        now, packets = EPOCH, []
        for number, packet in enumerate(captured(frames)):
            now += MS + delays.get(number, 0)
            packets.append(packet._replace(time_ns=now))
        checked(pcap(packets), capture.made)

    fuzzed(target, st.integers(0, len(NAMES) - 1), CHANGES)


def test_captures_whose_files_are_altered() -> None:
    files = [capture.made.data for capture in captures()]

    def target(data: bytes, which: int) -> None:
        checked(data, captures()[which]._replace(frames=()).made)

    fuzzed(target, spliced(files), st.integers(0, len(NAMES) - 1))


def _certificates() -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    for capture in captures():
        kept: list[Watched] = []
        list(Analysis(io.BytesIO(capture.made.data), KeyLog(capture.made.keys), keep=kept.append))
        for watched in kept:
            tls = watched.conversation.tls
            found += [
                (tls.version, event.data)
                for event in (tls.events if tls is not None else ())
                if tls is not None and isinstance(event, MessageSeen) and event.kind == HandshakeType.CERTIFICATE
            ]
    return found


def test_certificates_field_by_field() -> None:
    messages = _certificates()
    assert {version for version, _ in messages} == {TLS_1_2, TLS_1_3}

    def target(version: int, data: bytes) -> None:
        kind = int(HandshakeType.CERTIFICATE)
        tree = documented(lambda: with_certificates(decode_message(kind, data, version)), size=len(data))
        assert tree is not None
        covers(tree, data)

    fuzzed(target, st.sampled_from((TLS_1_2, TLS_1_3)), spliced([data for _, data in messages]))


def covers(tree: Field, data: bytes) -> None:
    """Each byte is in one leaf; a rule has none."""
    leaves = [one for one in tree.leaves() if one.length or one.name != RULES]
    assert b"".join(data[one.offset : one.end] for one in leaves) == data
