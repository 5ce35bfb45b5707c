"""Fuzz targets for input from connections: TLS's first bytes, HTTP/2, protobuf messages, JSON lines, /proc."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any, TypeVar

import hpack
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import DecodeError, Message
from hypothesis import strategies as st

from meshtls.address import Address
from meshtls.agent.attest.cgroup import container_selectors
from meshtls.agent.attest.proc_text import parse_stat, parse_status
from meshtls.agent.cache import View
from meshtls.agent.sds_secrets import secrets_of
from meshtls.agent.sds_state import DeltaState, WorldState
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import AccessError, LocalIdentityError, RequestError
from meshtls.node.decode import LineCutter, decode
from meshtls.proto import server_pb
from meshtls.proto import workload_pb as pb
from meshtls.proto.envoy import discovery_pb
from meshtls.serverapi.messages import (
    agent_of,
    bundle_of,
    bundles_of,
    chain_of,
    entry_message,
    entry_of,
    filter_of,
    issuance_of,
)
from meshtls.svid.jwt import sign
from meshtls.svid.presented import MAX_CHAIN
from meshtls.wire import xff
from meshtls.wire.http import Answer, Forward, HttpRequest, Refuse
from meshtls.wire.http2.fields import FieldDecoder
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import PREFACE, FrameReader, Kind, ProtocolError, frame
from meshtls.wire.http2.headers import HeaderDecoder
from meshtls.wire.http2.settings import MAX_FRAME
from meshtls.wire.proxy_protocol import ProxiedTls, proxy_header, read_proxy_header
from meshtls.wire.tls import FirstBytes, certificates_of_message, first_bytes_of
from meshtls.workload.convert import (
    x509_bundles,
    x509_bundles_message,
    x509_context,
    x509_context_message,
    x509_trust,
    x509_trust_message,
)
from meshtls.workload.convert_jwt import jwt_bundles, jwt_bundles_message, jwt_svids, jwt_svids_message, validated
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.values import json_values, odd_text, spoilt
from tests.support.agent import entry
from tests.support.authority import context_for, make_authority, svid_for
from tests.support.certs import NOW, key
from tests.support.crls import crl
from tests.support.verifying import INTERMEDIATE, ROOT
from tests.unit.wire.http2.ends import CONNECT, Side, pair
from tests.unit.wire.http2.filtered import GET, GRPC, POST

M = TypeVar("M", bound=Message)

GOOD_REQUEST, GOOD_UPLOAD = hpack.Encoder().encode(GET), hpack.Encoder().encode([*POST, ("content-length", "9")])
OURS, PARTNER = make_authority(), make_authority("partner.test")
CONTEXT = context_for(OURS, "/web", federated=[PARTNER.bundle])
JWT = TrustBundle(OURS.trust_domain, (), {"k": key().public_key()}, 1, 2)
TOKEN = sign(CONTEXT.svid.spiffe_id, ["db"], key=key(), key_id="k", now=NOW, ttl=NOW - NOW.replace(minute=0, hour=0))


PROXIED = (
    b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n",
    b"PROXY UNKNOWN\r\n",
    proxy_header(("203.0.113.7", 1), ("192.0.2.1", 2), ProxiedTls("spiffe://a.test/b", "TLSv1.3", "AES", "b.test")),
    proxy_header(("::1", 1), ("::2", 2), None),
    proxy_header(None, None, None),
)


def test_a_proxy_protocol_header() -> None:
    def target(data: bytes) -> None:
        header = documented(lambda: read_proxy_header(data), RequestError, size=len(data))
        if header is not None:
            assert header.size <= min(len(data), 16 + 8192)
            assert read_proxy_header(data[: header.size]) == header
            for shorter in range(max(0, header.size - 40), header.size):
                assert read_proxy_header(data[:shorter]) is None
            if header.source is not None:
                assert Address.parse(str(Address(*header.source))) == Address(*header.source)

    fuzzed(target, spliced(PROXIED) | st.binary(max_size=64))


def test_the_client_in_x_forwarded_for() -> None:
    def target(lines: list[str], proxies: int) -> None:
        headers = tuple((xff.HEADER, line) for line in lines)
        client = documented(lambda: xff.client_of(headers, proxies), size=sum(map(len, lines)))
        assert client is not None
        if client != xff.UNKNOWN:
            ip_address(client)
            # What is appended is one more address on the right, so the client is one further from it.
            assert xff.client_of(xff.appended(headers, "192.0.2.1"), proxies + 1) == client

    entry_text = st.sampled_from(("203.0.113.1", "::1", "", " ", ",", "a", "1.2.3.4:5", "[::1]")) | odd_text
    fuzzed(target, st.lists(st.lists(entry_text, max_size=4).map(",".join), max_size=3), st.integers(1, 5))


def test_the_first_bytes_of_a_connection() -> None:
    def target(data: bytes) -> None:
        verdicts = [first_bytes_of(data[:length]) for length in range(len(data) + 1)]
        assert verdicts[0] is FirstBytes.UNDECIDED
        decided = [one for one in verdicts if one is not FirstBytes.UNDECIDED]
        assert len(set(decided)) <= 1, "later bytes changed the verdict"
        assert len(data) < 3 or decided

    fuzzed(
        target,
        spliced([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/1.1\r\n"]) | st.binary(max_size=6),
    )


def test_certificate_messages() -> None:
    def message(version: int, *ders: bytes) -> bytes:
        extensions = b"\0\0" if version == 0x0304 else b""
        listed = b"".join(len(der).to_bytes(3) + der + extensions for der in ders)
        body = (b"\0" if extensions else b"") + len(listed).to_bytes(3) + listed
        return b"\x0b" + len(body).to_bytes(3) + body

    def target(version: int, data: bytes) -> None:
        found = documented(lambda: certificates_of_message(version, data, limit=MAX_CHAIN), ValueError, size=len(data))
        assert found is None or sum(map(len, found)) <= len(data)

    versions = (0x0303, 0x0304)
    for version in versions:
        assert certificates_of_message(version, message(version, b"leaf", b"ca"), limit=2) == [b"leaf", b"ca"]
    samples = [message(version, b"leaf", b"x" * 300) for version in versions]
    fuzzed(target, st.sampled_from(versions), spliced(samples) | st.binary(max_size=20))


def frames() -> st.SearchStrategy[bytes]:
    payloads = st.binary(max_size=20) | st.sampled_from(
        [
            CONNECT,
            b"\0" * 4,
            b"\0" * 8,
            b"\x88",
            struct.pack(">L", 2**31 - 1),
            struct.pack(">HL", 4, 2**31),
            b"\x3f\xe1\xff\x03",
        ]
    )
    kinds, flags = st.integers(0, 12), st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D, 0xFF])
    numbers = st.integers(0, 6) | st.sampled_from([2**31 - 1, 2**32 - 1])
    return st.builds(frame, kinds, flags, numbers, payloads)


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


def test_http2_frames_come_out_the_same_however_they_are_cut() -> None:
    def target(parts: list[bytes], sizes: list[int], cut: int) -> None:
        data = b"".join(parts)
        data = data[: len(data) - cut]

        def read(pieces: list[bytes]) -> tuple[list[Any], bool]:
            reader, found = FrameReader(MAX_FRAME), []
            for piece in pieces:
                try:
                    found += [(kind, flags, number, bytes(got)) for kind, flags, number, got, _ in reader.feed(piece)]
                except ProtocolError:
                    return found, True
            return found, False

        whole, cut_up = (documented(partial(read, pieces), size=len(data)) for pieces in ([data], chunks(data, sizes)))
        assert whole is not None
        assert cut_up is not None
        if not whole[1] and not cut_up[1]:
            assert _joined(whole[0]) == _joined(cut_up[0])

    fuzzed(
        target,
        st.lists(frames() | st.binary(max_size=12), max_size=6),
        st.lists(st.integers(1, 30), max_size=8),
        st.integers(0, 5),
    )


def _joined(found: list[Any]) -> list[tuple[int, int, bytes]]:
    """DATA may come in pieces, and END_STREAM is with the last."""
    joined: list[tuple[int, int, bytes]] = []
    for kind, _, number, payload in found:
        if kind == Kind.DATA and joined and joined[-1][:2] == (Kind.DATA, number):
            joined[-1] = (kind, number, joined[-1][2] + payload)
        else:
            joined.append((kind, number, payload))
    return joined


def test_http2_header_blocks() -> None:
    def target(blocks: list[bytes]) -> None:
        reader = HeaderDecoder()
        for block in blocks:
            for read in (reader.request, reader.status):
                decode_block = partial(read, block, 1)
                documented(decode_block, ProtocolError, size=len(block), per_byte=2000)

    samples = [
        CONNECT,
        b"\x88",
        b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        b"\x40\x01a\x01b\xbe\xbe",
    ]
    fuzzed(target, st.lists(spliced(samples) | st.binary(max_size=40), max_size=4))


def test_http2_connections() -> None:
    def target(client: bool, parts: list[bytes], sizes: list[int]) -> None:
        ours, theirs = pair() if client else reversed(pair())
        stream = ours.http.open(b"127.0.0.1:1") if client else None
        assert theirs.http is not None
        data = b"".join(parts)

        def feed() -> None:
            for piece in chunks(data, sizes):
                ours.hears(piece)

        documented(feed, ProtocolError, size=len(data), per_byte=2000)
        assert len(ours.says()) < 1 << 21
        assert stream is None or len(ours.http.streams) <= 1

    sequences = st.lists(frames() | st.binary(max_size=20), max_size=8)
    fuzzed(target, st.booleans(), sequences, st.lists(st.integers(1, 40), max_size=6))


def test_http2_connections_from_their_first_byte() -> None:
    def target(client: bool, data: bytes) -> None:
        side = Side(client)
        documented(lambda: side.hears(data), ProtocolError, size=len(data), per_byte=2000)

    sample = PREFACE + frame(Kind.SETTINGS, 0, 0, b"") + frame(Kind.HEADERS, 4, 1, CONNECT)
    fuzzed(target, st.booleans(), spliced([sample]))


def test_http2_filters() -> None:
    requests = [GOOD_REQUEST, GOOD_UPLOAD, hpack.Encoder().encode([*GRPC, ("x-id", "1")])]
    responses = [b"\x88", hpack.Encoder().encode([(":status", "200"), ("content-length", "3")]), b"\x40\1x\1y"]

    def target(steps: list[tuple[str, bytes]], sizes: list[int], ruling: str) -> None:
        waiting: list[Any] = []
        asked: list[HttpRequest] = []

        def judge(request: HttpRequest, answer: Answer) -> None:
            asked.append(request)
            waiting.append(lambda: answer(Refuse(403, "no") if ruling == "refuse" else Forward(request)))
            if ruling != "late":
                waiting.pop()()

        one = Http2Filter(judge, lambda: None)
        one.from_client(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
        one.from_app(frame(Kind.SETTINGS, 0, 0, b""))
        size = sum(len(data) for _, data in steps) + 200

        def run() -> None:
            for kind, data in steps:
                for piece in chunks(data, sizes):
                    if kind == "client":
                        one.from_client(piece)
                    elif kind == "app":
                        one.from_app(piece)
                    elif kind == "rule" and waiting:
                        waiting.pop()()
                    elif kind == "take":
                        one.for_client()
                        one.for_app()
            one.app_ended()
            one.client_ended()

        documented(run, size=size, per_byte=4000)
        assert (one.client_finished, one.app_finished) == (True, True)
        assert not one.wants_app or asked
        left = 0
        while more := one.for_app() + one.for_client():
            left += len(more)
        assert left < (1 << 21)

    payloads = st.sampled_from([*requests, *responses]) | spliced([*requests, *responses]) | st.binary(max_size=20)
    heads = st.builds(
        lambda flags, number, block: frame(Kind.HEADERS, flags, number, block),
        st.sampled_from([4, 5, 0]),
        st.sampled_from([1, 3, 5, 7]),
        payloads,
    )
    data = st.builds(
        lambda flags, number, body: frame(Kind.DATA, flags, number, body),
        st.sampled_from([0, 1, 8]),
        st.sampled_from([1, 3]),
        st.binary(max_size=8),
    )
    step = st.tuples(st.sampled_from(["client", "client", "app", "rule", "take"]), heads | heads | data | frames())
    fuzzed(
        target,
        st.lists(step, max_size=12),
        st.lists(st.integers(1, 60), max_size=3),
        st.sampled_from(["allow", "refuse", "late"]),
    )


def test_http2_fields_are_what_the_hpack_library_reads() -> None:
    def target(blocks: list[bytes]) -> None:
        ours, library = FieldDecoder(1 << 12), hpack.Decoder(max_header_list_size=1 << 12)
        for block in blocks:
            got = documented(lambda block=block: ours.decode(block), ProtocolError, size=len(block), per_byte=2000)  # type: ignore[misc]
            try:
                wanted = [tuple(map(bytes, field)) for field in library.decode(block, raw=True)]
            except hpack.HPACKError:
                assert got is None
                return
            assert got == wanted

    encoder = hpack.Encoder()
    samples = [encoder.encode([*GRPC, ("x-id", str(number) * 40)], huffman=number % 2 == 0) for number in range(4)]
    fuzzed(target, st.lists(st.sampled_from(samples) | spliced(samples) | st.binary(max_size=40), max_size=6))


def spoilt_messages(*samples: M) -> st.SearchStrategy[M]:
    kind = type(samples[0])

    def read(data: bytes) -> M | None:
        try:
            return kind.FromString(data)
        except DecodeError:
            return None

    found = spliced([one.SerializeToString() for one in samples]).map(read)
    return found.filter(lambda one: one is not None)  # type: ignore[return-value]


def test_x509_messages_of_the_workload_api() -> None:
    def svids(message: pb.X509SVIDResponse) -> None:
        context = documented(lambda: x509_context(message, 1), LocalIdentityError, size=message.ByteSize())
        if context is not None:
            assert context.svids
            again = x509_context(x509_context_message(context), 1)
            assert (again.svids, again.bundles) == (context.svids, context.bundles)
            assert again.revocations.lists == context.revocations.lists

    def bundles(message: pb.X509BundlesResponse) -> None:
        found = documented(lambda: x509_bundles(message), size=message.ByteSize())
        assert found is not None
        assert x509_bundles(x509_bundles_message(found)) == found
        trust = documented(lambda: x509_trust(message, 1), size=message.ByteSize())
        assert trust is not None
        assert all(line.isprintable() for line in trust[1])
        assert x509_trust(x509_trust_message(trust[0]), 1)[0] == trust[0]

    listed = [crl(INTERMEDIATE, 7), crl(ROOT, 8)]
    sample = x509_context_message(CONTEXT)
    sample.crl.extend(listed)
    assert x509_context(sample, 1).unusable == ()
    fuzzed(svids, spoilt_messages(sample))
    trusted = x509_bundles_message(CONTEXT.bundles)
    trusted.crl.extend(listed)
    fuzzed(bundles, spoilt_messages(trusted))


def test_jwt_messages_of_the_workload_api() -> None:
    def bundles(message: pb.JWTBundlesResponse) -> None:
        found = documented(lambda: jwt_bundles(message), size=message.ByteSize())
        assert found is not None
        assert jwt_bundles(jwt_bundles_message(found)) == found

    def tokens(message: pb.JWTSVIDResponse) -> None:
        documented(lambda: jwt_svids(message, ["db"]), LocalIdentityError, size=message.ByteSize())
        for one in message.svids:
            answer = pb.ValidateJWTSVIDResponse(spiffe_id=one.spiffe_id)
            documented(partial(validated, answer, one.svid), LocalIdentityError, size=len(one.svid))

    fuzzed(bundles, spoilt_messages(jwt_bundles_message(BundleSet([JWT]))))
    fuzzed(tokens, spoilt_messages(jwt_svids_message([TOKEN])))


def test_messages_between_agent_and_server() -> None:
    web = entry("/web", "unix:uid:0", federates_with=["partner.test"])
    kept = entry_message(web)
    agent = server_pb.Agent(spiffe_id=str(web.parent_id), type="join_token", serials=["01"], not_after=1, attested_at=2)
    issued = server_pb.Issuance(number=1, kind="x509", serial="01", spiffe_id=str(web.spiffe_id), server_id="s")
    chain = server_pb.X509Svid(spiffe_id="x", chain=[CONTEXT.svid.leaf.public_bytes(Encoding.DER)])
    bundle = server_pb.Bundle(trust_domain="example.org", document=JWT.to_jwks())
    wanted = server_pb.EntryFilter(spiffe_id=str(web.spiffe_id), parent_id=str(web.parent_id), hint="x")

    def fuzz(read: Callable[[M], object], sample: M, *times: str) -> None:
        def target(message: M, seconds: int) -> None:
            for name in times:
                setattr(message, name, seconds)
            documented(partial(read, message), RequestError, size=message.ByteSize())

        read(sample)
        fuzzed(target, spoilt_messages(sample), st.integers(-(2**63), 2**63 - 1))

    fuzz(entry_of, kept, "expires_at")
    fuzz(agent_of, agent, "not_after", "attested_at")
    fuzz(issuance_of, issued, "issued_at", "not_before", "not_after")
    fuzz(filter_of, wanted)
    fuzz(chain_of, chain)
    fuzz(bundle_of, bundle)
    fuzz(lambda message: bundles_of([message, bundle]), bundle)


def test_sds_requests() -> None:
    secrets = secrets_of(View((entry("/web"),), (svid_for(OURS, "/web"),), BundleSet([OURS.bundle])))
    names = st.lists(
        st.sampled_from([*secrets, "*", "", "none"]) | st.text(st.characters(codec="utf-8"), max_size=5), max_size=4
    )
    nonces = st.sampled_from(["", "0", "1", "2", "x"])

    def world(asked: list[tuple[list[str], str, bool]]) -> None:
        state = WorldState()
        for wanted, nonce, refused in asked:
            request = discovery_pb.DiscoveryRequest(resource_names=wanted, response_nonce=nonce)
            if refused:
                request.error_detail.message = nonce
            documented(partial(state.take, request), size=request.ByteSize())
            response = documented(lambda: state.response(secrets), size=request.ByteSize())
            assert response is None or 0 < len(response.resources) <= len(secrets)
            assert not set(state.newly_missing(secrets)) & secrets.keys()
            assert state.response(secrets) is None, "the same state again"

    def delta(asked: list[tuple[list[str], list[str], dict[str, str]]]) -> None:
        state = DeltaState()
        for wanted, unwanted, versions in asked:
            request = discovery_pb.DeltaDiscoveryRequest(
                resource_names_subscribe=wanted,
                resource_names_unsubscribe=unwanted,
                initial_resource_versions=versions,
            )
            documented(partial(state.take, request), size=request.ByteSize())
            response = documented(lambda: state.response(secrets), size=request.ByteSize())
            assert response is None or not {one.name for one in response.resources} & set(response.removed_resources)
            assert state.response(secrets) is None, "the same state again"

    fuzzed(world, st.lists(st.tuples(names, nonces, st.booleans()), max_size=5))
    fuzzed(
        delta, st.lists(st.tuples(names, names, st.dictionaries(st.sampled_from([*secrets, "x"]), nonces)), max_size=5)
    )


def test_hostile_node_lines_are_decoded_without_an_error() -> None:
    good = {
        "src": "c1",
        "dest": "n1",
        "body": {
            "type": "handshake", "msg_id": 1, "client": "a", "server": "b", "client_cert": "valid", "ttl_seconds": 1.5,
            "service": "a", "namespace": "default", "allow": [{"from": "a", "to": "b"}], "cert": "x",
        },
    }  # fmt: skip

    def target(line: bytes, sizes: list[int]) -> None:
        request = documented(lambda: decode(line), size=len(line))
        assert request is not None
        whole, cut = LineCutter(64), LineCutter(64)
        once = [*whole.feed(line), *whole.finish()]
        assert once == [*(one for piece in chunks(line, sizes) for one in cut.feed(piece)), *cut.finish()]

    kinds = st.sampled_from(["handshake", "issue_certificate", "verify_identity", "rotate", "policy"])
    bodies = st.builds(
        lambda kind, rest: json.dumps({**rest, "type": kind}), kinds, st.dictionaries(odd_text, json_values, max_size=4)
    )
    lines = spoilt(good).map(json.dumps) | spoilt(good["body"]).map(json.dumps) | bodies
    fuzzed(
        target, lines.map(str.encode) | spliced([json.dumps(good).encode()]), st.lists(st.integers(1, 50), max_size=5)
    )


def test_hostile_contents_of_proc_raise_only_access_errors() -> None:
    digits = "0123456789abcdef" * 4
    samples = [
        f"0::/system.slice/docker-{digits}.scope\n".encode(),
        f"12:cpu:/docker/{digits}\n11:x:/docker/{digits}\n".encode(),
        f"0::/kubepods/burstable/pod12345678-1234-1234-1234-123456789abc/{digits}\n".encode(),
        b"Uid:\t0\t0\t0\t0\nGid:\t0\t1\t2\t3\nGroups:\t1 2 3 \n",
        b"1 (a) b) S " + b"1 " * 30,
    ]

    def target(content: bytes) -> None:
        found = documented(lambda: container_selectors(content), size=len(content))
        assert found is not None
        assert all(len(one.value) < 100 and one.value.isascii() for one in found)
        for read in (parse_stat, parse_status):
            documented(partial(read, content), AccessError, size=len(content))

    fuzzed(target, spliced(samples) | odd_text.map(lambda text: text.encode("utf-8", "surrogatepass")))
