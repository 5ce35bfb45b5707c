"""Certificates in Certificate messages: their parts with offsets, and the rules that they keep or break."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.capture.certificates import BROKEN, KEPT, RULES, certificates_in, with_certificates
from meshtls.svid.leaf_rules import LEAF_RULES, SIGNING_RULES
from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.names import TLS_1_2, TLS_1_3, HandshakeType
from tests.support.certs import Issued, ca, leaf
from tests.unit.wire.tls import rfc8448
from tests.unit.wire.tls.trees import checked, vector

ID = "spiffe://example.org/web"
ROOT = ca()
VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])


def message(version: int, ders: Sequence[bytes]) -> bytes:
    after = vector(b"", 2) if version == TLS_1_3 else b""
    listed = vector(b"".join(vector(der, 3) + after for der in ders), 3)
    return bytes((HandshakeType.CERTIFICATE,)) + vector((b"\0" if after else b"") + listed, 3)


def decoded(version: int, *ders: bytes) -> tuple[bytes, Field]:
    data = message(version, ders)
    return data, with_certificates(decode_message(HandshakeType.CERTIFICATE, data, version))


def tiled(data: bytes, field: Field) -> None:
    """Each byte is in one leaf, as the decoder of TLS has it; a rule is no byte."""
    assert b"".join(data[one.offset : one.end] for one in field.leaves()) == data
    for one in field.walk():
        if one.children:
            assert (one.children[0].offset, one.children[-1].end) == (one.offset, one.end)
            assert all(left.end == right.offset for left, right in zip(one.children, one.children[1:], strict=False))


def rules(certificate: Field) -> list[tuple[str, object]]:
    found = certificate.child(RULES)
    assert found is not None
    return [(one.name, one.value) for one in found.children]


@VERSIONS
def test_a_certificate_has_its_parts_at_their_offsets(version: int) -> None:
    svid = leaf(ROOT, ID)
    data, tree = decoded(version, svid.der, ROOT.der)
    tiled(data, tree)
    assert list(tree.errors()) == []
    first, second = certificates_in(tree)
    assert (first.text, second.text) == (f"URI:{ID}", "CN=root")
    tbs = first.child("Certificate", "tbsCertificate")
    assert tbs is not None
    assert [(one.name, one.text) for one in tbs.children] == [
        ("header", ""),
        ("version", "v3"),
        ("serialNumber", "abc123"),
        ("signature", "ecdsa-with-sha256"),
        ("issuer", "CN=root"),
        ("validity", ""),
        ("subject", "CN=web"),
        ("subjectPublicKeyInfo", "EC secp256r1"),
        ("extensions", ""),
    ]
    validity = tbs.child("validity")
    assert validity is not None
    assert [(one.name, one.text) for one in validity.children[1:]] == [
        ("notBefore", "2030-05-01T11:00:00Z"),
        ("notAfter", "2030-05-01T13:00:00Z"),
    ]
    names = tbs.child("extensions", "Extensions", "subjectAltName")
    assert names is not None
    assert names.text == f"URI:{ID}"
    assert data[names.offset : names.end] == names.value
    assert ID.encode() in data[names.offset : names.end]


@VERSIONS
def test_a_good_leaf_and_its_signer_keep_all_rules(version: int) -> None:
    _, tree = decoded(version, leaf(ROOT, ID).der, ROOT.der)
    first, second = certificates_in(tree)
    assert {value for _, value in rules(first)} == {value for _, value in rules(second)} == {KEPT}
    assert first.child(RULES).text == f"{len(LEAF_RULES) + 1} of {len(LEAF_RULES) + 1} rules for a leaf are kept"  # type: ignore[union-attr]
    assert len(rules(second)) == len(SIGNING_RULES) + 1


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (leaf(ROOT), "exactly one URI SAN"),
        (leaf(ROOT, ID, ID + "2"), "exactly one URI SAN"),
        (leaf(ROOT, "spiffe://example.org"), "a SPIFFE ID with a path"),
        (leaf(ROOT, "https://example.org/web"), "a SPIFFE ID with a path"),
        (leaf(ROOT, ID, is_ca=True), "not a CA"),
        (leaf(ROOT, ID, usage_critical=False), "critical keyUsage with digitalSignature"),
    ],
)
def test_a_rule_that_a_leaf_breaks_is_told_with_its_reason(broken: Issued, rule: str) -> None:
    data, tree = decoded(TLS_1_3, broken.der)
    tiled(data, tree)
    found = certificates_in(tree)[0].child(RULES)
    assert found is not None
    (crossed,) = (one for one in found.children if one.value == BROKEN)
    assert crossed.name.startswith(rule)
    assert ": " in crossed.text


def test_a_certificate_that_is_none_is_an_error_and_breaks_a_rule() -> None:
    data, tree = decoded(TLS_1_3, b"junk", leaf(ROOT, ID).der[:-1])
    tiled(data, tree)
    assert len(list(tree.errors())) == 2
    for one in certificates_in(tree):
        assert [value for _, value in rules(one)] == [BROKEN]


def test_the_certificate_of_rfc_8448_is_read() -> None:
    tree = with_certificates(decode_message(11, rfc8448.CERTIFICATE, TLS_1_3))
    tiled(rfc8448.CERTIFICATE, tree)
    (one,) = certificates_in(tree)
    assert one.text == "CN=rsa"
    assert one.child("Certificate", "tbsCertificate", "subjectPublicKeyInfo").text.startswith("RSA of 1024 bits")  # type: ignore[union-attr]


def test_other_messages_are_left_as_they_are() -> None:
    tree = decode_message(1, rfc8448.CLIENT_HELLO, 0)
    assert with_certificates(tree) is tree
    assert certificates_in(tree) == []


def test_a_message_of_many_certificates_is_decoded_up_to_a_bound() -> None:
    der = leaf(ROOT, ID).der
    data, tree = decoded(TLS_1_3, *[der] * 40)
    tiled(data, tree)
    assert sum(bool(one.children) for one in certificates_in(tree)) == 16


@given(st.binary(max_size=60), st.integers(0, 600), st.binary(max_size=6), st.sampled_from([TLS_1_2, TLS_1_3]))
def test_any_bytes_in_place_of_a_certificate_are_read(junk: bytes, at: int, change: bytes, version: int) -> None:
    der = bytearray(leaf(ROOT, ID).der)
    der[at : at + len(change)] = change
    data, tree = decoded(version, junk, bytes(der))
    tiled(data, tree)
    checked(decode_message(11, data, version), data)
