"""JWT-SVIDs: every rule of the format and of validation, each with the whole message and a twin that passes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from meshtls.bundle import BundleSet, JwtAuthority, TrustBundle
from meshtls.errors import (
    InvalidSvidError,
    NoBundleError,
    PeerError,
    RequestError,
    UntrustedPeerError,
    ValidityError,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import ALGORITHMS, parse_and_validate, parse_unverified, sign
from meshtls.svid.jwt_format import MAX_TOKEN_BYTES, shortened
from meshtls.svid.x509 import PrivateKey
from tests.support.certs import NOW, key

WEB = SpiffeId.parse("spiffe://example.org/web")
DOMAIN = TrustDomain("example.org")
END = int((NOW + timedelta(minutes=5)).timestamp())
HEADER: dict[str, Any] = {"alg": "ES256", "kid": "k1", "typ": "JWT"}
CLAIMS: dict[str, Any] = {"sub": str(WEB), "aud": ["db"], "exp": END}
KINDS = {"RS": "RSA", "PS": "RSA", "ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def bundles(*, domain: TrustDomain = DOMAIN, **keys: JwtAuthority) -> BundleSet:
    return BundleSet([TrustBundle(domain, jwt_authorities=keys or {"k1": key().public_key()})])


def segment(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: object, claims: object, signer: PrivateKey | None = None) -> str:
    """An ES256 token that says whatever it is told, its signature good."""
    text = f"{segment(header)}.{segment(claims)}"
    signer = signer or key()
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(signer.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{segment(r.to_bytes(32) + s.to_bytes(32))}"


def without(members: dict[str, Any], name: str) -> dict[str, Any]:
    return {one: value for one, value in members.items() if one != name}


def message_of(error: type[PeerError], token: str, trusted: BundleSet | None = None, **changes: Any) -> str:
    arguments: dict[str, Any] = {"audience": "db", "now": NOW} | changes
    with pytest.raises(PeerError) as raised:
        parse_and_validate(token, bundles() if trusted is None else trusted, **arguments)
    assert type(raised.value) is error
    return str(raised.value)


class TestValidTokens:
    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_every_algorithm_of_the_standard_signs_and_validates(self, algorithm: str) -> None:
        signer = key("jwt", KINDS.get(algorithm) or KINDS[algorithm[:2]])
        ttl = timedelta(minutes=5)
        svid = sign(WEB, ["db", "mail"], key=signer, key_id="k1", now=NOW, ttl=ttl, algorithm=algorithm)
        back = parse_and_validate(svid.token, bundles(k1=signer.public_key()), "mail", NOW)
        assert back == svid
        assert (back.spiffe_id, back.audience, back.issued_at, back.expiry) == (WEB, ("db", "mail"), NOW, NOW + ttl)
        assert jws.extract_compact(svid.token.encode()).headers() == {"alg": algorithm, "kid": "k1", "typ": "JWT"}
        assert dict(back.claims) == {"sub": str(WEB), "aud": ["db", "mail"], "exp": END, "iat": int(NOW.timestamp())}

    @pytest.mark.parametrize(("kind", "wanted"), [("P-256", "ES256"), ("P-384", "ES384"), ("RSA", "RS256")])
    def test_the_default_algorithm_is_the_keys(self, kind: str, wanted: str) -> None:
        svid = sign(WEB, ["db"], key=key("jwt", kind), key_id="k1", now=NOW, ttl=timedelta(minutes=5))
        assert jws.extract_compact(svid.token.encode()).headers()["alg"] == wanted

    @pytest.mark.parametrize(
        "header",
        [HEADER, HEADER | {"typ": "JOSE"}, without(HEADER, "typ"), without(HEADER, "kid"), {"alg": "ES256"}],
        ids=["whole", "JOSE", "no typ", "no kid", "alg alone"],
    )
    def test_the_headers_that_the_standard_allows_pass(self, header: dict[str, Any]) -> None:
        assert parse_and_validate(raw(header, CLAIMS), bundles(), "db", NOW).spiffe_id == WEB

    @pytest.mark.parametrize(
        "changes",
        [{"aud": "db"}, {"aud": ["x", "db"]}, {"exp": END + 0.5}, {"nbf": int(NOW.timestamp())}, {"role": {"a": [1]}}],
        ids=["aud a string", "one of several", "fraction", "nbf now", "a claim of its own"],
    )
    def test_the_claims_that_the_standard_allows_pass(self, changes: dict[str, Any]) -> None:
        assert parse_and_validate(raw(HEADER, CLAIMS | changes), bundles(), "db", NOW).spiffe_id == WEB

    def test_without_a_kid_every_fitting_key_of_the_bundle_is_tried(self) -> None:
        trusted = bundles(a=key("jwt", "RSA").public_key(), b=key("other").public_key(), c=key().public_key())
        assert parse_and_validate(raw({"alg": "ES256"}, CLAIMS), trusted, "db", NOW).spiffe_id == WEB

    def test_the_token_and_the_claims_do_not_show_in_a_repr(self) -> None:
        svid = sign(WEB, ["db"], key=key(), key_id="k1", now=NOW, ttl=timedelta(minutes=5))
        assert repr(svid) == (
            f"JwtSvid(spiffe_id={WEB!r}, audience=('db',), expiry={svid.expiry!r}, issued_at={NOW!r}, not_before=None,"
            " hint='')"
        )

    def test_a_token_of_our_own_is_read_without_proof(self) -> None:
        svid = sign(WEB, ["db"], key=key(), key_id="k1", now=NOW, ttl=timedelta(minutes=5))
        assert parse_unverified(svid.token, hint="internal") == replace(svid, hint="internal")


SHOWN = ", ".join(ALGORITHMS)
NO_JSON = ": wanted its claims as a JSON object:"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER | {"alg": "none"}, f"wanted the algorithm to be one of {SHOWN}, got 'none'"),
        (HEADER | {"alg": "HS256"}, f"wanted the algorithm to be one of {SHOWN}, got 'HS256'"),
        (HEADER | {"alg": "EdDSA"}, f"wanted the algorithm to be one of {SHOWN}, got 'EdDSA'"),
        (HEADER | {"alg": ["ES256"]}, f"wanted the algorithm to be one of {SHOWN}, got ['ES256']"),
        (HEADER | {"alg": None}, f"wanted the algorithm to be one of {SHOWN}, got nothing"),
        (HEADER | {"crit": ["exp"]}, "wanted no header but alg, kid, typ, got 'crit'"),
        (HEADER | {"jku": "x", "x5c": []}, "wanted no header but alg, kid, typ, got 'jku, x5c'"),
        (HEADER | {"typ": "at+jwt"}, "wanted the header 'typ' to be JWT or JOSE or not there, got 'at+jwt'"),
        (HEADER | {"typ": "jwt"}, "wanted the header 'typ' to be JWT or JOSE or not there, got 'jwt'"),
        (HEADER | {"kid": 7}, "wanted the header 'kid' to be a string, got 7"),
        (["alg"], "wanted its header as a JSON object, got list"),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused(header: object, message: str) -> None:
    assert parse_and_validate(raw(HEADER, CLAIMS), bundles(), "db", NOW).spiffe_id == WEB
    assert message_of(InvalidSvidError, raw(header, CLAIMS)) == f"JWT-SVID: {message}"


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        (without(CLAIMS, "sub"), ": wanted a SPIFFE ID in 'sub', got nothing"),
        (CLAIMS | {"sub": 7}, ": wanted a SPIFFE ID in 'sub', got 7"),
        (
            CLAIMS | {"sub": "https://example.org/web"},
            ": wanted a SPIFFE ID in 'sub': SPIFFE ID 'https://example.org/web': wanted it to start with 'spiffe://'",
        ),
        (without(CLAIMS, "aud"), f" of {WEB}: wanted one or more names in 'aud', got nothing"),
        (CLAIMS | {"aud": []}, f" of {WEB}: wanted one or more names in 'aud', got []"),
        (CLAIMS | {"aud": ["db", ""]}, f" of {WEB}: wanted one or more names in 'aud', got ['db', '']"),
        (CLAIMS | {"aud": {"db": 1}}, f" of {WEB}: wanted one or more names in 'aud', got {{'db': 1}}"),
        (without(CLAIMS, "exp"), f" of {WEB}: wanted the time of its end in 'exp', got nothing"),
        (CLAIMS | {"exp": "never"}, f" of {WEB}: wanted seconds since 1970 in 'exp', got 'never'"),
        (CLAIMS | {"exp": None}, f" of {WEB}: wanted seconds since 1970 in 'exp', got null"),
        (CLAIMS | {"nbf": None}, f" of {WEB}: wanted seconds since 1970 in 'nbf', got null"),
        (CLAIMS | {"exp": True}, f" of {WEB}: wanted seconds since 1970 in 'exp', got True"),
        (CLAIMS | {"exp": float("inf")}, f"{NO_JSON} Infinity is no number in JSON"),
        (CLAIMS | {"exp": float("nan")}, f"{NO_JSON} NaN is no number in JSON"),
        (CLAIMS | {"role": float("-inf")}, f"{NO_JSON} -Infinity is no number in JSON"),
        (CLAIMS | {"exp": 10**20}, f" of {WEB}: wanted seconds since 1970 in 'exp', got 100000000000000000000"),
        (CLAIMS | {"nbf": "x"}, f" of {WEB}: wanted seconds since 1970 in 'nbf', got 'x'"),
        ([], ": wanted its claims as a JSON object, got list"),
        (b"\xff", ": wanted its claims as a JSON object: 'utf-8' codec can't decode byte 0xff in position 0: "
         "invalid start byte"),
    ],
)  # fmt: skip
def test_claims_that_break_a_rule_are_refused(claims: object, message: str) -> None:
    assert message_of(InvalidSvidError, raw(HEADER, claims)) == f"JWT-SVID{message}"


def test_a_token_for_another_audience_is_refused() -> None:
    token = raw(HEADER, CLAIMS | {"aud": ["db", "mail"]})
    assert message_of(InvalidSvidError, token, audience="d") == (
        f"JWT-SVID of {WEB}: it is meant for 'db', 'mail', not for 'd'"
    )


def test_an_error_names_up_to_eight_audiences_of_a_token() -> None:
    named = [f"a{number}" for number in range(8)]
    shown = ", ".join(map(repr, named))
    assert message_of(InvalidSvidError, raw(HEADER, CLAIMS | {"aud": named})) == (
        f"JWT-SVID of {WEB}: it is meant for {shown}, not for 'db'"
    )
    assert message_of(InvalidSvidError, raw(HEADER, CLAIMS | {"aud": [*named, "a8"]})) == (
        f"JWT-SVID of {WEB}: it is meant for {shown}, ..., not for 'db'"
    )


@pytest.mark.parametrize("audience", ["", "DB", "db "])
def test_the_audience_is_compared_whole(audience: str) -> None:
    assert "not for" in message_of(InvalidSvidError, raw(HEADER, CLAIMS), audience=audience)


class TestTimes:
    def test_an_expired_token_is_refused_from_the_second_of_its_end(self) -> None:
        token, end = raw(HEADER, CLAIMS), NOW + timedelta(minutes=5)
        assert parse_and_validate(token, bundles(), "db", end - timedelta(seconds=1)).spiffe_id == WEB
        assert message_of(ValidityError, token, now=end) == (
            f"JWT-SVID of {WEB}: it expired at 2030-05-01T12:05:00Z; our clock says 2030-05-01T12:05:00Z"
        )

    def test_a_token_before_its_nbf_is_refused(self) -> None:
        token = raw(HEADER, CLAIMS | {"nbf": int(NOW.timestamp()) + 60})
        assert parse_and_validate(token, bundles(), "db", NOW + timedelta(seconds=60)).spiffe_id == WEB
        assert message_of(ValidityError, token) == (
            f"JWT-SVID of {WEB}: it is not valid before 2030-05-01T12:01:00Z; our clock says 2030-05-01T12:00:00Z"
        )


class TestTrust:
    def test_no_bundle_for_its_trust_domain(self) -> None:
        trusted = bundles(domain=TrustDomain("other.test"), k1=key().public_key())
        assert message_of(NoBundleError, raw(HEADER, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: no bundle for trust domain example.org; known: other.test"
        )

    def test_a_bundle_without_jwt_keys(self) -> None:
        trusted = BundleSet([TrustBundle(DOMAIN)])
        assert message_of(NoBundleError, raw(HEADER, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: the bundle of trust domain example.org has no JWT authority"
        )

    def test_a_federated_domains_key_cannot_vouch_for_our_ids(self) -> None:
        foreign = TrustBundle(TrustDomain("partner.test"), jwt_authorities={"k1": key("foreign").public_key()})
        ours = TrustBundle(DOMAIN, jwt_authorities={"k1": key().public_key()})
        theirs = raw(HEADER, CLAIMS | {"sub": "spiffe://partner.test/web"}, key("foreign"))
        assert (
            str(parse_and_validate(theirs, BundleSet([foreign, ours]), "db", NOW).spiffe_id)
            == "spiffe://partner.test/web"
        )
        stolen = raw(HEADER, CLAIMS, key("foreign"))
        assert message_of(UntrustedPeerError, stolen, BundleSet([foreign, ours])) == (
            f"JWT-SVID of {WEB}: its signature was not made by key 'k1' of the bundle of trust domain example.org"
        )

    def test_an_unknown_key_id(self) -> None:
        assert message_of(UntrustedPeerError, raw(HEADER | {"kid": "k2"}, CLAIMS)) == (
            f"JWT-SVID of {WEB}: the bundle of trust domain example.org has no key 'k2'; known: 'k1'"
        )

    def test_a_key_that_the_token_does_not_name_cannot_vouch_for_it(self) -> None:
        trusted = bundles(k1=key("other").public_key(), k2=key().public_key())
        assert parse_and_validate(raw(HEADER | {"kid": "k2"}, CLAIMS), trusted, "db", NOW).spiffe_id == WEB
        assert message_of(UntrustedPeerError, raw(HEADER, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: its signature was not made by key 'k1' of the bundle of trust domain example.org"
        )

    def test_no_key_of_the_bundle_fits_a_token_without_kid(self) -> None:
        trusted = bundles(a=key("other").public_key(), b=key("jwt", "RSA").public_key())
        assert message_of(UntrustedPeerError, raw({"alg": "ES256"}, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: its signature was not made by any fitting key"
            " of the bundle of trust domain example.org"
        )

    @pytest.mark.parametrize("place", [0, 1, 2], ids=["header", "claims", "signature"])
    def test_a_tampered_token_is_refused(self, place: int) -> None:
        good, other = (raw(HEADER, CLAIMS | extra).split(".") for extra in ({}, {"role": "admin"}))
        other[0] = segment(HEADER | {"typ": "JOSE"})
        forged = ".".join([*good[:place], other[place], *good[place + 1 :]])
        assert parse_and_validate(".".join(good), bundles(), "db", NOW).spiffe_id == WEB
        assert message_of(UntrustedPeerError, forged) == (
            f"JWT-SVID of {WEB}: its signature was not made by key 'k1' of the bundle of trust domain example.org"
        )

    def test_a_token_without_its_signature_is_refused(self) -> None:
        token = raw(HEADER, CLAIMS)
        assert "its signature was not made by" in message_of(UntrustedPeerError, token[: token.rindex(".") + 1])

    @pytest.mark.parametrize(
        ("algorithm", "kind", "named"),
        [
            ("ES256", "RSA", "an RSA key of 2048 bits"),
            ("ES256", "P-384", "an EC key on secp384r1"),
            ("RS256", "P-256", "an EC key on secp256r1"),
            ("PS512", "P-521", "an EC key on secp521r1"),
        ],
    )
    def test_an_algorithm_that_does_not_fit_the_bundles_key_is_refused(
        self, algorithm: str, kind: str, named: str
    ) -> None:
        trusted = bundles(k1=key("jwt", kind).public_key())
        assert message_of(UntrustedPeerError, raw(HEADER | {"alg": algorithm}, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: key 'k1': algorithm {algorithm!r} does not fit {named}"
        )

    def test_a_public_key_used_as_a_shared_secret_is_refused(self) -> None:
        pem = key("jwt", "RSA").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        secret = OctKey.import_key(base64.b64encode(pem).decode())
        token = jws.serialize_compact(dict(HEADER, alg="HS256"), json.dumps(CLAIMS), secret)
        trusted = bundles(k1=key("jwt", "RSA").public_key())
        assert message_of(InvalidSvidError, token, trusted).endswith("got 'HS256'")

    def test_an_unsigned_token_is_refused(self) -> None:
        token = f"{segment(HEADER | {'alg': 'none'})}.{segment(CLAIMS)}."
        assert message_of(InvalidSvidError, token).endswith("got 'none'")

    def test_a_short_rsa_key_is_not_used(self) -> None:
        assert weak_key().key_size == 1024
        trusted = bundles(k1=weak_key().public_key())
        assert message_of(UntrustedPeerError, raw(HEADER | {"alg": "RS256"}, CLAIMS), trusted) == (
            f"JWT-SVID of {WEB}: key 'k1': algorithm 'RS256' does not fit an RSA key of 1024 bits"
        )


class TestForm:
    @pytest.mark.parametrize("token", ["", "a.b", "a.b.c.d", "....", "é.é.é", "\ud800", "a" * 60_000, "A.A.A", "A ..A"])
    def test_a_malformed_compact_jws_is_refused(self, token: str) -> None:
        assert message_of(InvalidSvidError, token).startswith(
            "JWT-SVID: wanted a JWS in compact form, got something else: "
        )

    @pytest.mark.parametrize("token", ["", "a.b", "a.b.c.d"])
    def test_a_wrong_number_of_token_parts_is_reported_first(self, token: str) -> None:
        assert message_of(InvalidSvidError, token).endswith("something else: wanted three parts with dots between them")

    def test_the_json_form_of_a_jws_is_refused(self) -> None:
        head, body, signature = raw(HEADER, CLAIMS).split(".")
        whole = json.dumps({"protected": head, "payload": body, "signature": signature})
        assert message_of(InvalidSvidError, whole).startswith("JWT-SVID: wanted a JWS in compact form")

    def test_deep_nesting_is_refused(self) -> None:
        deep = CLAIMS | {"role": nested(63)}
        assert parse_and_validate(raw(HEADER, deep), bundles(), "db", NOW).claims == deep
        assert message_of(InvalidSvidError, raw(HEADER, CLAIMS | {"role": nested(64)})) == (
            f"JWT-SVID{NO_JSON} nested deeper than 64 levels"
        )

    @pytest.mark.parametrize("part", ["header", "claims"])
    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda text: b"\xef\xbb\xbf" + text, "BOM"),
            (lambda text: text.decode().encode("utf-16"), "'utf-8' codec can't decode byte"),
            (lambda text: text.decode().encode("utf-16-be"), "Expecting value"),
            (lambda text: text[:-1] + b', "x": "\xff"}', "'utf-8' codec can't decode byte"),
            (lambda text: text[:-1] + b', "x": "\xed\xa0\x80"}', "'utf-8' codec can't decode byte"),
            (lambda text: text[:-1] + b', "x": "\\ud800"}', "surrogates not allowed"),
            (lambda text: text[:-1] + b', "x": 1, "x": 1}', "the member 'x' is there twice"),
            (lambda text: text[:-1] + b', "x": {"y": 1, "\\u0079": 2}}', "the member 'y' is there twice"),
            (lambda text: text[:-1] + b', "x": NaN}', "NaN is no number in JSON"),
            (lambda text: text[:-1] + b', "x": 1e999}', "the number 1e999 is too large"),
            (lambda text: text[:-1] + b', "x": ' + b"9" * 65 + b"}", "a number of 65 digits, more than 64"),
            (lambda text: text + b" {}", "Extra data"),
        ],
    )  # fmt: skip
    def test_ambiguous_json_is_refused(self, part: str, spoil: Callable[[bytes], bytes], why: str) -> None:
        good = [json.dumps(one).encode() for one in (HEADER, CLAIMS)]
        assert parse_and_validate(raw(good[0], good[1]), bundles(), "db", NOW).spiffe_id == WEB
        bad = [spoil(good[0]), good[1]] if part == "header" else [good[0], spoil(good[1])]
        assert why in message_of(InvalidSvidError, raw(bad[0], bad[1]))

    @pytest.mark.parametrize("place", [0, 1, 2])
    @pytest.mark.parametrize("spoil", [lambda one: one + "=", lambda one: one + "\n", lambda one: one + "A" * 5])
    def test_each_part_is_base64url_in_its_one_form(self, place: int, spoil: Callable[[str], str]) -> None:
        parts = raw(HEADER, CLAIMS).split(".")
        token = ".".join([*parts[:place], spoil(parts[place]), *parts[place + 1 :]])
        with pytest.raises(PeerError):
            parse_and_validate(token, bundles(), "db", NOW)

    def test_unused_bits_in_base64url_are_refused(self) -> None:
        head, body, signature = raw(HEADER, CLAIMS).split(".")
        other = signature[:-1] + chr(ord(signature[-1]) + 1)  # 64 bytes leave four bits of the last character unused
        assert base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(signature + "==")
        assert message_of(InvalidSvidError, f"{head}.{body}.{other}").endswith("or bits that base64url has not")

    def test_a_token_that_is_too_long_is_refused_unread(self) -> None:
        room = MAX_TOKEN_BYTES - len(raw(HEADER, CLAIMS | {"role": ""}))
        filled = CLAIMS | {"role": "x" * (room * 3 // 4)}
        assert parse_and_validate(raw(HEADER, filled), bundles(), "db", NOW).claims == filled
        token = raw(HEADER, filled | {"role": "x" * room})
        assert message_of(InvalidSvidError, token) == (
            f"JWT-SVID: wanted at most {MAX_TOKEN_BYTES} bytes, got {len(token)}"
        )

    def test_a_message_is_short_whatever_the_token_says(self) -> None:
        audiences = ["x" * 200] * 200
        for token in (
            raw(HEADER, CLAIMS | {"aud": audiences}),
            raw(HEADER | {"kid": "k" * 300}, CLAIMS),
            raw(HEADER | {"k" * 300: 1}, CLAIMS),
            raw(HEADER, CLAIMS | {"sub": "x" * 40_000}),
            raw(HEADER, CLAIMS | {"exp": "x" * 40_000}),
        ):
            with pytest.raises(PeerError) as raised:
                parse_and_validate(token, bundles(), "db", NOW)
            assert len(str(raised.value)) < 1100

    def test_a_value_in_a_message_has_at_most_80_characters(self) -> None:
        assert shortened("x" * 78) == f"'{'x' * 78}'"
        assert shortened("x" * 79) == f"'{'x' * 76}..."

    def test_a_key_id_that_is_longer_than_a_header_may_be_is_refused(self) -> None:
        known, too_long = "k" * 300, "k" * 600
        trusted = BundleSet([TrustBundle(DOMAIN, jwt_authorities=dict.fromkeys((known, too_long), key().public_key()))])
        assert parse_and_validate(raw(HEADER | {"kid": known}, CLAIMS), trusted, "db", NOW).spiffe_id == WEB
        assert message_of(InvalidSvidError, raw(HEADER | {"kid": too_long}, CLAIMS), trusted).startswith(
            "JWT-SVID: wanted a JWS in compact form, got something else: "
        )

    @given(st.text(alphabet="ey.JhbGciOiJ_-=é", max_size=200) | st.text(max_size=200))
    def test_junk_is_refused_with_a_peer_error(self, token: str) -> None:
        with pytest.raises(PeerError):
            parse_and_validate(token, bundles(), "db", NOW)

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
           st.sampled_from(["alg", "kid", "typ", "sub", "aud", "exp", "nbf", "iat"]))  # fmt: skip
    def test_any_json_as_a_member_passes_or_is_refused_with_a_peer_error(self, value: object, name: str) -> None:
        header = HEADER | {name: value} if name in HEADER else HEADER
        claims = CLAIMS if name in HEADER else CLAIMS | {name: value}
        try:
            parse_and_validate(raw(header, claims), bundles(), "db", NOW)
        except PeerError:
            return
        assert name in ("kid", "iat", "nbf", "exp", "aud") or (name, value) == ("typ", "JWT")


class TestSigning:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"audience": []}, "wanted one or more audiences, none of them empty, got []"),
            ({"audience": ["db", ""]}, "wanted one or more audiences, none of them empty, got ['db', '']"),
            ({"audience": "db"}, "wanted one or more audiences, none of them empty, got 'db'"),
            ({"ttl": timedelta(0)}, "wanted a life of one second or more, got 0 s"),
            ({"key_id": ""}, "wanted a key ID by which the bundle names the key, got an empty one"),
            ({"algorithm": "RS256"}, "algorithm 'RS256' does not fit an EC key on secp256r1"),
            ({"algorithm": "HS256"}, "algorithm 'HS256' does not fit an EC key on secp256r1"),
            ({"audience": ["\ud800"]}, "wanted audiences that UTF-8 can carry, got ['\\ud800']"),
            (
                {"audience": ["x" * 50_000]},
                "wanted claims of at most 45056 bytes, got 50086; ask for fewer or shorter audiences",
            ),
            ({"algorithm": "none"}, "algorithm 'none' does not fit an EC key on secp256r1"),
        ],
    )
    def test_an_unsignable_request_is_refused(self, changes: dict[str, Any], message: str) -> None:
        good: dict[str, Any] = {"audience": ["db"], "key_id": "k1", "ttl": timedelta(minutes=5)}
        assert sign(WEB, key=key(), now=NOW, **good).audience == ("db",)
        with pytest.raises(RequestError) as raised:
            sign(WEB, key=key(), now=NOW, **good | changes)
        assert str(raised.value) == f"JWT-SVID of {WEB}: {message}"

    def test_the_longest_signed_token_is_accepted(self) -> None:
        long = "x" * 44_900
        svid = sign(WEB, [long], key=key("jwt", "RSA"), key_id="k" * 64, now=NOW, ttl=timedelta(minutes=5))
        trusted = BundleSet([TrustBundle(DOMAIN, jwt_authorities={"k" * 64: key("jwt", "RSA").public_key()})])
        assert parse_and_validate(svid.token, trusted, long, NOW).audience == (long,)

    def test_claims_are_signed_up_to_the_bytes_that_a_reader_takes(self) -> None:
        ttl, room = timedelta(minutes=5), 45_056 - 86  # the other claims need 86
        assert sign(WEB, ["x" * room], key=key(), key_id="k1", now=NOW, ttl=ttl).audience == ("x" * room,)
        with pytest.raises(RequestError, match="wanted claims of at most 45056 bytes, got 45057"):
            sign(WEB, ["x" * (room + 1)], key=key(), key_id="k1", now=NOW, ttl=ttl)

    def test_an_audience_is_signed_once_and_in_order(self) -> None:
        svid = sign(WEB, ["b", "a", "b"], key=key(), key_id="k1", now=NOW, ttl=timedelta(minutes=5))
        assert svid.audience == ("b", "a")

    def test_times_are_whole_seconds_that_never_outlive_the_ttl(self) -> None:
        now: datetime = NOW + timedelta(milliseconds=900)
        svid = sign(WEB, ["db"], key=key(), key_id="k1", now=now, ttl=timedelta(seconds=2))
        assert (svid.issued_at, svid.expiry) == (NOW, NOW + timedelta(seconds=2))


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else 1


@cache
def weak_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)  # noqa: S505  # that it is weak is the point
