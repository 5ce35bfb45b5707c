"""Our own X509-SVIDs: checked by the same leaf rules, and silent about their key."""

import dataclasses

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from meshtls.bundle import BundleSet
from meshtls.errors import InvalidSvidError, LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid, format_serial, parse_chain, spiffe_id_of
from tests.support.certs import AFTER, BEFORE, Issued, ca, key, leaf

WEB = "spiffe://a.test/web"
INTERMEDIATE = ca(ca(), slot="intermediate", name="intermediate")
LEAF = leaf(INTERMEDIATE, WEB)
SVID = X509Svid.from_chain([LEAF.certificate, INTERMEDIATE.certificate], LEAF.private_key, hint="internal")


def refusal(*chain: Issued, slot: str = "leaf") -> str:
    with pytest.raises(LocalIdentityError) as caught:
        X509Svid.from_chain([one.certificate for one in chain], key(slot))
    return str(caught.value)


def test_an_svid_knows_its_id_its_serial_and_its_time() -> None:
    assert SVID.spiffe_id == SpiffeId.parse(WEB)
    assert (SVID.leaf, SVID.serial, SVID.hint) == (LEAF.certificate, "abc123", "internal")
    assert (SVID.not_before, SVID.not_after) == (BEFORE, AFTER)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521", "RSA"])
def test_the_key_comes_back_from_its_forms(kind: str) -> None:
    made = leaf(INTERMEDIATE, WEB, own_key=key("leaf", kind))
    svid = X509Svid.from_chain([made.certificate], made.private_key)
    for loaded in (load_der_private_key(svid.key_der(), None), load_pem_private_key(svid.key_pem(), None)):
        assert loaded.public_key() == svid.leaf.public_key()


def test_the_chain_is_written_leaf_first() -> None:
    assert x509.load_pem_x509_certificates(SVID.chain_pem()) == list(SVID.chain)
    assert SVID.chain_der() == LEAF.der + INTERMEDIATE.der


def test_the_key_shows_in_no_repr() -> None:
    assert "private" not in repr(SVID).lower()
    assert "private" not in repr(X509Context(1, (SVID,), BundleSet())).lower()


def test_an_svid_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SVID.hint = "other"  # type: ignore[misc]  # that it can't be set is the point


def test_an_svid_needs_a_certificate() -> None:
    assert refusal() == "X509-SVID: wanted at least the leaf certificate, got an empty chain"


def test_our_own_leaf_keeps_the_leaf_rules_too() -> None:
    message = refusal(leaf(INTERMEDIATE, WEB, usages=None))
    assert message == "our own certificate abc123 is no X509-SVID: wanted the keyUsage extension, got none"


def test_the_key_has_to_be_the_leaf_s() -> None:
    assert refusal(LEAF, slot="other") == f"X509-SVID {WEB}: the private key does not belong to the certificate"


def test_a_chain_given_root_first_is_refused() -> None:
    assert "a CA certificate can't authenticate a workload" in refusal(INTERMEDIATE, LEAF)


def test_parse_chain_keeps_the_order() -> None:
    assert parse_chain([LEAF.der, INTERMEDIATE.der]) == SVID.chain
    assert parse_chain([]) == ()


def test_the_id_of_a_leaf_that_breaks_rules_is_not_reported() -> None:
    assert spiffe_id_of(LEAF.certificate) == SpiffeId.parse(WEB)
    with pytest.raises(
        InvalidSvidError, match=r"^certificate abc123 is no X509-SVID: wanted exactly one URI SAN, got 2$"
    ):
        spiffe_id_of(leaf(INTERMEDIATE, WEB, "spiffe://a.test/db").certificate)


@given(st.integers(1, 2**159 - 1))
def test_a_serial_is_an_even_number_of_lower_case_digits_that_read_back(number: int) -> None:
    digits = format_serial(leaf(INTERMEDIATE, WEB, serial=number).certificate)
    assert (int(digits, 16), len(digits) % 2, digits) == (number, 0, digits.lower())


def test_a_context_gives_its_first_svid_as_the_default() -> None:
    other = dataclasses.replace(SVID, hint="other")
    assert X509Context(1, (SVID, other), BundleSet()).svid is SVID


def test_a_context_without_an_svid_says_so() -> None:
    with pytest.raises(LocalIdentityError, match=r"^this workload has no X509-SVID: no identity was issued to it$"):
        _ = X509Context(1, (), BundleSet()).svid


@pytest.mark.parametrize("place", [0, 1])
def test_parse_chain_names_the_position_of_an_invalid_certificate(place: int) -> None:
    ders = [LEAF.der, INTERMEDIATE.der]
    ders[place] = b"junk"
    with pytest.raises(InvalidSvidError, match=f"^certificate {place} of the chain is no X.509 certificate: "):
        parse_chain(ders)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize(("serial", "got"), [("00abc123", None), ("80abc123", "-7f543edd"), ("ff7fffff", "-800001")])
def test_parse_chain_refuses_a_serial_number_that_is_not_positive_whatever_is_done_with_warnings(
    serial: str, got: str | None
) -> None:
    spelled = bytes.fromhex(f"a003020102 0204{serial}")
    der = LEAF.der.replace(bytes.fromhex("a003020102 020400abc123"), spelled, 1)
    assert spelled in der
    if got is None:
        assert parse_chain([der]) == (LEAF.certificate,)
        return
    with pytest.raises(InvalidSvidError) as refused:
        parse_chain([INTERMEDIATE.der, der])
    assert str(refused.value) == f"certificate 1 of the chain: serial number: wanted a positive one, got {got}"


def test_an_svid_whose_public_key_cannot_be_read_is_refused() -> None:
    point = LEAF.certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    off_the_curve = x509.load_der_x509_certificate(LEAF.der.replace(point[:8], bytes(8)))
    with pytest.raises(LocalIdentityError, match=f"^X509-SVID {WEB}: its public key can't be read: "):
        X509Svid.from_chain([off_the_curve], key("leaf"))
