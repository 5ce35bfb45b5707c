"""What a bundle endpoint may answer, and what of it counts (SPIFFE Federation, section 5)."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from meshtls.bundle import TrustBundle
from meshtls.clock import SystemClock
from meshtls.http_client import HttpResponse
from meshtls.server import bundle_fetching
from meshtls.server.bundle_fetching import LARGEST_DOCUMENT, BundleFetchError, Fetched, check_sequence, fetch_bundle
from meshtls.server.federating import interval
from meshtls.serverapi.federation import Endpoint, Profile, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.tls.bootstrap import AnonymousClientContext
from tests.support.authority import Leaf, context_for, make_authority, mint_raw
from tests.support.bundle_partner import Partner, answer, partner

OWN = TrustDomain("a.test")
CLOCK = SystemClock()


async def fetch(
    b: Partner, relation: Relation | None = None, *bundles: TrustBundle, known: Fetched | None = None
) -> Fetched:
    """What ``a.test`` fetches from it, with its own bundle of ``b`` unless others are given."""
    trusted = {one.trust_domain: one for one in bundles or (b.bundle,)}
    return await fetch_bundle(relation or b.relation(), OWN, trusted.get, CLOCK, known)


async def refusal(b: Partner, relation: Relation | None = None, *bundles: TrustBundle) -> str:
    with pytest.raises(BundleFetchError) as caught:
        await fetch(b, relation, *bundles)
    return str(caught.value).replace(str(b.port), "PORT")


URL = "https://127.0.0.1:PORT/"
BUNDLE = "SPIFFE bundle of trust domain b.test"


@pytest.mark.parametrize(
    ("members", "sequence", "hint"),
    [
        ({}, None, None),
        ({"spiffe_refresh_hint": 0}, None, 0),
        ({"spiffe_refresh_hint": 1}, None, 1),
        ({"spiffe_refresh_hint": 10**9}, None, 10**9),
        ({"spiffe_sequence": 2**63}, 2**63, None),
        ({"spiffe_sequence": 2**64 - 1}, 2**64 - 1, None),
        ({"something": ["else"]}, None, None),
    ],
)
async def test_members_beside_the_keys_are_read_as_the_standard_has_them(
    members: dict[str, object], sequence: int | None, hint: int | None
) -> None:
    async with partner() as b:
        b.answers["/"] = answer(b.document(**({"spiffe_sequence": None, "spiffe_refresh_hint": None} | members)))
        bundle = (await fetch(b)).bundle
    assert (bundle.sequence, bundle.refresh_hint) == (sequence, hint)
    assert bundle.x509_authorities == b.bundle.x509_authorities


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "wanted a JSON object, got Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "wanted a JSON object, got list"),
        (b"{}", "wanted an array of objects in 'keys', got nothing"),
        (
            b'{"keys": [], "spiffe_refresh_hint": -1}',
            "wanted a whole number below 2**63 in 'spiffe_refresh_hint', got -1",
        ),
        (
            b'{"keys": [], "spiffe_refresh_hint": 1.5}',
            "wanted a whole number below 2**63 in 'spiffe_refresh_hint', got 1.5",
        ),
        (
            b'{"keys": [], "spiffe_sequence": "7"}',
            "wanted a whole number below 2**64 in 'spiffe_sequence', got '7'",
        ),
        (
            b'{"keys": [], "spiffe_sequence": 18446744073709551616}',
            "wanted a whole number below 2**64 in 'spiffe_sequence', got 18446744073709551616",
        ),
    ],
)
async def test_document_that_is_no_bundle_is_refused(body: bytes, message: str) -> None:
    async with partner() as b:
        b.answers["/"] = answer(body)
        said = await refusal(b)
    assert said == f"{URL}: {BUNDLE}: {message}"


async def test_keys_that_are_not_for_us_are_left_out() -> None:
    async with partner() as b:
        [key] = json.loads(b.bundle.to_jwks())["keys"][:1]
        other = make_authority("b.test").bundle.to_jwks()
        [second] = json.loads(other)["keys"][:1]
        keys = [
            key | {"x5c": [*key["x5c"], *second["x5c"]]},
            {"kty": "EC", "use": "wit-svid", "kid": "w", "crv": "P-256", "x": "AA", "y": "AA"},
            {"kty": "OKP", "use": "jwt-svid", "kid": "o", "crv": "Ed25519", "x": "AA"},
            {"kty": "EC", "use": "x509-svid"},
        ]
        b.answers["/"] = answer(json.dumps({"keys": keys}).encode())
        bundle = (await fetch(b)).bundle
    assert bundle.x509_authorities == b.bundle.x509_authorities
    assert not bundle.jwt_authorities


async def test_empty_keys_are_a_bundle_that_trusts_nobody() -> None:
    async with partner() as b:
        b.answers["/"] = answer(b'{"keys": []}')
        assert (await fetch(b)).bundle == TrustBundle(b.domain)


async def test_another_domains_endpoint_can_serve_the_bundle_once_its_own_is_known() -> None:
    async with partner("c.test") as c:
        theirs = make_authority("b.test").bundle
        c.answers["/"] = answer(theirs.to_jwks().encode())
        relation = c.relation(trust_domain=TrustDomain("b.test"))
        assert (await fetch(c, relation)).bundle.x509_authorities == theirs.x509_authorities
        assert await refusal(c, relation, theirs) == (
            f"{URL}: there is no bundle of trust domain c.test to authenticate spiffe://c.test/spire/server with; set"
            " it with `meshtls bundle set`"
        )
        assert await refusal(c, relation, TrustBundle(c.domain)) == (
            f"{URL}: the bundle has no X.509 authority of trust domain c.test to authenticate"
            " spiffe://c.test/spire/server with; set it with `meshtls bundle set`"
        )


async def test_two_domains_may_have_the_same_authority() -> None:
    async with partner() as b:
        shared = trustme.CA().cert_pem.bytes()
        b.answers["/"] = answer(TrustBundle.from_pem(b.domain, shared).to_jwks().encode())
        assert (await fetch(b)).bundle.x509_authorities == TrustBundle.from_pem(OWN, shared).x509_authorities


async def test_bundle_that_names_our_own_trust_domain_is_refused() -> None:
    async with partner() as b:
        b.answers["/"] = answer(make_authority(str(OWN)).bundle.to_jwks().encode())
        assert await refusal(b) == (
            f"{URL}: wanted the bundle of b.test, got an authority of a.test, our own trust domain"
        )


@pytest.mark.parametrize(
    ("profile", "context"), [(Profile.HTTPS_SPIFFE, AnonymousClientContext), (Profile.HTTPS_WEB, ssl.SSLContext)]
)
async def test_another_network_is_given_the_context_of_the_profile_and_its_answers_are_judged_as_any(
    profile: Profile, context: type[ssl.SSLContext]
) -> None:
    theirs, ours = make_authority("b.test").bundle, make_authority(str(OWN)).bundle
    asked: list[tuple[Endpoint, type[ssl.SSLContext]]] = []
    bodies = [theirs.to_jwks().encode(), ours.to_jwks().encode()]

    async def get(endpoint: Endpoint, tls: ssl.SSLContext, headers: Sequence[tuple[str, str]]) -> HttpResponse:
        asked.append((endpoint, type(tls)))
        return HttpResponse(200, (), bodies.pop(0))

    url, endpoint_id = "https://b.test/bundle", SpiffeId(theirs.trust_domain, "/spire/server")
    relation = Relation(
        trust_domain=theirs.trust_domain,
        url=url,
        profile=profile,
        endpoint_id=endpoint_id if profile is Profile.HTTPS_SPIFFE else None,
    )
    trusted = {theirs.trust_domain: theirs}
    assert (await fetch_bundle(relation, OWN, trusted.get, CLOCK, get=get)).bundle == theirs
    with pytest.raises(BundleFetchError, match=f"{url}: wanted the bundle of b.test, got an authority of a.test"):
        await fetch_bundle(relation, OWN, trusted.get, CLOCK, get=get)
    assert asked == [(Endpoint.of(url), context)] * 2


class TestAuthentication:
    async def test_endpoint_with_another_id_is_refused(self) -> None:
        async with partner() as b:
            other = b.relation(endpoint_id=SpiffeId(b.domain, "/other"))
            assert (
                "the bundle endpoint is spiffe://b.test/spire/server, wanted spiffe://b.test/other; if that is the ID"
                " of its server, give it as --endpoint-spiffe-id (endpoint_spiffe_id)"
            ) in await refusal(b, other)
            assert not b.requests
            assert (await fetch(b)).bundle.x509_authorities

    async def test_endpoint_of_another_authority_is_refused(self) -> None:
        async with partner() as b:
            imposter = make_authority("b.test")
            assert "no path to a root" in await refusal(b, None, imposter.bundle)
            assert not b.requests

    async def test_expired_svid_of_the_endpoint_is_refused_although_the_bundle_is_valid(self) -> None:
        async with partner() as b:
            leaf = Leaf(uris=(str(b.endpoint_id),), starts_in=-60, ends_in=-1)
            b.source.now = replace(context_for(b.authority, "/x"), generation=2, svids=(mint_raw(b.authority, leaf),))
            assert "expired at" in await refusal(b)
            b.source.now = replace(context_for(b.authority, "/spire/server"), generation=3)
            assert (await fetch(b)).bundle.x509_authorities

    async def test_server_with_tls_1_2_only_is_refused_with_https_spiffe(self) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        authority.issue_cert("127.0.0.1").configure_cert(context)
        async with partner(tls=context) as b:
            assert await refusal(b) == f"{URL}: 127.0.0.1:PORT: it ended the connection in the TLS handshake"

    async def test_self_serving_endpoint_that_replaced_its_root_is_refused_until_its_bundle_is_set(self) -> None:
        async with partner() as b:
            before = b.bundle
            after = make_authority("b.test")
            b.source.now = replace(context_for(after, "/spire/server"), generation=2)
            b.answers["/"] = answer(after.bundle.to_jwks().encode())
            assert "no path to a root" in await refusal(b, None, before)
            assert (await fetch(b, None, after.bundle)).bundle.x509_authorities == after.bundle.x509_authorities

    async def test_https_web_requires_a_trusted_certificate_for_the_host(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority, stranger = trustme.CA(), trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "roots.pem")
        for names, issuer, message in (
            ("127.0.0.1", authority, ""),
            ("127.0.0.2", authority, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
            ("127.0.0.1", stranger, "unable to get local issuer certificate"),
        ):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            issuer.issue_cert(names).configure_cert(context)
            async with partner(tls=context) as b:
                web = b.relation(profile=Profile.HTTPS_WEB, endpoint_id=None)
                monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
                if message:
                    assert message in await refusal(b, web)
                else:
                    assert (await fetch(b, web)).bundle.x509_authorities == b.bundle.x509_authorities

    async def test_ipv6_literal_is_a_host(self) -> None:
        async with partner(host="::1") as b:
            url = f"https://[::1]:{b.port}/"
            assert (await fetch(b, b.relation(url=url))).bundle.x509_authorities
            assert f"Host: [::1]:{b.port}\r\n" in b.requests[0]


class TestRedirects:
    async def test_redirect_within_https_is_followed_with_the_same_authentication(self) -> None:
        async with partner() as b, partner() as imposter:
            b.answers["/"] = answer(b"", "302 Found", "Location: /there?x=1")
            b.answers["/there?x=1"] = answer(b.document())
            assert (await fetch(b)).bundle.x509_authorities
            b.answers["/"] = answer(b"", "307 Temporary Redirect", f"Location: {imposter.url}")
            assert "no path to a root" in await refusal(b)
            assert not imposter.requests

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            ("http://127.0.0.1/", "wanted a URL such as https://partner.example:8443/, got 'http://127.0.0.1/'"),
            ("https://me@127.0.0.1/", "wanted a URL without a user's name, got one with it"),
            ("https://[::1", "Invalid IPv6 URL"),
            ("https://127.0.0.1:0/", "wanted a URL such as https://partner.example:8443/, got 'https://127.0.0.1:0/'"),
        ],
    )
    async def test_redirect_to_what_is_no_endpoint_url_is_not_followed(self, location: str, message: str) -> None:
        async with partner() as b:
            b.answers["/"] = answer(b"", "301 Moved Permanently", f"Location: {location}")
            assert await refusal(b) == f"{URL}: redirected to an address that may not be followed: {message}"
            assert len(b.requests) == 1

    async def test_redirects_are_followed_five_times(self) -> None:
        async with partner() as b:
            for number in range(1, 5):
                b.answers[f"/{number}"] = answer(b"", "302 Found", f"Location: /{number + 1}")
            b.answers["/"] = answer(b"", "302 Found", "Location: /1")
            b.answers["/5"] = answer(b.document())
            assert (await fetch(b)).bundle.x509_authorities
            b.answers["/5"] = answer(b"", "302 Found", "Location: /")
            assert await refusal(b) == f"{URL}: more than 5 redirects, the last one to '{URL}'"

    async def test_redirect_without_a_location_is_a_failure(self) -> None:
        async with partner() as b:
            b.answers["/"] = answer(b"", "302 Found")
            assert await refusal(b) == f"{URL}: status 302 without a Location"


async def _slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _endlessly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    for _ in range(100_000_000 >> 16):
        writer.write(b" " * (1 << 16))
        await writer.drain()


class TestAnswers:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda body: answer(body, "500 Internal Server Error"), "wanted status 200, got 500"),
            (lambda body: answer(body, "404 Not Found"), "wanted status 200, got 404"),
            (lambda body: answer(b"", "304 Not Modified"), "wanted status 200, got 304"),
            (
                lambda body: answer(gzip.compress(body), "200 OK", "Content-Encoding: gzip"),
                "wanted no Content-Encoding, got 'gzip'",
            ),
            (lambda body: answer(body)[:-1], "127.0.0.1:PORT gave an invalid answer: it ended too early"),
            (lambda body: b"not http at all\r\n\r\n", "127.0.0.1:PORT gave an invalid answer: "),
            (
                lambda body: answer(body + b" " * LARGEST_DOCUMENT),
                f"127.0.0.1:PORT gave too large an answer: its body has more than {LARGEST_DOCUMENT} bytes",
            ),
            (lambda body: b"", "127.0.0.1:PORT closed the connection without an answer"),
        ],
    )
    async def test_answer_that_is_not_a_whole_document_is_refused(
        self, make: Callable[[bytes], bytes], message: str
    ) -> None:
        async with partner() as b:
            b.answers["/"] = make(b.document())
            assert (await refusal(b)).startswith(f"{URL}: {message}")

    async def test_chunked_answer_is_read(self) -> None:
        async with partner() as b:
            body = b.document()
            b.answers["/"] = (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
                % (10, body[:10], len(body) - 10, body[10:])
            )
            assert (await fetch(b)).bundle.x509_authorities == b.bundle.x509_authorities

    @pytest.mark.parametrize(("script", "message"), [(_slowly, "no complete answer"), (_endlessly, "too large")])
    async def test_endless_answer_is_given_up(
        self,
        script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        message: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if script is _slowly:
            monkeypatch.setattr(bundle_fetching, "_REQUEST_SECONDS", 0.5)
        async with partner() as b:
            b.answers["/"] = script
            assert message in await refusal(b)

    async def test_present_bundle_is_not_sent_again(self) -> None:
        async with partner() as b:
            b.answers["/"] = answer(b.document(), "200 OK", 'ETag: "one"')
            first = await fetch(b)
            assert first.etag == '"one"'
            b.answers["/"] = answer(b"", "304 Not Modified")
            assert await fetch(b, known=first) is first
            assert 'If-None-Match: "one"\r\n' in b.requests[1]
            assert "If-None-Match" not in b.requests[0]


@pytest.mark.parametrize(
    ("stored", "fetched", "accepted"),
    [
        (None, 1, True),
        (5, 5, True),
        (5, 6, True),
        (5, 4, False),
        (5, None, True),
        (None, None, True),
        (2**63, 2**64 - 1, True),
        (2**64 - 1, 2**63, False),
    ],
)
def test_lower_sequence_keeps_the_bundle_in_use(stored: int | None, fetched: int | None, accepted: bool) -> None:
    theirs = TrustBundle(TrustDomain("b.test"))
    before, after = replace(theirs, sequence=stored), replace(theirs, sequence=fetched)
    if accepted:
        check_sequence(before, after)
        check_sequence(None, after)
        return
    with pytest.raises(BundleFetchError, match=rf"its sequence {fetched} is lower than {stored}"):
        check_sequence(before, after)


def test_interval_is_the_hint_within_bounds_and_grows_with_failures() -> None:
    table = {
        (hint, failures): interval(hint, failures) for hint in (None, 0, 1, 60, 10**9) for failures in (0, 1, 2, 50)
    }
    assert table == {
        (None, 0): 300,
        (None, 1): 300,
        (None, 2): 600,
        (None, 50): 600,
        (0, 0): 300,
        (0, 1): 300,
        (0, 2): 600,
        (0, 50): 600,
        (1, 0): 5,
        (1, 1): 5,
        (1, 2): 10,
        (1, 50): 600,
        (60, 0): 60,
        (60, 1): 60,
        (60, 2): 120,
        (60, 50): 600,
        (10**9, 0): 86400,
        (10**9, 1): 86400,
        (10**9, 2): 86400,
        (10**9, 50): 86400,
    }
