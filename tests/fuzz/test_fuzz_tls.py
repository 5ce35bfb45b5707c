"""Fuzz targets for the decoder of TLS: records, messages, extensions, other records, compressed certificates."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from meshtls.wire.handshake_fields import fields_of
from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MAX_MESSAGE, MessageAssembler
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.extensions import Place, extensions
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import EXTENSIONS, HandshakeType
from meshtls.wire.tls.payloads import decode_payload
from meshtls.wire.tls.reading import DecodeError, Reader
from meshtls.wire.tls.records import Record, RecordReader
from tests.fuzz.running import documented, fuzzed, spliced
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.test_tls_messages import ALGORITHMS, compressed, message
from tests.unit.wire.tls.test_tls_records import SSL_2_0, pieces, record
from tests.unit.wire.tls.trees import checked, vector

MESSAGES = [
    *(value for name, value in vars(rfc8448).items() if name.isupper()),
    message(HandshakeType.SERVER_KEY_EXCHANGE, b"\x03\0\x1d" + vector(b"k" * 32, 1) + b"\x04\x03" + vector(b"sig", 2)),
    message(HandshakeType.CLIENT_KEY_EXCHANGE, vector(b"k" * 32, 1)),
    message(HandshakeType.CERTIFICATE_REQUEST, vector(b"\1\x40", 1) + vector(b"\x04\x03", 2) + vector(b"", 2)),
    message(HandshakeType.NEW_SESSION_TICKET, bytes(8) + vector(b"\0", 1) + vector(b"ticket", 2) + vector(b"", 2)),
    message(HandshakeType.CERTIFICATE_STATUS, b"\1" + vector(b"ocsp", 3)),
    compressed(rfc8448.CERTIFICATE[4:]),
]
_VERSIONS = st.sampled_from([0, 0x0300, 0x0301, 0x0303, 0x0304])


def test_tls_records_come_out_the_same_however_they_are_cut() -> None:
    samples = [*(record(22, one, 0x0301) for one in MESSAGES), SSL_2_0, record(21, b"\2\x28"), record(23, bytes(40))]

    def target(parts: list[bytes], sizes: list[int], side: Side, keep: bool, lost: tuple[int, int]) -> None:
        data = b"".join(parts)

        def read(given: list[bytes]) -> tuple[list[Record], DecodeError | None]:
            reader = RecordReader(side, keep_application_data=keep)
            return [one for part in given for one in reader.feed(part)], reader.error

        def read_with_loss() -> None:
            reader = RecordReader(side, keep_application_data=keep)
            reader.feed(data[: lost[0]])
            reader.lost(lost[1])
            reader.feed(data[lost[0] + lost[1] :])

        whole, cut = (documented(partial(read, given), size=len(data)) for given in ([data], pieces(data, sizes)))
        assert whole == cut
        assert whole is not None
        assert sum(one.length for one in whole[0]) <= len(data)
        documented(read_with_loss, size=len(data))

    fuzzed(
        target,
        st.lists(st.sampled_from(samples) | spliced(samples) | st.binary(max_size=8), max_size=5),
        st.lists(st.integers(0, 40), max_size=12),
        st.sampled_from(Side),
        st.booleans(),
        st.tuples(st.integers(0, 400), st.integers(0, 400)),
    )


def test_tls_messages_are_put_together_the_same_however_they_are_cut() -> None:
    def target(data: bytes, sizes: list[int]) -> None:
        def read(given: list[bytes]) -> tuple[list[bytes], DecodeError | None, bytes]:
            assembler = MessageAssembler()
            found = [one for part in given for one in assembler.feed(part)]
            return found, assembler.error, assembler.pending

        whole, cut = (documented(partial(read, given), size=len(data)) for given in ([data], pieces(data, sizes)))
        assert whole == cut

    fuzzed(target, spliced([b"".join(MESSAGES), *MESSAGES]), st.lists(st.integers(0, 40), max_size=12))


def test_tls_messages() -> None:
    def target(data: bytes, kind: int | None, version: int, suite: int | None) -> None:
        shown = data[0] if kind is None and data else kind or 0
        tree = documented(lambda: decode_message(shown, data, version, suite=suite), size=len(data))
        assert tree is not None
        checked(tree, data)
        documented(lambda: fields_of(shown, data), size=len(data))

    kinds = st.none() | st.sampled_from([*map(int, HandshakeType), 99])
    suites = st.none() | st.sampled_from([0x1301, 0xC02B, 0x009C, 0x009E, 0x00A8, 0xC018, 0x0003])
    fuzzed(target, spliced(MESSAGES) | st.binary(max_size=100), kinds, _VERSIONS, suites)


def test_tls_extensions() -> None:
    def target(found: list[tuple[int, bytes]], place: Place, after: bytes) -> None:
        data = b"".join(kind.to_bytes(2, "big") + vector(content, 2) for kind, content in found)
        data = vector(data, 2) + after
        tree = documented(lambda: Reader(data).whole("list", lambda reader: extensions(reader, place)), size=len(data))
        assert tree is not None
        checked(tree, data)

    sized = st.binary(max_size=20).flatmap(lambda one: st.sampled_from([vector(one, size) for size in (1, 2, 3)]))
    contents = st.binary(max_size=12) | st.lists(sized | st.binary(max_size=6), max_size=3).map(b"".join) | sized
    nested = contents | contents.flatmap(lambda one: st.sampled_from([vector(one, size) for size in (1, 2)]))
    kinds = st.sampled_from([*EXTENSIONS, 0x0A0A, 4321])
    extension = st.tuples(kinds, nested)
    fuzzed(target, st.lists(extension, max_size=4), st.sampled_from(Place), st.binary(max_size=3))


def test_tls_records_that_carry_no_message() -> None:
    def target(kind: int, payload: bytes) -> None:
        tree = documented(lambda: decode_payload(kind, payload), size=len(payload))
        assert tree is not None
        checked(tree, payload)

    samples = [b"\2\x28", b"\1", b"\1\0\4ping" + bytes(16), SSL_2_0[2:]]
    fuzzed(target, st.sampled_from([20, 21, 22, 23, 24, 25, 0x80]), spliced(samples) | st.binary(max_size=20))


def test_compressed_certificates() -> None:
    def target(data: bytes) -> None:
        found = documented(lambda: decompressed_certificate(data), size=len(data))
        assert isinstance(found, DecodeError) or found is not None
        assert isinstance(found, DecodeError) or len(found) <= MAX_MESSAGE

    contents = rfc8448.CERTIFICATE[4:], bytes(1 << 20)
    samples = [compressed(content, algorithm=algorithm) for content in contents for algorithm in ALGORITHMS]
    fuzzed(target, spliced(samples) | st.binary(max_size=30))
