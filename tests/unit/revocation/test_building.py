"""CRLs that we build: read by our parser, and by OpenSSL's commands with a real authority's chain."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.ca.profile import Signer
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.revocation.building import CrlEntry, build_crl, pointers
from meshtls.revocation.crl import Crl, parse_crl
from meshtls.svid.presented import Presented
from tests.support.authority import make_authority, svid_for
from tests.support.certs import BEFORE, NOW, Issued, ca, leaf
from tests.support.verifying import INTERMEDIATE, ROOT, WEB

ENTRIES = [
    CrlEntry(7, BEFORE, x509.ReasonFlags.key_compromise),
    CrlEntry(2**128 - 1, NOW),
    CrlEntry(9, NOW, x509.ReasonFlags.unspecified),
]


def built(issuer: Issued, *entries: CrlEntry, number: int = 1) -> Crl:
    der = build_crl(
        issuer.certificate, issuer.private_key, entries, number=number, now=NOW, next_update=NOW + timedelta(hours=1)
    )
    return parse_crl(der)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_a_built_crl_has_its_entries_and_is_signed_by_its_issuer(kind: str) -> None:
    issuer = ca(None, "spiffe://a.test", slot=f"crl {kind}", kind=kind)
    read = built(issuer, *ENTRIES, number=2**159 - 1)
    assert read.serials == {7, 2**128 - 1, 9}
    assert (read.number, read.this_update, read.next_update) == (2**159 - 1, NOW, NOW + timedelta(hours=1))
    assert read.names_as_issuer(Presented.of(issuer.certificate))
    assert read.signed_by(Presented.of(issuer.certificate))
    assert not read.signed_by(Presented.of(ca(None, "spiffe://a.test", slot="another").certificate))
    entries = {one.serial_number: one for one in x509.load_der_x509_crl(read.der)}
    assert entries[7].revocation_date_utc == BEFORE
    assert [one.value for one in entries[7].extensions] == [x509.CRLReason(x509.ReasonFlags.key_compromise)]
    assert list(entries[9].extensions) == []  # RFC 5280, section 5.3.1: not unspecified


def test_a_later_crl_has_a_higher_number() -> None:
    assert built(ROOT, number=1).number == 1
    with pytest.raises(ConfigError, match=r"^CRL number: wanted at most 159 bits and no sign, got -1$"):
        built(ROOT, number=-1)
    with pytest.raises(ConfigError, match=r"^CRL number: wanted at most 159 bits"):
        built(ROOT, number=2**159)


def test_an_issuer_that_may_not_sign_crls_and_a_foreign_key_are_refused() -> None:
    certs_only = ca(None, "spiffe://a.test", slot="root a", usages=["key_cert_sign"])
    with pytest.raises(ConfigError) as caught:
        built(certs_only)
    assert str(caught.value) == "CA certificate abc123 may not sign CRLs: its keyUsage has no cRLSign"
    with pytest.raises(ConfigError) as caught:
        built(Issued(ROOT.certificate, INTERMEDIATE.key))
    assert str(caught.value) == "the private key does not belong to CA certificate abc123"


def test_a_next_update_is_after_the_update() -> None:
    with pytest.raises(ConfigError) as caught:
        build_crl(ROOT.certificate, ROOT.private_key, [], number=1, now=NOW, next_update=NOW)
    assert str(caught.value) == "CRL: wanted a next update after 2030-05-01T12:00:00Z, got 2030-05-01T12:00:00Z"


def test_certificates_point_to_what_is_configured_only() -> None:
    assert pointers() == []
    url, ocsp = "http://ca.a.test/crl/1.crl", "http://ca.a.test/ocsp"
    pointing = leaf(ROOT, WEB, extra=[(one, False) for one in pointers(url, ocsp)]).certificate
    text = openssl("x509", "-noout", "-ext", "crlDistributionPoints,authorityInfoAccess", stdin=pem(pointing))
    assert f"URI:{url}" in text
    assert f"OCSP - URI:{ocsp}" in text


def test_openssl_reads_a_crl_and_refuses_what_it_lists(tmp_path: Path) -> None:
    authority, now = make_authority(), SystemClock().now()
    root, [good, bad] = authority.bundle.x509_authorities[0], [svid_for(authority, path) for path in ("/a", "/b")]
    signer = authority.intermediate
    (tmp_path / "root.pem").write_bytes(pem(root))
    (tmp_path / "good.pem").write_bytes(good.chain_pem())
    (tmp_path / "bad.pem").write_bytes(bad.chain_pem())
    (tmp_path / "chain.pem").write_bytes(pem(signer.certificate))
    entries = [CrlEntry(bad.leaf.serial_number, now, x509.ReasonFlags.key_compromise)]
    crl = signed(signer, entries)
    (tmp_path / "crl.der").write_bytes(crl)
    (tmp_path / "crl.pem").write_text(openssl("crl", "-inform", "DER", "-in", str(tmp_path / "crl.der")))

    shown = openssl("crl", "-noout", "-text", "-in", str(tmp_path / "crl.pem"))
    assert f"Serial Number: {bad.serial.upper()}" in shown
    assert "Key Compromise" in shown
    told = openssl("crl", "-noout", "-in", str(tmp_path / "crl.pem"), "-CAfile", str(tmp_path / "chain.pem"), both=True)
    assert "verify OK" in told

    verify = ["verify", "-crl_check", "-CAfile", "root.pem", "-untrusted", "chain.pem", "-CRLfile", "crl.pem"]
    ran = {name: run([*verify, f"{name}.pem"], tmp_path) for name in ("good", "bad")}
    assert (ran["good"].returncode, ran["good"].stdout.strip()) == (0, "good.pem: OK")
    assert ran["bad"].returncode == 2
    assert "certificate revoked" in ran["bad"].stderr

    (tmp_path / "crl.pem").write_text(openssl("crl", "-inform", "DER", stdin=signed(signer, [])))
    assert run([*verify, "bad.pem"], tmp_path).returncode == 0


def signed(signer: Signer, entries: list[CrlEntry]) -> bytes:
    now = SystemClock().now()
    return build_crl(
        signer.certificate, signer.private_key, entries, number=1, now=now, next_update=now + timedelta(hours=1)
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def run(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["openssl", *arguments], cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )


def openssl(*arguments: str, stdin: bytes = b"", both: bool = False) -> str:
    ran = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, timeout=60, check=True)
    return (ran.stdout + ran.stderr if both else ran.stdout).decode()
