"""Name constraints, name by name, and which names of a certificate they are on (RFC 5280, section 4.2.1.10)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID, ObjectIdentifier

from meshtls.svid.name_constraints import constraint_violation, names_of
from tests.support.certs import AFTER, BEFORE, key

URI, DNS, MAIL, DIRECTORY = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name, x509.DirectoryName


def ip(text: str) -> x509.IPAddress:
    return x509.IPAddress(ip_network(text) if "/" in text else ip_address(text))


def subject(**attributes: str) -> x509.Name:
    oids = {"cn": NameOID.COMMON_NAME, "o": NameOID.ORGANIZATION_NAME, "email": NameOID.EMAIL_ADDRESS}
    return x509.Name([x509.NameAttribute(oids[name], value) for name, value in attributes.items()])


def directory(**attributes: str) -> x509.DirectoryName:
    return DIRECTORY(subject(**attributes))


@pytest.mark.parametrize(
    ("subtree", "within", "beside"),
    [
        (URI("a.test"), [URI("spiffe://a.test/x"), URI("https://A.test:443/")], [URI("spiffe://x.a.test/x")]),
        (URI("A.Test"), [URI("spiffe://a.test/x")], [URI("spiffe://b.test/x")]),
        (URI(".A.Test"), [URI("spiffe://x.a.test/x")], [URI("spiffe://a.test/x"), URI("spiffe://xa.test/x")]),
        (DNS("A.test"), [DNS("a.Test"), DNS("x.a.test"), DNS("y.x.a.test")], [DNS("xa.test"), DNS("test")]),
        (DNS(".a.test"), [DNS("x.a.test")], [DNS("a.test"), DNS("xa.test")]),
        (DNS(""), [DNS("a.test")], []),
        (MAIL("a.Test"), [MAIL("web@A.test")], [MAIL("web@x.a.test"), MAIL("a.test@b.test")]),
        (MAIL(".a.Test"), [MAIL("web@x.A.test")], [MAIL("web@a.test")]),
        (MAIL("web@a.Test"), [MAIL("web@A.test")], [MAIL("WEB@a.test"), MAIL("web@b.test"), MAIL("db@b.test")]),
        (directory(o="o"), [directory(o="o"), directory(o="o", cn="x")], [directory(o="x"), directory(cn="x", o="o")]),
        (directory(o="o", cn="x"), [directory(o="o", cn="x")], [directory(o="o"), directory(o="o", cn="y")]),
        (ip("10.0.0.0/8"), [ip("10.1.2.3")], [ip("192.0.2.1"), ip("::ffff:10.1.2.3")]),
        (ip("2001:db8::/32"), [ip("2001:db8::1")], [ip("2001:db9::1"), ip("10.1.2.3")]),
    ],
)
def test_a_subtree_permits_or_excludes_the_names_within_it_and_no_others(
    subtree: x509.GeneralName, within: list[x509.GeneralName], beside: list[x509.GeneralName]
) -> None:
    permitting, excluding = x509.NameConstraints([subtree], None), x509.NameConstraints(None, [subtree])
    for name in within:
        assert constraint_violation(permitting, [name]) is None
        assert str(constraint_violation(excluding, [name])).startswith(
            "a name that its issuer's name constraints exclude: "
        )
    for name in beside:
        assert constraint_violation(excluding, [name]) is None
        assert str(constraint_violation(permitting, [name])).startswith(
            "a name that its issuer's name constraints do not permit: "
        )


def test_a_single_permitting_subtree_suffices_and_a_single_excluding_one_prevails() -> None:
    both = x509.NameConstraints([DNS("a.test"), DNS("b.test")], [DNS("x.a.test")])
    assert constraint_violation(both, [DNS("a.test"), DNS("b.test")]) is None
    assert constraint_violation(both, [DNS("a.test"), DNS("c.test")]) == (
        "a name that its issuer's name constraints do not permit: 'c.test'"
    )
    assert constraint_violation(both, [DNS("a.test"), DNS("x.a.test")]) == (
        "a name that its issuer's name constraints exclude: 'x.a.test'"
    )


@pytest.mark.parametrize("constraints", [([DNS("a.test")], None), (None, [DNS("b.test")])])
def test_constraints_on_names_of_one_kind_say_nothing_of_another(
    constraints: tuple[list[x509.GeneralName] | None, list[x509.GeneralName] | None],
) -> None:
    assert (
        constraint_violation(x509.NameConstraints(*constraints), [URI("spiffe://b.test/x"), MAIL("x@b.test")]) is None
    )


def test_a_name_of_a_kind_whose_constraints_cannot_be_judged_is_refused_where_that_kind_is_constrained() -> None:
    name = x509.RegisteredID(ObjectIdentifier("1.2.3.4"))
    assert constraint_violation(x509.NameConstraints([DNS("a.test")], None), [name]) is None
    assert constraint_violation(x509.NameConstraints([name], None), [name]) == (
        "a name of the kind RegisteredID, on which name constraints can't be judged"
    )


@pytest.mark.parametrize(
    ("uri", "why"),
    [("urn:x:y", "a URI without a host"), ("https://10.0.0.1/", "a URI with an address for a host")],
)
def test_a_uri_without_a_host_name_is_refused_where_uris_are_constrained(uri: str, why: str) -> None:
    constraints = x509.NameConstraints(None, [URI("b.test")])
    assert constraint_violation(constraints, [URI("spiffe://a.test/x")]) is None
    assert constraint_violation(constraints, [URI(uri)]) == (
        f"a name that name constraints can't be applied to: {uri!r}: {why}"
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (DNS("x" * 80), "x" * 80),
        (DNS("x" * 81), "x" * 77 + "..."),
        (directory(o="o", cn="web"), "CN=web,O=o"),
    ],
)
def test_a_name_in_a_message_has_at_most_80_characters(name: x509.GeneralName, shown: str) -> None:
    assert constraint_violation(x509.NameConstraints(None, [name]), [name]) == (
        f"a name that its issuer's name constraints exclude: '{shown}'"
    )


def certificate(of: x509.Name) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(of).issuer_name(subject(cn="root")).serial_number(1)
    builder = builder.public_key(key().public_key()).not_valid_before(BEFORE).not_valid_after(AFTER)
    return builder.sign(key("root"), hashes.SHA256())


def test_an_empty_subject_is_no_name() -> None:
    assert names_of(certificate(x509.Name([])), [URI("spiffe://a.test/x")]) == [URI("spiffe://a.test/x")]


def test_a_subject_and_the_mailboxes_in_it_are_names_beside_the_alternative_ones() -> None:
    whole = subject(cn="web", email="web@a.test")
    assert names_of(certificate(whole), [URI("spiffe://a.test/x")]) == [
        URI("spiffe://a.test/x"),
        DIRECTORY(whole),
        MAIL("web@a.test"),
    ]
    beyond_ascii = subject(cn="web", email="wéb@a.test")
    assert names_of(certificate(beyond_ascii), []) == [DIRECTORY(beyond_ascii)]


@pytest.mark.parametrize("common_name", ["web.a.test", "web-1_x.A.test", "a.b."])
def test_a_common_name_that_looks_like_a_host_counts_only_without_a_dns_san(common_name: str) -> None:
    whole = subject(cn=common_name)
    assert names_of(certificate(whole), [MAIL("x@a.test")]) == [
        MAIL("x@a.test"),
        DIRECTORY(whole),
        DNS(common_name),
    ]
    assert names_of(certificate(whole), [DNS("b.test")]) == [DNS("b.test"), DIRECTORY(whole)]


@pytest.mark.parametrize("common_name", ["web", "web.", "web a.test", "wéb.a.test", "web/a.test"])
def test_a_common_name_that_looks_like_no_host_does_not_count(common_name: str) -> None:
    whole = subject(cn=common_name)
    assert names_of(certificate(whole), []) == [DIRECTORY(whole)]
