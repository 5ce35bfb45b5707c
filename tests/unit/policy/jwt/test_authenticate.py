"""Requests with tokens: what is let through and as whom, and each refusal with its whole text beside a twin."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from joserfc.jwk import ECKey

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.policy.istio.model import JwtRule, TokenHeader
from meshtls.policy.jwt.authenticate import Authenticated, Keys, NeedsKeys, NoKeys, TokenAuthenticator
from meshtls.policy.jwt.key_set import KeySet, VerificationKey, read_key_set
from meshtls.policy.jwt.token import MAX_SIGNATURES
from meshtls.policy.request import RequestAuth
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import sign
from meshtls.svid.jwt_format import MAX_TOKEN_BYTES
from meshtls.wire.http import HttpRequest, Refuse
from tests.support.certs import NOW, key
from tests.support.jwts import Issuer, segment, signing_key

OWN = SpiffeId.parse("spiffe://example.org/shop")
ISSUER = Issuer("https://issuer.test", NOW)
OTHER = Issuer("https://other.test", NOW, signing_key("P-256", 1), "two")
RULE = JwtRule(issuer=ISSUER.name, audiences=("shop",))
OTHER_RULE = JwtRule(issuer=OTHER.name)
KEYS = read_key_set(ISSUER.jwks())
OTHER_KEYS = read_key_set(OTHER.jwks())
NOW_S = int(NOW.timestamp())
ALICE = RequestAuth("https://issuer.test/alice", ("shop",), None, ISSUER.claims())
GOOD = ISSUER.token()


def request(*headers: tuple[str, str], path: str = "/") -> HttpRequest:
    return HttpRequest("GET", "shop.test", path, headers)


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def answer(
    asked: HttpRequest, rules: Sequence[JwtRule] = (RULE,), keys: Sequence[Keys] = (KEYS,), now: datetime = NOW
) -> Authenticated | NeedsKeys | Refuse:
    return TokenAuthenticator(rules, OWN).authenticate(asked, keys, now)


def text_of(refused: Authenticated | NeedsKeys | Refuse) -> str:
    refusal = refused.refusal if isinstance(refused, NeedsKeys) else refused
    assert isinstance(refusal, Refuse)
    # The client learns nothing of the configuration.
    assert refusal.headers == (("www-authenticate", 'Bearer error="invalid_token"'),)
    assert (refusal.status, refusal.text) in (
        (401, "the request's token is refused\n"),
        (403, "access denied by policy\n"),
    )
    return f"{refusal.status} {refusal.reason}"


def test_a_request_without_token_goes_on_without_auth() -> None:
    asked = request(("authorization", "Basic YTpi"), path="/?q=access_token")
    assert answer(asked) == Authenticated(asked, None)


def test_a_good_token_names_the_caller_and_is_not_forwarded() -> None:
    asked = request(("accept", "*/*"), bearer(ISSUER.token()))
    assert answer(asked) == Authenticated(request(("accept", "*/*")), ALICE)


def test_a_token_is_forwarded_where_the_rule_says_so() -> None:
    rule = JwtRule(issuer=ISSUER.name, forward_original_token=True)
    asked = request(bearer(ISSUER.token()))
    assert answer(asked, (rule,)) == Authenticated(asked, ALICE)


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        *(("RSA", one) for one in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
        ("Ed25519", "EdDSA"),
        ("Ed25519", "Ed25519"),
    ],
)
def test_each_algorithm_verifies_its_own_key_and_no_other(kind: str, algorithm: str) -> None:
    issuer = replace(ISSUER, key=signing_key(kind), algorithm=algorithm)
    asked = request(bearer(issuer.token()))
    assert isinstance(answer(asked, keys=(read_key_set(issuer.jwks()),)), Authenticated)
    impostor = read_key_set(replace(issuer, key=signing_key(kind, 1)).jwks())
    assert text_of(answer(asked, keys=(impostor,))) == (
        "401 JWT: its signature was not made by key 'one' of its issuer's key set"
    )


TWICE = b'{"iss":"a","iss":"b"}'
REFUSALS: dict[str, tuple[str, str]] = {
    "no three parts": ("abc", "401 wanted a JWT, three parts with dots between them"),
    "an empty token": ("", "401 wanted a JWT, three parts with dots between them"),
    "too long": (
        "a" * (MAX_TOKEN_BYTES + 1),
        f"401 wanted a JWT of at most {MAX_TOKEN_BYTES} bytes, got {MAX_TOKEN_BYTES + 1}",
    ),
    "no base64url": (
        "a.b.c",
        "401 wanted a JWT, got something else: Invalid base64-encoded string: number of data characters (1) cannot be"
        " 1 more than a multiple of 4",
    ),
    "alg none": (
        f"{segment({'alg': 'none'})}.{segment(ISSUER.claims())}.",
        "401 JWT: wanted the algorithm to be one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512,"
        " Ed25519, EdDSA, got 'none'",
    ),
    "a symmetric algorithm": (
        f"{segment({'alg': 'HS256'})}.{segment(ISSUER.claims())}.{segment(b'x' * 32)}",
        "401 JWT: wanted the algorithm to be one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512,"
        " Ed25519, EdDSA, got 'HS256'",
    ),
    "a critical extension": (
        ISSUER.token({"crit": ["exp"]}),
        "401 JWT: wanted no header 'crit', whose extensions are not understood",
    ),
    "an algorithm of another key": (
        ISSUER.token({"alg": "RS256"}),
        "401 JWT: algorithm 'RS256' fits no key of its issuer's key set that it may name",
    ),
    "a member twice": (
        f"{segment(ISSUER.header())}.{segment(TWICE)}.{segment(b'x')}",
        "401 JWT: wanted its claims as a JSON object: the member 'iss' is there twice",
    ),
    "claims that are a list": (
        f"{segment(ISSUER.header())}.{segment([])}.{segment(b'x')}",
        "401 JWT: wanted its claims as a JSON object, got []",
    ),
    "another issuer": (
        ISSUER.token(iss="https://evil.test"),
        "401 JWT: wanted the issuer to be one of 'https://issuer.test', got 'https://evil.test'",
    ),
    "no issuer": (
        ISSUER.token(iss=None),
        "401 JWT: wanted the issuer to be one of 'https://issuer.test', got nothing",
    ),
    "expired": (
        ISSUER.token(exp=NOW_S - 60),
        f"401 JWT: it expired at {NOW - timedelta(seconds=60):%Y-%m-%dT%H:%M:%SZ}; our clock says"
        f" {NOW:%Y-%m-%dT%H:%M:%SZ}",
    ),
    "not valid yet": (
        ISSUER.token(nbf=NOW_S + 61),
        f"401 JWT: it is not valid before {NOW + timedelta(seconds=61):%Y-%m-%dT%H:%M:%SZ}; our clock says"
        f" {NOW:%Y-%m-%dT%H:%M:%SZ}",
    ),
    "issued in the future": (
        ISSUER.token(iat=NOW_S + 61),
        f"401 JWT: it is not issued before {NOW + timedelta(seconds=61):%Y-%m-%dT%H:%M:%SZ}; our clock says"
        f" {NOW:%Y-%m-%dT%H:%M:%SZ}",
    ),
    "a time that is no number": (
        ISSUER.token(exp="soon"),
        "401 JWT: wanted seconds since 1970 in 'exp', got 'soon'",
    ),
    **{
        f"null in {name}": (ISSUER.token_with(name, None), f"401 JWT: wanted {wanted} in {name!r}, got null")
        for name, wanted in (
            *((one, "seconds since 1970") for one in ("exp", "nbf", "iat")),
            *(("sub", "a text"), ("jti", "a text"), ("aud", "texts")),
        )
    },
    **{
        f"a time before 1970 in {name}": (
            ISSUER.token_with(name, -1),
            f"401 JWT: wanted seconds since 1970 in {name!r}, got -1",
        )
        for name in ("exp", "nbf", "iat")
    },
    "a time that is true": (ISSUER.token(nbf=True), "401 JWT: wanted seconds since 1970 in 'nbf', got True"),
    "an ID that is no text": (ISSUER.token(jti=7), "401 JWT: wanted a text in 'jti', got 7"),
    "null as the key's ID": (
        ISSUER.signed({"alg": "ES256", "kid": None}, json.dumps(ISSUER.claims()).encode()),
        "401 JWT: wanted the header 'kid' to be a string, got null",
    ),
    "another audience": (ISSUER.token(aud="bank"), "403 JWT: it is meant for ['bank'], not for 'shop'"),
    "no audience": (ISSUER.token(aud=None), "403 JWT: wanted the audience 'shop', got a token without one"),
    "an audience that is no text": (ISSUER.token(aud=[1]), "401 JWT: wanted texts in 'aud', got [1]"),
    "a subject that is no text": (ISSUER.token(sub=7), "401 JWT: wanted a text in 'sub', got 7"),
    "an unknown key": (
        replace(ISSUER, key_id="nine").token(),
        "401 JWT: its issuer's key set has no key 'nine'",
    ),
    "another's signature": (
        replace(ISSUER, key=OTHER.key).token(),
        "401 JWT: its signature was not made by key 'one' of its issuer's key set",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_bad_token_is_refused_with_its_fault(case: str) -> None:
    token, text = REFUSALS[case]
    assert text_of(answer(request(bearer(token)))) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW_S - 59},
        {"nbf": NOW_S + 60},
        {"iat": NOW_S + 60},
        {"exp": None},
        {"aud": "shop"},
        {"aud": "https://shop/"},
        {"aud": ["bank", "shop"]},
        {"iat": NOW_S + 0.5},
    ],
    ids=str,
)
def test_a_token_at_the_edge_is_accepted(changes: dict[str, Any]) -> None:
    assert isinstance(answer(request(bearer(ISSUER.token(**changes)))), Authenticated)


def test_a_token_without_subject_has_no_principal() -> None:
    found = answer(request(bearer(ISSUER.token(sub=None, azp="app", scope="read write"))))
    assert isinstance(found, Authenticated)
    assert found.auth is not None
    assert (found.auth.principal, found.auth.presenter) == ("", "app")
    assert found.auth.claims["scope"] == ["read", "write"]


def test_a_key_without_name_and_a_token_without_one_are_tried() -> None:
    nameless = replace(ISSUER, key_id=None)
    for keys in (nameless.jwks(), ISSUER.jwks()):
        assert isinstance(answer(request(bearer(nameless.token())), keys=(read_key_set(keys),)), Authenticated)
    assert isinstance(answer(request(bearer(ISSUER.token())), keys=(read_key_set(nameless.jwks()),)), Authenticated)


def test_an_unknown_key_may_be_in_a_newer_set() -> None:
    stranger = answer(request(bearer(replace(ISSUER, key_id="nine").token())))
    assert isinstance(stranger, NeedsKeys)
    assert stranger.rules == {0}


def test_a_rule_without_keys_accepts_nothing_and_says_why() -> None:
    refused = answer(request(bearer(ISSUER.token())), keys=(NoKeys("the key set was not fetched yet"),))
    assert text_of(refused) == "401 JWT of issuer 'https://issuer.test': the key set was not fetched yet"
    assert isinstance(answer(request(), keys=(NoKeys("..."),)), Authenticated)


BOTH, BOTH_KEYS = (RULE, OTHER_RULE), (KEYS, OTHER_KEYS)


def test_each_rule_takes_the_tokens_of_its_issuer() -> None:
    for issuer in (ISSUER, OTHER):
        found = answer(request(bearer(issuer.token())), BOTH, BOTH_KEYS)
        assert isinstance(found, Authenticated)
        assert found.auth is not None
        assert found.auth.principal == f"{issuer.name}/alice"


def test_a_key_of_one_issuer_signs_nothing_for_another() -> None:
    forged = replace(OTHER, name=ISSUER.name, key_id="two").token()
    assert text_of(answer(request(bearer(forged)), BOTH, BOTH_KEYS)) == (
        "401 JWT: its issuer's key set has no key 'two'"
    )


def test_the_first_rule_names_the_caller_of_several_tokens() -> None:
    for path, header in ((OTHER, ISSUER), (ISSUER, OTHER)):
        found = answer(request(bearer(header.token()), path=f"/?access_token={path.token()}&x=1"), BOTH, BOTH_KEYS)
        assert found == Authenticated(request(path="/?x=1"), ALICE)


@pytest.mark.parametrize("bad", ["header", "query"])
def test_every_token_must_be_good(bad: str) -> None:
    good, forged = ISSUER.token(), replace(ISSUER, key=OTHER.key).token()
    header, query = (forged, good) if bad == "header" else (good, forged)
    refused = answer(request(bearer(header), path=f"/?access_token={query}"))
    assert text_of(refused) == "401 JWT: its signature was not made by key 'one' of its issuer's key set"
    assert isinstance(answer(request(bearer(good), path=f"/?access_token={good}")), Authenticated)


def test_two_lines_of_a_header_with_tokens_are_refused_though_both_are_good() -> None:
    good, forged = bearer(GOOD), bearer(replace(ISSUER, key=OTHER.key).token())
    for pair in ((good, forged), (forged, good), (good, good)):
        assert text_of(answer(request(*pair))) == "401 wanted a JWT, three parts with dots between them"
    assert answer(request(good)) == Authenticated(request(), ALICE)


def test_the_number_of_tokens_is_bounded() -> None:
    tokens = [f"access_token={GOOD}"] * 5
    assert text_of(answer(request(path=f"/?{'&'.join(tokens)}"))) == "401 wanted at most 4 tokens in a request, got 5"
    assert isinstance(answer(request(path=f"/?{'&'.join(tokens[1:])}")), Authenticated)


CUSTOM = JwtRule(
    issuer=ISSUER.name,
    from_headers=(
        TokenHeader(name="X-Token", prefix="jwt-"),
        TokenHeader(name="x-plain"),
        TokenHeader(name="x-e", prefix="é "),
    ),
    from_params=("tok en",),
    from_cookies=("session", "séance"),
)


@pytest.mark.parametrize(
    ("carried", "kept"),
    [
        (lambda token: request(("x-token", f"jwt-{token}")), request()),
        (lambda token: request(("x-plain", f" {token} ")), request()),
        (lambda token: request(path=f"/a?x=1&tok%20en={token}#f"), request(path="/a?x=1")),
        (lambda token: request(path=f"/a?tok+en={quote(token)}&x=1"), request(path="/a?x=1")),
        (lambda token: request(path=f"/a?tok%20en={token}"), request(path="/a")),
        (lambda token: request(("cookie", f"a=b; session={token}; c=d")), request(("cookie", "a=b; c=d"))),
        (lambda token: request(("cookie", f"session={token}; c=d")), request(("cookie", "c=d"))),
        (lambda token: request(("cookie", f'session="{token}"')), request()),
        (lambda token: request(("cookie", f"sÃ©ance={token}")), request()),
        (lambda token: request(("x-e", f"Ã© {token}")), request()),
    ],
)
def test_a_token_is_taken_from_where_the_rule_says(carried: Callable[[str], HttpRequest], kept: HttpRequest) -> None:
    asked = carried(ISSUER.token())
    if "#" in asked.path:
        asked = request(path=asked.path.removesuffix("#f"))
    assert answer(asked, (CUSTOM,)) == Authenticated(kept, ALICE)
    assert text_of(answer(carried("no.token"), (CUSTOM,))).startswith("401 wanted a JWT")


def test_a_token_elsewhere_is_none() -> None:
    asked = request(bearer("x"), ("x-token", "other-x"), ("cookie", "sessions=x"), path="/?token=x&access_token=x")
    assert answer(asked, (CUSTOM,)) == Authenticated(asked, None)


@pytest.mark.parametrize(
    "values",
    [
        (f"Bearer {GOOD}", "Basic abc"),
        ("Basic abc", f"Bearer {GOOD}"),
        (f"Bearer {GOOD}", f"Bearer {GOOD}"),
        (f"Bearer {GOOD}", ""),
        (f"Basic abc, Bearer {GOOD}",),
        ("Basic abc, Bearer no.token",),
        ('Digest username="x", bearer abc',),
        ("xBearer abc",),
    ],
)
def test_a_header_with_a_token_has_nothing_else(values: tuple[str, ...]) -> None:
    assert text_of(answer(request(*(("authorization", one) for one in values)))).startswith("401 wanted a JWT")
    others = tuple(("authorization", one.replace("earer ", "earer-")) for one in values)
    assert answer(request(*others)) == Authenticated(request(*others))


def test_another_header_may_stand_beside_a_token() -> None:
    others = (("x-authorization", "Basic abc"), ("x-plain", "a"))
    assert answer(request(bearer(GOOD), *others)) == Authenticated(request(*others), ALICE)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
def test_the_scheme_of_a_token_has_no_case(scheme: str) -> None:
    found = answer(request(("authorization", f"{scheme} {ISSUER.token()}")))
    assert found == Authenticated(request(), ALICE)
    assert text_of(answer(request(("authorization", scheme)))).startswith("401 wanted a JWT")
    assert answer(request(("authorization", "Bearerx"))) == Authenticated(request(("authorization", "Bearerx")))


OUTPUT = JwtRule(
    issuer=ISSUER.name,
    output_payload_to_header="X-Payload",
    output_claim_to_headers=(("x-user", "sub"), ("x-tenant", "org.id"), ("x-admin", "admin"), ("x-groups", "groups")),
)


def test_the_app_is_told_of_the_token_and_a_client_cannot_forge_it() -> None:
    token = ISSUER.token(org={"id": 7}, admin=True, groups=["a"])
    forged = [(name, "evil") for name in ("x-payload", "x-user", "X_User".lower(), "x-tenant", "x_admin", "x-groups")]
    found = answer(request(*forged, bearer(token), ("x-users", "stays")), (OUTPUT,))
    assert isinstance(found, Authenticated)
    assert found.request.headers == (
        ("x-users", "stays"),
        ("x-payload", token.split(".")[1]),
        ("x-user", "alice"),
        ("x-tenant", "7"),
        ("x-admin", "true"),
        ("x-groups", segment(b'["a"]')),
    )
    assert answer(request(*forged), (OUTPUT,)) == Authenticated(request(), None)


def test_a_claim_that_no_header_can_carry_gives_none() -> None:
    found = answer(request(bearer(ISSUER.token(sub="a\r\nx-admin: true", org={"id": "\u00fc"}))), (OUTPUT,))
    assert isinstance(found, Authenticated)
    assert [name for name, _ in found.request.headers] == ["x-payload", "x-tenant"]
    assert found.request.headers[1][1].encode("latin-1").decode() == "\u00fc"


class CountedSignatures:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = VerificationKey.made

        def counted(key: VerificationKey, signature: bytes, data: bytes, algorithm: str) -> bool:
            self.count += 1
            return real(key, signature, data, algorithm)

        monkeypatch.setattr(VerificationKey, "made", counted)


def test_a_token_is_verified_once_while_it_and_the_key_set_last(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = CountedSignatures(monkeypatch)
    authenticator, asked = TokenAuthenticator((RULE,), OWN), request(bearer(ISSUER.token()))
    for _ in range(3):
        assert isinstance(authenticator.authenticate(asked, (KEYS,), NOW), Authenticated)
    assert signatures.count == 1
    expired = authenticator.authenticate(asked, (KEYS,), ISSUER.later(360))
    assert text_of(expired).startswith("401 JWT: it expired at")
    newer = read_key_set(ISSUER.jwks())
    assert isinstance(authenticator.authenticate(asked, (newer,), NOW), Authenticated)
    assert signatures.count == 2
    withdrawn = authenticator.authenticate(asked, (OTHER_KEYS,), NOW)
    assert text_of(withdrawn) == "401 JWT: its issuer's key set has no key 'one'"


def test_a_bad_token_costs_no_signature_before_its_claims_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = CountedSignatures(monkeypatch)
    for case, (token, _) in REFUSALS.items():
        if case != "another's signature":
            answer(request(bearer(token)))
    assert signatures.count == 0
    answer(request(bearer(REFUSALS["another's signature"][0])))
    assert signatures.count == 1


def test_a_token_without_key_id_costs_a_bounded_number_of_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    signatures = CountedSignatures(monkeypatch)
    jwks = {"keys": [replace(ISSUER, key=signing_key("P-256", 1), key_id=str(n)).jwk() for n in range(20)]}
    refused = answer(request(bearer(replace(ISSUER, key_id=None).token())), keys=(read_key_set(json.dumps(jwks)),))
    assert text_of(refused) == "401 JWT: its signature was not made by a key of its issuer's key set"
    assert signatures.count == MAX_SIGNATURES


SVIDS = JwtRule(issuer="spiffe://example.org")
CALLER = SpiffeId.parse("spiffe://example.org/ns/a/sa/b")
BUNDLES = BundleSet([TrustBundle(TrustDomain("example.org"), (), {"k": key("jwt").public_key()})])


def svid(audience: str = str(OWN), spiffe_id: SpiffeId = CALLER, name: str = "jwt") -> str:
    signed = sign(spiffe_id, [audience], key=key(name), key_id="k", now=NOW, ttl=timedelta(minutes=5))
    return signed.token


def test_a_jwt_svid_names_its_caller_by_its_spiffe_id() -> None:
    found = answer(request(bearer(svid())), (SVIDS,), (BUNDLES,))
    assert isinstance(found, Authenticated)
    assert found.auth is not None
    assert found.auth.principals == ("spiffe://example.org/spiffe://example.org/ns/a/sa/b", str(CALLER))
    assert found.auth.audiences == (str(OWN),)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (
            svid("spiffe://example.org/bank"),
            f"403 JWT-SVID of {CALLER}: it is not meant for spiffe://example.org/shop",
        ),
        (
            svid(name="other"),
            f"401 JWT-SVID of {CALLER}: its signature was not made by key 'k' of the bundle of trust domain"
            " example.org",
        ),
        (
            svid(spiffe_id=SpiffeId.parse("spiffe://other.org/x")),
            "401 JWT: wanted the issuer to be one of 'spiffe://example.org', got nothing",
        ),
    ],
    ids=["another audience", "another key", "another trust domain"],
)
def test_a_bad_jwt_svid_is_refused(token: str, text: str) -> None:
    assert text_of(answer(request(bearer(token)), (SVIDS,), (BUNDLES,))) == text


def test_a_jwt_svid_may_be_meant_for_an_audience_of_the_rule() -> None:
    rule = JwtRule(issuer="spiffe://example.org", audiences=("shop",))
    assert isinstance(answer(request(bearer(svid("shop"))), (rule,), (BUNDLES,)), Authenticated)
    assert text_of(answer(request(bearer(svid())), (rule,), (BUNDLES,))).startswith("403 ")


def test_svids_and_tokens_of_an_issuer_go_together() -> None:
    for token in (svid(), ISSUER.token()):
        assert isinstance(answer(request(bearer(token)), (SVIDS, RULE), (BUNDLES, KEYS)), Authenticated)


def test_the_keys_of_another_issuer_may_be_a_bundle() -> None:
    def signed(**changes: Any) -> Authenticated | NeedsKeys | Refuse:
        private = key("jwt")
        assert isinstance(private, EllipticCurvePrivateKey)
        issuer = Issuer("https://oidc.test", NOW, ECKey.import_key(private), "k")
        token = issuer.token(sub=str(CALLER), aud=str(OWN), **changes)
        return answer(request(bearer(token)), (rule,), (BUNDLES,))

    rule = JwtRule(issuer="https://oidc.test", jwks_uri="spiffe://example.org")
    found = signed()
    assert isinstance(found, Authenticated)
    assert found.auth is not None
    assert found.auth.principals == (f"https://oidc.test/{CALLER}", str(CALLER))
    for issuer in (None, "https://evil.test"):
        assert text_of(signed(iss=issuer)).startswith(
            "401 JWT: wanted the issuer to be one of 'https://oidc.test', got"
        )


def test_a_jwt_svid_cannot_name_another_issuer_for_policies() -> None:
    private = key("jwt")
    assert isinstance(private, EllipticCurvePrivateKey)
    issuer = Issuer("https://accounts.test", NOW, ECKey.import_key(private), "k")
    found = answer(request(bearer(issuer.token(sub=str(CALLER), aud=str(OWN)))), (SVIDS,), (BUNDLES,))
    assert isinstance(found, Authenticated)
    assert found.auth is not None
    assert found.auth.claims["iss"] == "spiffe://example.org"
    assert found.auth.principals == (f"spiffe://example.org/{CALLER}", str(CALLER))


def test_a_spiffe_issuer_with_a_key_set_is_like_any_other() -> None:
    rule, issuer = JwtRule(issuer="spiffe://example.org", jwks="..."), replace(ISSUER, name="spiffe://example.org")
    found = answer(request(bearer(issuer.token())), (rule,), (KEYS,))
    assert isinstance(found, Authenticated)
    assert found.auth is not None
    assert found.auth.principals == ("spiffe://example.org/alice",)


def test_key_sets_are_told_apart_by_identity() -> None:
    assert KeySet(KEYS.keys) != KEYS
