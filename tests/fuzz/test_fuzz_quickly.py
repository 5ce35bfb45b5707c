"""Altered samples for each decoder of captures and of the wire, as many as its time allows. The other files of this
directory choose inputs better, check what comes out, and count calls; here a decoder has to survive numbers.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import pytest

from meshtls.capture.application import Conversation
from meshtls.capture.certificates import with_certificates
from meshtls.capture.files.packet import Packet
from meshtls.capture.files.reading import read_packets
from meshtls.capture.keylog import KeyLog
from meshtls.capture.outside import outside_view
from meshtls.capture.server_hello import server_hello_facts
from meshtls.capture.session import TlsSession
from meshtls.capture.tcp import Flows, Limits
from meshtls.errors import RequestError
from meshtls.wire.frame import FrameReader, frame_fields, parse_many, parse_strict
from meshtls.wire.frame.refusal import FrameError
from meshtls.wire.hex_text import parse_hex
from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MessageAssembler
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.extensions import Place, extensions
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import TLS_1_2, TLS_1_3
from meshtls.wire.tls.payloads import decode_payload
from meshtls.wire.tls.reading import Reader
from meshtls.wire.tls.records import RecordReader
from tests.fuzz.running import hammered
from tests.fuzz.test_fuzz_analysis import analyzed, captures
from tests.fuzz.test_fuzz_captures import FILES
from tests.fuzz.test_fuzz_decrypt import HTTP1, HTTP2, TALKS
from tests.fuzz.test_fuzz_frames import SAMPLES as FRAMES
from tests.fuzz.test_fuzz_tls import MESSAGES
from tests.support.packets import EPOCH, MS, Talk
from tests.unit.capture.test_packets import FOUR, SIX, V4, V6
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.test_tls_messages import ALGORITHMS, compressed
from tests.unit.wire.tls.test_tls_records import record


class Decoder(NamedTuple):
    """What is fuzzed: a function from bytes, its samples, and the errors that it documents."""

    read: Callable[[bytes], object]
    samples: Callable[[], Sequence[bytes]]
    errors: tuple[type[Exception], ...] = ()


def _stream(data: bytes) -> None:
    reader = FrameReader()
    half = len(data) // 2
    reader.feed(data[:half])
    reader.feed(data[half:])
    reader.end()


def _columns(data: bytes) -> None:
    found = parse_many(data)
    assert len(found.offsets) == len(found.lengths)


def _records(data: bytes) -> None:
    for side in Side:
        reader, assembler = RecordReader(side), MessageAssembler()
        half = len(data) // 2
        for one in (*reader.feed(data[:half]), *reader.feed(data[half:])):
            assembler.feed(one.payload)


def _message(version: int) -> Callable[[bytes], object]:
    return lambda data: decode_message(data[0] if data else 0, data, version)


def _extensions(data: bytes) -> None:
    for place in Place:
        Reader(data).whole("list", lambda reader, place=place: extensions(reader, place))  # type: ignore[misc]


def _payloads(data: bytes) -> None:
    for kind in (20, 21, 22, 23, 24):
        decode_payload(kind, data)


def _certificate(data: bytes) -> None:
    for version in (TLS_1_2, TLS_1_3):
        with_certificates(decode_message(11, data, version))


class _Nothing:
    """A sink that keeps nothing."""

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Part of ``FlowSink``."""

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Part of ``FlowSink``."""

    def ended(self, side: Side, how: object, time_ns: int) -> None:
        """Part of ``FlowSink``."""


def _flows() -> Flows:
    limits = Limits(flows=4, half_bytes=4000, bytes=6000, fragment_bytes=3000)
    return Flows(lambda _: _Nothing(), limits)


def _packets(*link_types: int) -> Callable[[bytes], None]:
    """Packets of these link types, joined: each is as long as two bytes before it say."""

    def read(data: bytes) -> None:
        flows, at, number = _flows(), 0, 0
        while at + 2 <= len(data):
            size = int.from_bytes(data[at : at + 2], "big")
            packet, kind = data[at + 2 : at + 2 + size], link_types[number % len(link_types)]
            number += 1
            flows.packet(Packet(number, EPOCH + number * MS, 0, kind, packet, len(packet)))
            at += 2 + size
        flows.finish()

    return read


def _joined(packets: Sequence[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in packets)


def _connection() -> list[bytes]:
    talk = Talk()
    frames = [*talk.handshake(), talk.client(b"a" * 40), talk.server(b"b" * 90), talk.client(b"c"), *talk.close()]
    return [_joined(frames)]


def _keylog(data: bytes) -> None:
    keys = KeyLog()
    keys.feed(data)
    keys.finish()


def _session(which: int) -> Callable[[bytes], None]:
    """The bytes of both sides, joined; the first one's length is that of the sample."""
    flights, keys, _ = TALKS[which]
    split = sum(len(data) for side, data in flights if side is Side.CLIENT)

    def read(data: bytes) -> None:
        session = TlsSession(keys, Conversation())
        session.feed(Side.CLIENT, data[:600], 1)
        session.feed(Side.SERVER, data[split:], 2)
        session.feed(Side.CLIENT, data[600:split], 3)
        for side in Side:
            session.end(side)
        outside_view(session)

    return read


def _flights(which: int) -> list[bytes]:
    flights, _, _ = TALKS[which]
    return [b"".join(data for wanted in Side for side, data in flights if side is wanted)]


def _conversation(data: bytes) -> None:
    talk = Conversation()
    half = len(data) // 2
    talk.feed(Side.CLIENT, data[:half], 1)
    talk.feed(Side.SERVER, data[half:], 2)
    for side in Side:
        talk.end(side)
    list(talk.all_troubles())


def _file(data: bytes) -> None:
    reader = read_packets(io.BytesIO(data))
    for _ in reader:
        pass
    assert reader.error is None or reader.error.reason


@cache
def _gzipped() -> list[bytes]:
    return [gzip.compress(one, mtime=0) for one in FILES]


DECODERS: dict[str, Decoder] = {
    "frame": Decoder(parse_strict, lambda: FRAMES, (FrameError,)),
    "fields of a frame": Decoder(frame_fields, lambda: FRAMES),
    "stream of frames": Decoder(_stream, lambda: FRAMES),
    "buffer of frames": Decoder(_columns, lambda: FRAMES),
    "hex": Decoder(
        lambda data: parse_hex(data.decode("latin-1")),
        lambda: [b"00000000: 1100 000d  ..\n", b"0x11, 0x00"],
        (RequestError,),
    ),
    "TLS records": Decoder(_records, lambda: [record(22, one, 0x0301) for one in MESSAGES]),
    "TLS 1.3 messages": Decoder(_message(TLS_1_3), lambda: MESSAGES),
    "TLS 1.2 messages": Decoder(_message(TLS_1_2), lambda: MESSAGES),
    "TLS extensions": Decoder(_extensions, lambda: [rfc8448.CLIENT_HELLO[-200:], b"\0\5\0\x0a\0\1\0"]),
    "other TLS records": Decoder(_payloads, lambda: [b"\2\x28", b"\1\0\4ping" + bytes(16)]),
    "compressed certificates": Decoder(
        decompressed_certificate,
        lambda: [compressed(rfc8448.CERTIFICATE[4:], algorithm=one) for one in ALGORITHMS],
    ),
    "ServerHello": Decoder(server_hello_facts, lambda: [rfc8448.SERVER_HELLO], (ValueError,)),
    "certificates": Decoder(_certificate, lambda: [rfc8448.CERTIFICATE]),
    "capture files": Decoder(_file, lambda: FILES),
    "gzip": Decoder(_file, _gzipped),
    "packets and fragments": Decoder(_packets(1, 101, 113, 0, 276), lambda: [_joined([*FOUR, *SIX, V4, V6] * 3)]),
    "TCP segments": Decoder(_packets(1), _connection),
    "key log": Decoder(_keylog, lambda: [text for _, _, text in TALKS]),
    "TLS 1.2 session with keys": Decoder(_session(0), lambda: _flights(0)),
    "TLS 1.3 session with keys": Decoder(_session(1), lambda: _flights(1)),
    "HTTP/1.1": Decoder(_conversation, lambda: [one + two for one in HTTP1[:3] for two in HTTP1[3:]]),
    "HTTP/2": Decoder(_conversation, lambda: [one + two for one in HTTP2[:2] for two in HTTP2[2:]]),
    "analysis": Decoder(
        lambda data: analyzed(data, captures()[0].made), lambda: [capture.made.data for capture in captures()]
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_survives_altered_samples(name: str) -> None:
    decoder = DECODERS[name]
    hammered(decoder.read, decoder.samples(), *decoder.errors)


def test_an_unexpected_error_is_told_with_its_input() -> None:
    def read(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(AssertionError, match=r"KeyError\(.*\) for the input [0-9a-f]*$"):
        hammered(read, [b"abc"], ValueError)
    hammered(read, [b"abc"], KeyError)
