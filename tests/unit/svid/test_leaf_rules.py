"""X509-SVID, sections 2 to 4: one good certificate, many mutations, each with the whole message."""

from collections.abc import Callable
from functools import partial

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

from meshtls.svid.leaf_rules import LEAF_RULES, SIGNING_RULES, leaf_violations, signing_violations, uri_names
from tests.support.certs import BOTH_USES, Issued, ca, leaf

ID = "spiffe://a.test/web"
ROOT = ca()
SAN = ExtensionOID.SUBJECT_ALTERNATIVE_NAME
Make = Callable[[], Issued]
TOO_FEW_BITS = 1024


def web(*uris: str, **change: object) -> Make:
    return partial(leaf, ROOT, *(uris or (ID,)), **change)  # type: ignore[arg-type]  # one keyword of leaf()


def signer(*uris: str, **change: object) -> Make:
    return partial(ca, ROOT, *uris, slot="intermediate", **change)  # type: ignore[arg-type]  # one keyword of ca()


def unreadable(oid: ObjectIdentifier, value: bytes) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.UnrecognizedExtension(oid, value), False)]


def with_a_second_key_usage(issued: Issued) -> x509.Certificate:
    # The builder refuses a duplicate, so another extension gets keyUsage's number afterwards.
    return x509.load_der_x509_certificate(issued.der.replace(b"\x06\x03\x55\x1d\x7f", b"\x06\x03\x55\x1d\x0f"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(web(), id="as SPIRE makes it"),
        pytest.param(web(dns=["web.test", "web"], ip=["10.0.0.1"]), id="DNS and IP names beside the URI"),
        pytest.param(web(usages=["digital_signature", "key_encipherment", "key_agreement"]), id="usages it may have"),
        pytest.param(web(extended=None), id="no extendedKeyUsage"),
        pytest.param(web(extended=[*BOTH_USES, ExtendedKeyUsageOID.CODE_SIGNING]), id="an extendedKeyUsage more"),
        pytest.param(web(is_ca=None), id="no basicConstraints"),
        pytest.param(web(subject=None, san_critical=True), id="no subject, SAN critical"),
        pytest.param(web(san_critical=True), id="SAN critical beside a subject"),
        pytest.param(web("SPIFFE://A.TEST/web"), id="scheme and trust domain in capitals"),
    ],
)
def test_a_good_leaf_breaks_no_rule(make: Make) -> None:
    assert leaf_violations(make().certificate) == []


NO_URI = "wanted exactly one URI SAN, got {}"
DOMAIN_ID = "wanted a SPIFFE ID with a path, got a trust domain's own"


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        pytest.param(partial(leaf, ROOT), [NO_URI.format(0)], id="no SAN"),
        pytest.param(partial(leaf, ROOT, dns=["web.test"]), [NO_URI.format(0)], id="a DNS name only"),
        pytest.param(web(ID, "spiffe://a.test/db"), [NO_URI.format(2)], id="two SPIFFE IDs"),
        pytest.param(web(ID, "https://a.test/web"), [NO_URI.format(2)], id="a second URI that is no SPIFFE ID"),
        pytest.param(web(ID, ID), [NO_URI.format(2)], id="the same URI twice"),
        pytest.param(
            web("https://a.test/web"),
            ["SPIFFE ID 'https://a.test/web': wanted it to start with 'spiffe://'"],
            id="another scheme",
        ),
        pytest.param(
            web("spiffe://a.test/web/"),
            ["path '/web/': wanted no empty segment and no trailing '/'"],
            id="a malformed path",
        ),
        pytest.param(
            partial(leaf, ROOT, extra=unreadable(SAN, b"\x30\x0f\x86\x0dspiffe://a/\xc3\xa9")),
            ["path segment 'é': wanted only A-Z, a-z, 0-9, '.', '_' and '-'"],
            id="a letter outside ASCII",
        ),
        pytest.param(web("spiffe://a.test"), [DOMAIN_ID], id="the trust domain's own ID"),
        pytest.param(web(is_ca=True), ["a CA certificate can't authenticate a workload"], id="cA set"),
        pytest.param(web(usages=None), ["wanted the keyUsage extension, got none"], id="no keyUsage"),
        pytest.param(web(usage_critical=False), ["wanted keyUsage marked critical"], id="keyUsage not critical"),
        pytest.param(
            web(usages=["key_encipherment"]), ["wanted digitalSignature in keyUsage"], id="no digitalSignature"
        ),
        pytest.param(
            web(usages=["digital_signature", "key_cert_sign"]),
            ["wanted no keyCertSign in a leaf's keyUsage"],
            id="keyCertSign",
        ),
        pytest.param(
            web(usages=["digital_signature", "crl_sign"]), ["wanted no cRLSign in a leaf's keyUsage"], id="cRLSign"
        ),
        pytest.param(
            web(usages=["digital_signature", "key_cert_sign", "crl_sign"]),
            ["wanted no keyCertSign or cRLSign in a leaf's keyUsage"],
            id="keyCertSign and cRLSign",
        ),
        pytest.param(
            web(extended=[ExtendedKeyUsageOID.SERVER_AUTH]),
            ["wanted clientAuth in extendedKeyUsage"],
            id="serverAuth alone",
        ),
        pytest.param(
            web(extended=[ExtendedKeyUsageOID.CLIENT_AUTH]),
            ["wanted serverAuth in extendedKeyUsage"],
            id="clientAuth alone",
        ),
        pytest.param(
            web(extended=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
            ["wanted serverAuth and clientAuth in extendedKeyUsage"],
            id="anyExtendedKeyUsage stands for neither",
        ),
        pytest.param(
            web(subject=None),
            ["wanted the subject alternative name marked critical, since the subject is empty"],
            id="no subject, SAN not critical",
        ),
    ],
)
def test_a_leaf_that_breaks_one_rule_is_refused_for_that_rule(make: Make, broken: list[str]) -> None:
    assert leaf_violations(make().certificate) == broken


def test_a_leaf_is_refused_with_every_broken_rule_in_the_lists_order() -> None:
    certificate = leaf(ROOT, "spiffe://a.test", is_ca=True, usages=None, extended=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert leaf_violations(certificate.certificate) == [
        DOMAIN_ID,
        "a CA certificate can't authenticate a workload",
        "wanted the keyUsage extension, got none",
        "wanted serverAuth in extendedKeyUsage",
    ]


def test_a_ca_is_no_leaf() -> None:
    assert "a CA certificate can't authenticate a workload" in leaf_violations(ROOT.certificate)


TYPES = "x400Address/EDIPartyName are not supported types"


@pytest.mark.parametrize("violations", [leaf_violations, signing_violations])
@pytest.mark.parametrize(
    ("value", "why"),
    [
        pytest.param(b"junk", "error parsing asn1 value", id="junk"),
        pytest.param(b"\x30\x02\xa5\x00", TYPES, id="a name of a type that no parser knows"),
        pytest.param(b"\x30\x03\x86\x01\xff", "error parsing asn1 value", id="a URI that is no text"),
    ],
)
def test_a_certificate_whose_san_cannot_be_read_breaks_the_rules(
    violations: Callable[[x509.Certificate], list[str]], value: bytes, why: str
) -> None:
    [broken] = violations(leaf(ROOT, extra=unreadable(SAN, value)).certificate)
    assert broken.startswith(f"its extensions can't be read: {why}")


def test_a_certificate_with_an_extension_twice_breaks_the_rules() -> None:
    twin = leaf(ROOT, ID, extra=unreadable(ObjectIdentifier("2.5.29.127"), b"\x03\x02\x07\x80"))
    assert leaf_violations(twin.certificate) == []
    [broken] = leaf_violations(with_a_second_key_usage(twin))
    assert broken.startswith("its extensions can't be read: Duplicate 2.5.29.15 extension")


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(signer(), id="without a SPIFFE ID"),
        pytest.param(signer("spiffe://a.test"), id="with the trust domain's ID"),
        pytest.param(signer("spiffe://b.test"), id="with another trust domain's ID"),
        pytest.param(signer("https://pki.test/ca"), id="with a URI that is no SPIFFE ID"),
        pytest.param(signer(usages=["key_cert_sign"]), id="without cRLSign"),
        pytest.param(signer(path_length=0), id="with a path length"),
    ],
)
def test_a_good_signer_breaks_no_rule(make: Make) -> None:
    assert signing_violations(make().certificate) == []


NOT_CA = "wanted a CA certificate as a signer"
MAY_NOT = "wanted keyCertSign in a signer's keyUsage"


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        pytest.param(signer(is_ca=False), [NOT_CA], id="cA false"),
        pytest.param(signer(is_ca=None), [NOT_CA], id="no basicConstraints"),
        pytest.param(signer(usages=["crl_sign"]), [MAY_NOT], id="no keyCertSign"),
        pytest.param(signer(usages=None), [MAY_NOT], id="no keyUsage"),
        pytest.param(
            signer("spiffe://a.test/ca"),
            ["wanted no path in a signer's SPIFFE ID, got spiffe://a.test/ca"],
            id="an ID with a path",
        ),
        pytest.param(
            signer("https://pki.test/ca", "SPIFFE://a.test/ca"),
            ["wanted no path in a signer's SPIFFE ID, got spiffe://a.test/ca"],
            id="an ID with a path behind another URI",
        ),
        pytest.param(
            signer("spiffe://a.test", "spiffe://b.test"),
            ["wanted at most one SPIFFE ID in a signer, got spiffe://a.test, spiffe://b.test"],
            id="two IDs",
        ),
        pytest.param(
            signer("spiffe://a.test/"),
            ["path '/': wanted no empty segment and no trailing '/'"],
            id="a malformed ID",
        ),
    ],
)
def test_a_signer_that_breaks_one_rule_is_refused_for_that_rule(make: Make, broken: list[str]) -> None:
    assert signing_violations(make().certificate) == broken


def test_every_rule_of_both_lists_can_be_broken_and_kept() -> None:
    good_leaf, good_signer = web()().certificate, signer()().certificate
    spoiled = [(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00"), True)]
    weak = rsa.generate_private_key(65537, TOO_FEW_BITS)
    bad_leaf = leaf(
        ROOT,
        "https://a",
        "b",
        subject=None,
        is_ca=True,
        usages=None,
        extended=[ExtendedKeyUsageOID.CLIENT_AUTH],
        own_key=weak,
        extra=spoiled,
    ).certificate
    client_only = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    bad_signer = ca(
        ROOT, "spiffe://a.test/ca", is_ca=None, usages=None, own_key=weak, extra=[*spoiled, client_only]
    ).certificate
    for rules, good, bad in ((LEAF_RULES, good_leaf, bad_leaf), (SIGNING_RULES, good_signer, bad_signer)):
        assert [rule.text for rule in rules if rule.broken(good)] == []
        assert [rule.text for rule in rules if not rule.broken(bad)] == []


def test_uri_sans_are_returned_and_other_kinds_are_not() -> None:
    assert uri_names(leaf(ROOT, "https://a.test", ID, dns=["web.test"]).certificate) == ["https://a.test", ID]
    assert uri_names(leaf(ROOT, dns=["web.test"]).certificate) == []
    assert uri_names(leaf(ROOT).certificate) == []


def test_the_patched_certificate_of_these_tests_differs_in_one_byte() -> None:
    twin = leaf(ROOT, ID, extra=unreadable(ObjectIdentifier("2.5.29.127"), b"\x03\x02\x07\x80"))
    patched = with_a_second_key_usage(twin).public_bytes(Encoding.DER)
    assert sum(one != other for one, other in zip(patched, twin.der, strict=True)) == 1
