"""Fuzz targets for tokens in requests, key sets, and the answers of the services that are asked about a request."""

from __future__ import annotations

import json
from typing import Any

import httptools
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from meshtls.address import Address
from meshtls.errors import RequestError
from meshtls.ext_authz.answer import ProviderError
from meshtls.ext_authz.grpc_check import answer_of, check_request
from meshtls.ext_authz.settings import ExtAuthzProvider, ProviderKind
from meshtls.http_client import ResponseReading, TooLargeError
from meshtls.policy.istio.model import JwtRule, TokenHeader
from meshtls.policy.jwt.authenticate import Authenticated, NeedsKeys, TokenAuthenticator
from meshtls.policy.jwt.carriers import Carriers
from meshtls.policy.jwt.key_set import read_key_set
from meshtls.policy.request import Request
from meshtls.proto.envoy import auth_pb
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import HttpRequest, Refuse
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.values import json_values, odd_text, spoilt
from tests.support.certs import NOW
from tests.support.jwts import Issuer, segment, signing_key

OWN = SpiffeId.parse("spiffe://example.org/shop")
ISSUER = Issuer("https://issuer.test", NOW)
RULES = (
    JwtRule(issuer=ISSUER.name, audiences=("shop",), output_claim_to_headers=(("x-user", "sub"), ("x-more", "a.b"))),
    JwtRule(
        issuer=ISSUER.name,
        from_headers=(TokenHeader(name="x-token", prefix="jwt "), TokenHeader(name="x-token")),
        from_params=("token",),
        from_cookies=("session",),
        output_payload_to_header="x-payload",
    ),
    JwtRule(issuer="spiffe://example.org"),
)
KEYS = read_key_set(ISSUER.jwks())
GOOD = ISSUER.token()
PROVIDER = ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", 1))


def authenticated(request: HttpRequest, token_bytes: int) -> Authenticated | None:
    """What the rules make of the request, whose refusals have to be printable texts."""
    answer = documented(
        lambda: TokenAuthenticator(RULES, OWN).authenticate(request, (KEYS, KEYS, KEYS), NOW), size=token_bytes
    )
    if isinstance(answer, Authenticated):
        return answer
    refusal = answer.refusal if isinstance(answer, NeedsKeys) else answer
    assert isinstance(refusal, Refuse)
    assert refusal.reason.isascii()
    assert refusal.reason.isprintable()
    return None


def test_hostile_requests_have_their_tokens_found_or_none() -> None:
    names = st.sampled_from(("authorization", "x-token", "cookie", "x-user", "x_user", "x-payload", "accept"))
    values = odd_text.map(lambda text: text.encode("utf-8", "replace").decode("latin-1")) | st.sampled_from(
        (f"Bearer {GOOD}", f"bearer  {GOOD} ", "Bearer", f"jwt {GOOD}", GOOD, f"a=b;session={GOOD}", "session=;", ";;=")
    )
    queries = (
        st.sampled_from(("", f"access_token={GOOD}", f"token={GOOD}&a", "token", "&&", "%74oken=x", "a=b")) | odd_text
    )

    def target(headers: list[tuple[str, str]], query: str) -> None:
        request = HttpRequest("GET", "shop.test", f"/?{query}", tuple(headers))
        found = authenticated(request, sum(len(value) for _, value in headers) + len(query))
        if found is None:
            return
        told = dict(found.request.headers)
        assert ("x-user" in told, "x_user" in told) in ((False, False), (True, False))
        assert told.get("x-user", "alice") == "alice"
        if found.auth is None:
            assert found.request.path == request.path
            assert not {"x-user", "x-payload"} & set(told)
        else:
            assert found.auth.principal == "https://issuer.test/alice"
        assert Carriers(RULES).find(found.request) == ()

    fuzzed(target, st.lists(st.tuples(names, values), max_size=6), queries)


def test_tokens() -> None:
    """Only a token that the issuer signed is accepted: a change of any part spoils the signature."""

    def target(text: str) -> None:
        found = authenticated(HttpRequest("GET", "a", "/", (("authorization", f"Bearer {text}"),)), len(text))
        assert found is None or text.strip(" \t") == GOOD

    parts = GOOD.split(".")
    changed = st.tuples(
        st.just(parts[0]) | spoilt(ISSUER.header()).map(segment) | json_values.map(segment),
        st.just(parts[1]) | spoilt(ISSUER.claims()).map(segment) | json_values.map(segment),
        st.just(parts[2]) | st.binary(max_size=80).map(segment),
    ).map(".".join)
    fuzzed(target, spliced([GOOD.encode()]).map(lambda data: data.decode("latin-1")) | changed | odd_text)


def test_tokens_with_any_claims_that_their_issuer_signed() -> None:
    def target(claims: Any) -> None:
        token = ISSUER.signed(ISSUER.header(), json.dumps(claims).encode())
        found = authenticated(HttpRequest("GET", "a", "/", (("authorization", f"Bearer {token}"),)), len(token))
        assert found is None or claims["iss"] == ISSUER.name

    fuzzed(target, spoilt(ISSUER.claims(azp="app", scope="a b", a={"b": [1]})) | json_values)


def test_key_sets() -> None:
    issuers = [Issuer("i", NOW, signing_key(kind), kind) for kind in ("RSA", "P-256", "Ed25519")]
    good = {"keys": [one.jwk() for one in issuers]}

    def target(document: bytes) -> None:
        found = documented(lambda: read_key_set(document), RequestError, size=len(document))
        assert found is None or found.keys

    documents = spoilt(good).map(lambda value: json.dumps(value).encode())
    fuzzed(target, documents | spliced([json.dumps(good).encode()]))


def test_responses_of_http() -> None:
    samples = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
    ]

    def target(data: bytes, cut: int, bodiless: bool) -> None:
        def read() -> ResponseReading:
            reading = ResponseReading(bodiless=bodiless, largest=64)
            for piece in (data[:cut], data[cut:], b""):
                if not reading.complete:
                    reading.feed(piece)
            return reading

        found = documented(read, httptools.HttpParserError, TooLargeError, size=len(data))
        assert found is None or (found.complete and 200 <= found.status <= 999 and len(found.body) <= 64)

    fuzzed(target, spliced(samples), st.integers(0, 80), st.booleans())


def test_answers_of_grpc() -> None:
    samples = [
        auth_pb.CheckResponse(
            status=auth_pb.CheckStatus(code=0),
            ok_response=auth_pb.OkHttpResponse(headers_to_remove=["cookie"]),
        ),
        auth_pb.CheckResponse(
            status=auth_pb.CheckStatus(code=7),
            denied_response=auth_pb.DeniedHttpResponse(status=auth_pb.HttpStatus(code=401), body="no"),
        ),
    ]
    option = samples[0].ok_response.headers.add()
    option.header.key, option.header.value = "x-user", "alice"
    head = (("x-user", "client"), ("cookie", "a=1"))

    def target(data: bytes) -> None:
        def read() -> Any:
            return answer_of(PROVIDER, auth_pb.CheckResponse.FromString(data))

        answer = documented(read, DecodeError, ProviderError, size=len(data))
        if answer is None:
            return
        if answer.allowed:
            changed = answer.upstream.apply(head)
            assert not any(name.startswith(":") or "\n" in name + value for name, value in changed)
        else:
            assert 200 <= answer.refusal().status < 600

    fuzzed(target, spliced([one.SerializeToString() for one in samples]))


def test_requests_as_a_service_is_told_of_them() -> None:
    text = odd_text.map(lambda one: one.encode("utf-8", "replace").decode("latin-1"))

    def target(method: str, path: str, headers: list[tuple[str, str]]) -> None:
        told = check_request(Request(None, OWN, 80, http=HttpRequest(method, "shop.test", path, tuple(headers))))
        assert auth_pb.CheckRequest.FromString(told.SerializeToString()) == told

    fuzzed(target, text, text, st.lists(st.tuples(text, text), max_size=4))
