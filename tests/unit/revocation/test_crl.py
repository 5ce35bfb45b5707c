"""CRLs are read strictly: each that is refused differs in one thing from one that is taken."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.revocation.crl import MAX_CRL_BYTES, MAX_CRL_ENTRIES, Crl, CrlError, load_crl, parse_crl, parse_crls
from meshtls.svid.presented import Presented
from tests.support.certs import AFTER, BEFORE, NOW, Extension, Issued, ca
from tests.support.crls import crl
from tests.support.verifying import INTERMEDIATE, ROOT

UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
DIRECTORY = x509.DirectoryName(INTERMEDIATE.certificate.subject)


def scope(**on: bool) -> Extension:
    fields = dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    full = [x509.UniformResourceIdentifier("http://a.test/1.crl")]
    return x509.IssuingDistributionPoint(full, None, only_some_reasons=None, **fields | on), True


def test_a_crl_has_what_it_says() -> None:
    read = parse_crl(crl(ROOT, 7, 2**127, number=12))
    assert (read.serials, read.number) == (frozenset({7, 2**127}), 12)
    assert (read.this_update, read.next_update) == (BEFORE, AFTER)
    assert read.issuer == ROOT.certificate.subject.public_bytes()
    assert repr(read) == "<Crl CN=root a [2, until 2030-05-01T13:00:00Z]>"


def test_an_empty_crl_and_one_without_number_or_key_identifier_are_taken() -> None:
    assert parse_crl(crl(ROOT)).serials == frozenset()
    bare = parse_crl(crl(ROOT, 7, number=None, key_ids=False))
    assert (bare.number, bare.serials) == (None, frozenset({7}))
    assert bare.names_as_issuer(Presented.of(ROOT.certificate))


@pytest.mark.parametrize(
    ("der", "why"),
    [
        pytest.param(lambda: crl(ROOT, extra=[(UNKNOWN, False)]), None, id="an unknown extension"),
        pytest.param(
            lambda: crl(ROOT, extra=[(UNKNOWN, True)]),
            "its critical extension 1.2.3.4 is not one that is understood here",
            id="an unknown critical extension",
        ),
        pytest.param(lambda: crl(ROOT, 7, entry_extra=[(UNKNOWN, False)]), None, id="an entry's unknown extension"),
        pytest.param(
            lambda: crl(ROOT, 7, entry_extra=[(UNKNOWN, True)]),
            "an entry's critical extension 1.2.3.4 is not one that is understood here",
            id="an entry's unknown critical extension",
        ),
        pytest.param(
            lambda: crl(ROOT, 7, entry_extra=[(x509.CRLReason(x509.ReasonFlags.key_compromise), True)]),
            None,
            id="an entry's critical reason",
        ),
        pytest.param(
            lambda: crl(ROOT, 7, entry_extra=[(x509.CertificateIssuer([DIRECTORY]), True)]),
            "wanted a CRL of its issuer's own certificates, got an indirect CRL",
            id="an entry of another issuer",
        ),
        pytest.param(
            lambda: crl(ROOT, extra=[scope(indirect_crl=True)]),
            "wanted a CRL of its issuer's own certificates, got an indirect CRL",
            id="indirect",
        ),
        pytest.param(
            lambda: crl(ROOT, extra=[scope(only_contains_user_certs=True)]),
            "wanted a CRL of all its issuer's certificates, got one for a part of them",
            id="of leaves alone",
        ),
        pytest.param(
            lambda: crl(ROOT, extra=[scope()]),
            "wanted a CRL of all its issuer's certificates, got one for a part of them",
            id="of one distribution point",
        ),
        pytest.param(
            lambda: crl(ROOT, extra=[(x509.DeltaCRLIndicator(1), True)]),
            "wanted a complete CRL, got a delta CRL",
            id="delta",
        ),
        pytest.param(
            lambda: crl(ROOT, digest=hashes.SHA224()),
            "wanted a signature with SHA-256, SHA-384, SHA-512 or Ed25519, got another",
            id="a weak digest",
        ),
        pytest.param(lambda: crl(ROOT, digest=hashes.SHA512()), None, id="a strong digest"),
    ],
)
def test_a_crl_of_a_kind_that_is_not_used_is_refused(der: Callable[[], bytes], why: str | None) -> None:
    if why is None:
        assert parse_crl(der()).problem is None
        return
    with pytest.raises(CrlError) as caught:
        parse_crl(der())
    assert str(caught.value) == f"CRL of issuer CN=root a: {why}"
    loaded = load_crl(der())
    assert (loaded.problem, loaded.serials) == (why, frozenset())


def test_a_crl_without_a_next_update_is_refused() -> None:
    der = crl(ROOT)
    # The second UTCTime of the list goes; the lengths around it, of one byte each, shrink by its 15 bytes.
    second = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 1)
    spoilt = bytearray(der[:second] + der[second + 15 :])
    assert spoilt[:2] == b"\x30\x81"
    assert spoilt[3] == 0x30
    spoilt[2] -= 15
    spoilt[4] -= 15
    with pytest.raises(CrlError) as caught:
        parse_crl(bytes(spoilt))
    assert str(caught.value) == "CRL of issuer CN=root a: wanted a next update, got none"


def test_a_critical_mark_in_another_encoding_than_der_s_is_refused() -> None:
    """Entries are searched for DER's TRUE: no other must get past."""
    der = crl(ROOT, 7, entry_extra=[(UNKNOWN, True)])
    assert der.count(b"\x01\x01\xff") == 1
    for mark in (b"\x01\x01\x01", b"\x01\x01\x00"):
        with pytest.raises(CrlError, match=r"^wanted a CRL in DER: .*Extension::critical"):
            parse_crl(der.replace(b"\x01\x01\xff", mark))


@pytest.mark.parametrize("spoil", [lambda der: der[:-1], lambda der: der + b"\0", lambda der: b"", lambda der: b"junk"])
def test_bytes_that_are_no_crl_are_refused(spoil: Callable[[bytes], bytes]) -> None:
    good = crl(ROOT, 7)
    parse_crl(good)
    with pytest.raises(CrlError, match=r"^wanted a CRL in DER: "):
        parse_crl(spoil(good))


def test_a_certificate_is_no_crl() -> None:
    with pytest.raises(CrlError, match=r"^wanted a CRL in DER: "):
        parse_crl(ROOT.der)


def test_a_crl_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(CrlError) as caught:
        parse_crl(bytes(MAX_CRL_BYTES + 1))
    assert str(caught.value) == f"CRL: wanted at most {MAX_CRL_BYTES} bytes, got {MAX_CRL_BYTES + 1}"


def test_a_crl_has_at_most_so_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_CRL_ENTRIES > 100_000
    monkeypatch.setattr("meshtls.revocation.crl.MAX_CRL_ENTRIES", 100)
    assert len(parse_crl(crl(ROOT, *range(1, 101))).serials) == 100
    with pytest.raises(CrlError) as caught:
        parse_crl(crl(ROOT, *range(1, 102)))
    assert str(caught.value) == "CRL: wanted at most 100 entries, got 101"


def test_a_crl_that_is_still_in_use_is_not_read_again() -> None:
    der = crl(ROOT, 7)
    first = parse_crl(der)
    assert parse_crl(bytes(der)) is first
    digest = first.digest
    del first
    gc.collect()
    assert parse_crl(der).digest == digest


@pytest.mark.parametrize(
    ("signer", "issuer", "holds"),
    [
        pytest.param(ROOT, ROOT, True, id="the issuer"),
        pytest.param(ca(None, name="root a", slot="another"), ROOT, False, id="the same name and another key"),
        pytest.param(INTERMEDIATE, ROOT, False, id="a CA below"),
        pytest.param(
            ROOT,
            ca(None, name="root a", slot="root a", usages=["key_cert_sign"]),
            False,
            id="an issuer without cRLSign",
        ),
        pytest.param(ROOT, ca(None, name="root a", slot="root a", usages=None), True, id="an issuer without keyUsage"),
    ],
)
def test_a_crl_counts_if_its_issuer_s_key_signed_it(signer: Issued, issuer: Issued, holds: bool) -> None:
    read = parse_crl(crl(issuer, 7, signer=signer, key_ids=False))
    for _ in range(2):
        assert read.signed_by(Presented.of(issuer.certificate)) is holds


def test_a_spoilt_signature_does_not_hold() -> None:
    der = bytearray(crl(ROOT, 7))
    der[-1] ^= 1
    assert not parse_crl(bytes(der)).signed_by(Presented.of(ROOT.certificate))


def test_a_file_has_crls_in_der_or_pem_or_none() -> None:
    ders = [crl(ROOT, 7), crl(INTERMEDIATE, 8)]
    pem = b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in ders)
    assert parse_crls(ders[0]) == (parse_crl(ders[0]),)
    assert parse_crls(b"# CRLs\n" + pem) == tuple(map(parse_crl, ders))
    assert parse_crls(b" \n") == ()


def test_a_file_of_other_pem_is_refused() -> None:
    with pytest.raises(CrlError) as caught:
        parse_crls(ROOT.certificate.public_bytes(Encoding.PEM))
    assert str(caught.value) == "wanted 1 to 64 CRLs in PEM, got 0"
    pem = x509.load_der_x509_crl(crl(ROOT, 7)).public_bytes(Encoding.PEM)
    assert len(parse_crls(pem * 64)) == 64
    with pytest.raises(CrlError) as caught:
        parse_crls(pem * 65)
    assert str(caught.value) == "wanted 1 to 64 CRLs in PEM, got 65"
    with pytest.raises(CrlError, match=r"^wanted a CRL in PEM: "):
        parse_crls(pem.replace(b"MI", b"\xff\xff"))


def test_crls_compare_by_their_bytes() -> None:
    one, other = parse_crl(crl(ROOT, 7)), parse_crl(crl(ROOT, 7, next_update=AFTER + timedelta(hours=1)))
    assert one != other
    assert len({one, other, parse_crl(one.der)}) == 2
    assert isinstance(one, Crl)
    assert one.this_update < NOW < one.next_update
