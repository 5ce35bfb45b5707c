"""SPIFFE Trust Domain and Bundle, section 4; joserfc is the reference for JWKs."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, KeySet, RSAKey

from meshtls.bundle import BundleSet, TrustBundle, _read_each
from meshtls.errors import BundleError
from meshtls.spiffeid import TrustDomain
from tests.support.certs import ca, key, leaf

TD, OTHER = TrustDomain("a.test"), TrustDomain("b.test")
ROOT, NEXT, RSA_ROOT = ca(name="root"), ca(name="next", slot="next"), ca(name="rsa", kind="RSA")
EC_KEY, RSA_KEY = key("jwt").public_key(), key("jwt", "RSA").public_key()
FULL = TrustBundle(
    TD,
    (ROOT.certificate, NEXT.certificate, RSA_ROOT.certificate),
    {"ec": EC_KEY, "rsa": RSA_KEY, "p384": key("jwt", "P-384").public_key()},
    sequence=7,
    refresh_hint=300,
)
Entry = dict[str, Any]
TEXTS = ["", "x", "é", "\ud800", "AA==", "A" * 43, "P-256", "secp256k1", "EC", "RSA", "oct", "x509-svid", "jwt-svid"]
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TEXTS) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def document(*entries: Entry, **members: object) -> str:
    return json.dumps({"keys": list(entries)} | members)


def x509_entry(**change: object) -> Entry:
    return json.loads(TrustBundle(TD, (ROOT.certificate,)).to_jwks())["keys"][0] | change  # type: ignore[no-any-return]


def jwt_entry(**change: object) -> Entry:
    return json.loads(TrustBundle(TD, (), {"k1": EC_KEY}).to_jwks())["keys"][0] | change  # type: ignore[no-any-return]


def rsa_entry(bits: int, exponent: int = 65537) -> Entry:
    """An entry with these RSA parameters, for which no private key is needed."""
    numbers = {"n": (1 << bits - 1 | 1).to_bytes(-(-bits // 8)), "e": exponent.to_bytes(8)}
    coded = {name: base64.urlsafe_b64encode(value).decode().rstrip("=") for name, value in numbers.items()}
    return {"kty": "RSA", "use": "jwt-svid", "kid": "k1"} | coded


def without(entry: Entry, name: str) -> Entry:
    return {member: value for member, value in entry.items() if member != name}


def parsed(*entries: Entry, **members: object) -> TrustBundle:
    return TrustBundle.from_jwks(TD, document(*entries, **members))


def refusal(read: Callable[[], TrustBundle]) -> str:
    with pytest.raises(BundleError) as caught:
        read()
    return str(caught.value)


def test_a_bundle_round_trips_through_its_document() -> None:
    assert TrustBundle.from_jwks(TD, FULL.to_jwks()) == FULL
    assert TrustBundle.from_jwks(TD, FULL.to_jwks().encode()) == FULL


def test_an_empty_bundle_round_trips() -> None:
    assert json.loads(TrustBundle(TD).to_jwks()) == {"keys": []}
    assert parsed() == TrustBundle(TD)


def test_sequence_and_refresh_hint_of_zero_are_written_and_read() -> None:
    zero = TrustBundle(TD, sequence=0, refresh_hint=0)
    assert json.loads(zero.to_jwks()) == {"keys": [], "spiffe_sequence": 0, "spiffe_refresh_hint": 0}
    assert TrustBundle.from_jwks(TD, zero.to_jwks()) == zero


def test_each_x509_entry_has_kty_use_and_one_certificate_and_no_kid() -> None:
    entries = json.loads(FULL.to_jwks())["keys"][:3]
    assert [entry["kty"] for entry in entries] == ["EC", "EC", "RSA"]
    assert all(entry["use"] == "x509-svid" and "kid" not in entry for entry in entries)
    assert [entry["x5c"] for entry in entries] == [
        [base64.b64encode(one.public_bytes(Encoding.DER)).decode()] for one in FULL.x509_authorities
    ]


def test_each_jwt_entry_has_kty_use_and_kid_and_no_private_member() -> None:
    entries = json.loads(FULL.to_jwks())["keys"][3:]
    assert [(entry["kty"], entry["use"], entry["kid"]) for entry in entries] == [
        ("EC", "jwt-svid", "ec"),
        ("RSA", "jwt-svid", "rsa"),
        ("EC", "jwt-svid", "p384"),
    ]
    assert [sorted(without(entry, "use")) for entry in entries] == [
        ["crv", "kid", "kty", "x", "y"],
        ["e", "kid", "kty", "n"],
        ["crv", "kid", "kty", "x", "y"],
    ]


def test_joserfc_reads_our_document_and_finds_the_same_keys() -> None:
    entries = [without(entry, "use") for entry in json.loads(FULL.to_jwks())["keys"]]
    keys = KeySet.import_key_set({"keys": entries}).keys
    public = [one.public_key for one in keys if isinstance(one, ECKey | RSAKey)]
    assert public == [*(one.public_key() for one in FULL.x509_authorities), *FULL.jwt_authorities.values()]


def test_we_read_the_keys_that_joserfc_writes() -> None:
    made = ECKey.generate_key("P-521")
    bundle = parsed({**made.as_dict(private=False), "use": "jwt-svid", "kid": "k"})
    assert bundle.jwt_authorities == {"k": made.public_key}


def test_private_members_of_a_jwt_key_are_dropped() -> None:
    private = ECKey.generate_key("P-256").as_dict(private=True)
    [written] = json.loads(parsed({**private, "use": "jwt-svid", "kid": "k"}).to_jwks())["keys"]
    assert "d" in private
    assert "d" not in written


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(jwt_entry(kty="OKP"), id="an unknown kty"),
        pytest.param(jwt_entry(kty="ec"), id="a kty in another case"),
        pytest.param(without(jwt_entry(), "kty"), id="no kty"),
        pytest.param(jwt_entry(kty=["EC"]), id="a kty that is no text"),
        pytest.param(jwt_entry(use="sig"), id="an unknown use"),
        pytest.param(jwt_entry(use="JWT-SVID"), id="jwt-svid in another case"),
        pytest.param(x509_entry(use="X509-SVID"), id="x509-svid in another case"),
        pytest.param(without(jwt_entry(), "use"), id="no use"),
        pytest.param(jwt_entry(use=None), id="a use of null"),
        pytest.param(without(x509_entry(), "x5c"), id="x509-svid without x5c"),
        pytest.param(x509_entry(x5c=[]), id="x509-svid with an empty x5c"),
        pytest.param({}, id="nothing at all"),
    ],
)
def test_a_key_that_is_not_meant_for_us_is_ignored_and_the_others_are_read(entry: Entry) -> None:
    assert parsed(entry, jwt_entry(), x509_entry()) == parsed(jwt_entry(), x509_entry())
    assert parsed(entry) == TrustBundle(TD)
    assert parsed(entry).unusable == ()


def test_an_unknown_kty_or_use_is_ignored_even_where_the_rest_is_malformed() -> None:
    assert parsed({"kty": "PQ", "use": "jwt-svid"}, {"kty": "EC", "use": "wit-svid", "x": 1}) == TrustBundle(TD)


def test_only_the_first_certificate_of_x5c_is_read() -> None:
    entry = x509_entry()
    assert parsed(entry | {"x5c": [*entry["x5c"], "not base64"]}).x509_authorities == (ROOT.certificate,)


def test_the_certificate_of_x5c_counts_without_the_members_beside_it() -> None:
    entry = {"kty": "EC", "use": "x509-svid", "x5c": x509_entry()["x5c"]}
    assert parsed(entry).x509_authorities == (ROOT.certificate,)


def test_unknown_members_are_ignored() -> None:
    assert parsed(x509_entry(alg="ES256", kid="k", more=[1]), version="2", spiffe_other=1) == parsed(x509_entry())


def test_jwt_keys_are_no_x509_authorities_and_the_other_way_round() -> None:
    assert parsed(jwt_entry()).x509_authorities == ()
    assert parsed(x509_entry()).jwt_authorities == {}


PREFIX = "SPIFFE bundle of trust domain a.test: wanted "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a JSON object, got Expecting value: line 1 column 1 (char 0)"),
        ("[]", "a JSON object, got list"),
        ("null", "a JSON object, got nothing"),
        ("{}", "an array of objects in 'keys', got nothing"),
        ('{"keys": null}', "an array of objects in 'keys', got nothing"),
        ('{"keys": {}}', "an array of objects in 'keys', got dict"),
        ('{"keys": [], "spiffe_sequence": "7"}', "a whole number below 2**64 in 'spiffe_sequence', got '7'"),
        ('{"keys": [], "spiffe_sequence": 1.5}', "a whole number below 2**64 in 'spiffe_sequence', got 1.5"),
        ('{"keys": [], "spiffe_sequence": true}', "a whole number below 2**64 in 'spiffe_sequence', got True"),
        ('{"keys": [], "spiffe_sequence": -1}', "a whole number below 2**64 in 'spiffe_sequence', got -1"),
        (
            f'{{"keys": [], "spiffe_sequence": {2**64}}}',
            f"a whole number below 2**64 in 'spiffe_sequence', got {2**64}",
        ),
        (
            f'{{"keys": [], "spiffe_refresh_hint": {2**63}}}',
            f"a whole number below 2**63 in 'spiffe_refresh_hint', got {2**63}",
        ),
        ('{"keys": [], "spiffe_refresh_hint": -1}', "a whole number below 2**63 in 'spiffe_refresh_hint', got -1"),
        ('{"keys": [], "spiffe_refresh_hint": 0.5}', "a whole number below 2**63 in 'spiffe_refresh_hint', got 0.5"),
        ('{"keys": [], "spiffe_refresh_hint": NaN}', "a JSON object, got NaN is no number in JSON"),
        (
            '\ufeff{"keys": []}',
            "a JSON object, got Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
        ),
    ],
)
def test_an_invalid_bundle_document_is_refused(text: str, message: str) -> None:
    assert refusal(lambda: TrustBundle.from_jwks(TD, text)) == PREFIX + message


@pytest.mark.parametrize("text", [b"\xff", "[" * 100_000, '{"keys":' + "[" * 100_000, "1" * 5000])
def test_malformed_json_is_refused(text: bytes | str) -> None:
    assert refusal(lambda: TrustBundle.from_jwks(TD, text)).startswith(PREFIX + "a JSON object, got ")


@pytest.mark.parametrize("sequence", [0, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_sequence_has_64_bits_and_no_sign(sequence: int) -> None:
    bundle = TrustBundle(TD, (), {}, sequence, 300)
    assert parsed(spiffe_sequence=sequence, spiffe_refresh_hint=300) == bundle
    assert TrustBundle.from_jwks(TD, bundle.to_jwks()).sequence == sequence


def test_the_largest_refresh_hint_is_read() -> None:
    assert parsed(spiffe_refresh_hint=2**63 - 1).refresh_hint == 2**63 - 1


ROOTS = "left out an X.509 authority: "
X5C = ROOTS + "wanted an array of base64 texts in 'x5c', got "
KEYS = "left out a JWT authority: wanted "
KID = KEYS + "a 'kid' with each key, got "
RSA = KEYS + "a public RSA key 'k1', got "
SAID = "SPIFFE bundle of trust domain a.test: "
# The first boolean of the basic constraints: in DER, TRUE is 0xff only.
EXTENSIONS, BROKEN = b"\x30\x03\x01\x01\xff", b"\x30\x03\x01\x01\x01"
POINT = ROOT.certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
ODD = leaf(ROOT, subject="odd", own_key=ed25519.Ed25519PrivateKey.generate())
#: With two basicConstraints: the OID of its key usage was replaced.
TWICE = ROOT.der.replace(b"\x06\x03\x55\x1d\x0f", b"\x06\x03\x55\x1d\x13")
VERSION_9 = ROOT.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(x509_entry(x5c=["AAAA"]), ROOTS + "error parsing asn1 value", id="x5c of junk"),
        pytest.param(x509_entry(x5c=["é"]), ROOTS + "string argument should contain only ASCII", id="x5c in é"),
        pytest.param(x509_entry(x5c=[base64.encodebytes(ROOT.der).decode()]), ROOTS, id="x5c with line breaks"),
        pytest.param(x509_entry(x5c=[5]), X5C + "a list of int", id="x5c of a number"),
        pytest.param(x509_entry(x5c=5), X5C + "int", id="x5c is a number"),
        pytest.param(x509_entry(x5c={"0": "AAAA"}), X5C + "dict", id="x5c is an object"),
        pytest.param(
            x509_entry(x5c=[base64.b64encode(VERSION_9).decode()]),
            ROOTS + "9 is not a valid X509 version",
            id="x5c of an unknown X.509 version",
        ),
        pytest.param(
            x509_entry(x5c=[base64.b64encode(ROOT.der.replace(EXTENSIONS, BROKEN)).decode()]),
            ROOTS + "error parsing asn1 value",
            id="x5c with an extension that can't be parsed",
        ),
        pytest.param(
            x509_entry(x5c=[base64.b64encode(TWICE).decode()]),
            ROOTS + "Duplicate 2.5.29.19 extension found",
            id="x5c with one extension twice",
        ),
        pytest.param(
            x509_entry(x5c=[base64.b64encode(ODD.der).decode()]),
            ROOTS + "CA certificate CN=odd: wanted an EC or RSA key: got Ed25519PublicKey",
            id="x5c with a key that is neither",
        ),
        pytest.param(without(jwt_entry(), "kid"), KID + "nothing", id="no kid"),
        pytest.param(jwt_entry(kid=""), KID + "str", id="an empty kid"),
        pytest.param(jwt_entry(kid=5), KID + "int", id="a kid that is no text"),
        pytest.param(
            jwt_entry(kid="k\ud800"),
            KEYS + r"a 'kid' of whole characters, got 'k\ud800', with half a surrogate pair",
            id="a kid with half a surrogate pair",
        ),
        pytest.param(without(jwt_entry(), "y"), KEYS + "a public EC key 'k1', got 'y'", id="no y"),
        pytest.param(
            jwt_entry(crv="P-999"),
            KEYS + "a public EC key 'k1', got curve 'P-999': wanted P-256, P-384, P-521",
            id="an unknown curve",
        ),
        pytest.param(
            {**ECKey.generate_key("secp256k1").as_dict(private=False), "use": "jwt-svid", "kid": "k1"},
            KEYS + "a public EC key 'k1', got curve 'secp256k1': wanted P-256, P-384, P-521",
            id="a curve that no algorithm of the standard has",
        ),
        pytest.param(jwt_entry(crv=["P-256"]), KEYS + "a public EC key 'k1', got curve ['P-256']", id="a listed curve"),
        pytest.param(jwt_entry(x="AAAA"), KEYS + "a public EC key 'k1', got ", id="a point off the curve"),
        pytest.param(jwt_entry(x=5), KEYS + "a public EC key 'k1', got ", id="x is a number"),
        pytest.param(jwt_entry(kty="RSA"), KEYS + "a public RSA key 'k1', got 'n'", id="an RSA key with no modulus"),
        pytest.param(rsa_entry(1024), RSA + "1024 bits: wanted 2048 to 8192", id="a short RSA key"),
        pytest.param(rsa_entry(8193), RSA + "8193 bits: wanted 2048 to 8192", id="a long RSA key"),
        pytest.param(rsa_entry(2048, 2**32 + 1), RSA + "an exponent of 33 bits: wanted at most 32", id="slow RSA"),
        pytest.param(rsa_entry(2048, 2), RSA, id="an even exponent"),
        pytest.param(rsa_entry(2048) | {"n": 5}, RSA, id="a modulus that is a number"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", [False, True])
def test_an_unusable_key_is_left_out_with_a_warning_and_the_others_are_read(
    entry: Entry, message: str, after: bool
) -> None:
    good = [jwt_entry(kid="good"), x509_entry()]
    bundle = parsed(*([*good, entry] if after else [entry, *good]))
    assert bundle == parsed(*good)
    assert parsed(*good).unusable == ()
    [line] = bundle.unusable
    assert line.startswith(SAID + message)
    assert TrustBundle.from_jwt_jwks(TD, document(*good, entry)) == TrustBundle.from_jwt_jwks(TD, document(*good))


@pytest.mark.parametrize("odd", [r'"\ud800"', "1e999", "9" * 100, r'{"\udfff": [1e999]}'])
def test_an_odd_value_of_an_unknown_member_spoils_neither_its_key_nor_the_others(odd: str) -> None:
    good = document(jwt_entry(), x509_entry())
    spoiled = good.replace('"kty"', f'"odd": {odd}, "kty"')
    assert spoiled != good
    assert TrustBundle.from_jwks(TD, spoiled) == TrustBundle.from_jwks(TD, good)
    beside = good.replace('"keys"', f'"odd": {odd}, "keys"')
    assert beside != good
    assert TrustBundle.from_jwks(TD, beside) == TrustBundle.from_jwks(TD, good)


def test_rsa_keys_are_used_up_to_both_bounds() -> None:
    for entry in (rsa_entry(2048, 2**32 - 1), rsa_entry(8192)):
        [(kid, found)] = parsed(entry).jwt_authorities.items()
        assert isinstance(found, rsa.RSAPublicKey)
        assert (kid, f"{found.public_numbers().n:x}") == ("k1", base64.urlsafe_b64decode(entry["n"] + "==").hex())


def test_wit_svid_keys_are_read_without_complaint() -> None:
    wit = [jwt_entry(use="wit-svid"), rsa_entry(1024) | {"use": "wit-svid"}, {"kty": "OKP", "use": "wit-svid"}]
    bundle = parsed(*wit, jwt_entry())
    assert (bundle, bundle.unusable) == (parsed(jwt_entry()), ())
    assert TrustBundle.from_jwt_jwks(TD, document(*wit)).unusable == ()


def test_the_last_of_two_keys_with_one_kid_counts_with_a_warning() -> None:
    other = jwt_entry() | without(
        json.loads(TrustBundle(TD, (), {"x": key("n").public_key()}).to_jwks())["keys"][0], "kid"
    )
    bundle = parsed(jwt_entry(), other)
    assert bundle == parsed(other)
    assert bundle.unusable == (SAID + "several JWT authorities have one 'kid'; the last counts",)


def test_warnings_about_ignored_parts_are_few_and_short() -> None:
    entry = jwt_entry(kid="\n\x1b\u2028" * 10_000, crv="\n" * 10_000)
    bundle = parsed(*[entry] * 500, x509_entry())
    assert bundle.x509_authorities == (ROOT.certificate,)
    assert bundle.unusable[-1] == SAID + "left out 492 more"
    assert len(bundle.unusable) == 9
    assert all(line.isprintable() and len(line) < 400 for line in bundle.unusable)


def test_names_with_a_line_of_their_own_are_not_counted_as_the_rest() -> None:
    unusable = parsed(*[jwt_entry(kid=5)] * 8).unusable
    assert unusable == (SAID + KID + "int",) * 8


def test_the_text_of_an_error_is_shown_as_it_is_but_for_control_characters() -> None:
    def broken(text: str) -> str:
        raise ValueError(text)

    assert _read_each(TD, "it", ["ä\n\x1b"], broken) == ([], (SAID + "left out it: ä\\n\\x1b",))


@pytest.mark.parametrize("use", [None, "", "jwt-svid", "sig", "enc", 0])
def test_in_a_bundle_document_a_certificate_counts_only_where_its_use_says_so(use: object) -> None:
    assert parsed(x509_entry(use=use), without(x509_entry(), "use")) == TrustBundle(TD)


@pytest.mark.parametrize("use", [None, "", "sig", "enc", "x509-svid", 0, ["jwt-svid"]])
def test_in_a_bundle_document_a_jwt_key_counts_only_where_its_use_says_so(use: object) -> None:
    assert parsed(jwt_entry(use=use), without(jwt_entry(), "use")) == TrustBundle(TD)


class TestJwtBundleOfTheWorkloadApi:
    @pytest.mark.parametrize(
        "entry", [jwt_entry(), jwt_entry(use="sig"), without(jwt_entry(), "use"), jwt_entry(use=None)]
    )
    def test_a_key_without_use_is_accepted(self, entry: Entry) -> None:
        assert TrustBundle.from_jwt_jwks(TD, document(entry)).jwt_authorities == {"k1": EC_KEY}

    @pytest.mark.parametrize("use", ["x509-svid", "wit-svid", "enc", "", 0])
    def test_a_key_for_another_use_is_ignored(self, use: object) -> None:
        bundle = TrustBundle.from_jwt_jwks(TD, document(jwt_entry(use=use)))
        assert (bundle, bundle.unusable) == (TrustBundle(TD), ())

    def test_x509_keys_are_not_parsed_in_a_jwt_bundle(self) -> None:
        bundle = TrustBundle.from_jwt_jwks(TD, document(x509_entry(), x509_entry(x5c=["junk"]), spiffe_sequence=3))
        assert (bundle, bundle.unusable) == (TrustBundle(TD, sequence=3), ())


def test_an_unreadable_bundle_trusts_nobody_and_says_why() -> None:
    bundle = TrustBundle.unreadable(TD, BundleError("it is junk"))
    assert bundle == TrustBundle(TD)
    assert bundle.unusable == ("it is junk; no peer of a.test is trusted until a readable one arrives",)
    assert BundleSet([bundle], ["more"]).unusable == ("more", *bundle.unusable)


def test_usable_der_certificates_are_kept_beside_unusable_ones() -> None:
    off_the_curve = ROOT.der.replace(POINT[:8], bytes(8))
    unusable = [VERSION_9, b"", ROOT.der.replace(EXTENSIONS, BROKEN), off_the_curve, TWICE]
    bundle = TrustBundle.from_der(TD, [ROOT.der, *unusable, NEXT.der])
    assert bundle.x509_authorities == (ROOT.certificate, NEXT.certificate)
    assert [line.startswith(SAID + ROOTS) for line in bundle.unusable] == [True] * len(unusable)


def test_the_last_of_two_members_of_one_name_counts() -> None:
    assert (
        TrustBundle.from_jwks(TD, '{"keys": 1, "keys": [], "spiffe_sequence": 1, "spiffe_sequence": 2}').sequence == 2
    )


def test_pem_and_der_hold_the_authorities_in_order() -> None:
    assert TrustBundle.from_pem(TD, FULL.to_pem()).x509_authorities == FULL.x509_authorities
    assert FULL.to_der() == b"".join(one.public_bytes(Encoding.DER) for one in FULL.x509_authorities)


@pytest.mark.parametrize("pem", [b"", b"junk", TrustBundle(TD, (ROOT.certificate,)).to_pem()[:-40]])
def test_malformed_pem_is_refused(pem: bytes) -> None:
    assert refusal(lambda: TrustBundle.from_pem(TD, pem)).startswith(PREFIX + "PEM certificates, got ")


def test_pem_of_an_unknown_x509_version_is_refused() -> None:
    armoured = base64.encodebytes(VERSION_9).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{armoured}-----END CERTIFICATE-----\n".encode()
    message = refusal(lambda: TrustBundle.from_pem(TD, pem))
    assert message == PREFIX + "PEM certificates, got 9 is not a valid X509 version"


def test_an_authority_whose_key_is_neither_ec_nor_rsa_cannot_be_written() -> None:
    assert refusal(lambda: TrustBundle.from_jwks(TD, TrustBundle(TD, (ODD.certificate,)).to_jwks())) == (
        "CA certificate CN=odd: wanted an EC or RSA key: got Ed25519PublicKey"
    )


@pytest.mark.parametrize(
    ("broken", "why"),
    [(ROOT.der.replace(EXTENSIONS, BROKEN), "error parsing"), (TWICE, "Duplicate 2.5.29.19 extension found")],
)
@pytest.mark.parametrize("place", [0, 1])
def test_each_certificate_of_a_pem_file_has_to_be_usable(place: int, broken: bytes, why: str) -> None:
    other = b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(broken)
    good = TrustBundle(TD, (ROOT.certificate,)).to_pem()
    pem = other + good if place else good + other
    assert refusal(lambda: TrustBundle.from_pem(TD, pem)).startswith(PREFIX + f"PEM certificates, got {why}")


def test_bundles_are_found_by_their_own_trust_domain_only() -> None:
    ours, theirs = TrustBundle(TD, (ROOT.certificate,)), TrustBundle(OTHER, (NEXT.certificate,))
    bundles = BundleSet([ours, theirs])
    assert (bundles[TD], bundles.get(OTHER), bundles.get(TrustDomain("c.test"))) == (ours, theirs, None)
    assert (list(bundles), len(bundles)) == ([ours, theirs], 2)
    with pytest.raises(KeyError):
        _ = bundles[TrustDomain("c.test")]


def test_bundle_sets_compare_by_content_and_show_what_they_hold() -> None:
    bundles = BundleSet([FULL, TrustBundle(OTHER)])
    assert bundles == BundleSet([TrustBundle(OTHER), FULL])
    assert bundles != BundleSet([FULL])
    assert bundles != {TD: FULL}
    assert repr(bundles) == "<BundleSet a.test: 3, b.test: 0>"
    assert repr(BundleSet()) == "<BundleSet empty>"


@given(st.text() | st.binary() | odd_values.map(json.dumps))
def test_any_text_is_a_bundle_or_a_named_error(text: str | bytes) -> None:
    try:
        bundle = TrustBundle.from_jwks(TD, text)
    except BundleError:
        return
    assert TrustBundle.from_jwks(TD, bundle.to_jwks()) == bundle


@given(st.sampled_from([jwt_entry(), x509_entry()]), st.data())
def test_any_value_in_any_member_is_a_bundle_or_a_named_error(entry: Entry, data: st.DataObject) -> None:
    spoiled = entry | {data.draw(st.sampled_from(sorted(entry))): data.draw(odd_values)}
    try:
        bundle = parsed(spoiled)
    except BundleError:
        return
    assert TrustBundle.from_jwks(TD, bundle.to_jwks()) == bundle


def test_the_keys_of_these_tests_are_of_both_kinds() -> None:
    assert isinstance(EC_KEY, ec.EllipticCurvePublicKey)
    assert isinstance(RSA_KEY, rsa.RSAPublicKey)
