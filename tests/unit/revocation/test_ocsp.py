"""OCSP requests are read strictly, and responses are those that cryptography's own reader takes."""

from __future__ import annotations

import base64
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from meshtls.errors import ConfigError
from meshtls.revocation.ocsp import (
    MAX_REQUEST_BYTES,
    NOT_ISSUED,
    OCSP_GOOD,
    CertificateState,
    OcspError,
    OcspFault,
    OcspSigner,
    build_response,
    delegate_certificate,
    fault_response,
    parse_request,
    request_of_path,
)
from tests.support.certs import AFTER, BEFORE, NOW, Extension, Issued, ca, key, leaf
from tests.support.verifying import INTERMEDIATE, ROOT, WEB

LEAF = leaf(INTERMEDIATE, WEB)
SHA1 = hashes.SHA1()  # noqa: S303  # what clients name certificates by
DIGESTS = (SHA1, hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def asking(
    nonce: bytes | None = None,
    algorithm: hashes.HashAlgorithm = SHA1,
    extra: list[Extension] | None = None,
    issuer: Issued = INTERMEDIATE,
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(LEAF.certificate, issuer.certificate, algorithm)
    extensions = [*(extra or [])]
    if nonce is not None:
        extensions.append((x509.OCSPNonce(nonce), False))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.build().public_bytes(Encoding.DER)


def signer(issuer: Issued = INTERMEDIATE) -> OcspSigner:
    return OcspSigner(issuer.certificate, issuer.certificate, issuer.private_key)


def delegated(issuer: Issued = INTERMEDIATE) -> OcspSigner:
    responder = key("responder")
    certificate = delegate_certificate(issuer.certificate, issuer.private_key, responder, BEFORE, AFTER)
    return OcspSigner(issuer.certificate, certificate, responder)


@pytest.mark.parametrize("algorithm", DIGESTS, ids=lambda one: one.name)
def test_a_request_names_one_certificate_and_its_issuer(algorithm: hashes.HashAlgorithm) -> None:
    query = parse_request(asking(b"n" * 32, algorithm))
    assert (query.serial_number, query.nonce) == (LEAF.certificate.serial_number, b"n" * 32)
    assert signer().answers(query)
    assert delegated().answers(query)
    assert not signer(ROOT).answers(query)
    renamed = ca(ROOT, "spiffe://a.test", slot="intermediate", name="renamed")
    assert not signer(renamed).answers(query)


@pytest.mark.parametrize(("nonce", "taken"), [(1, True), (32, True), (128, True), (129, False), (0, False)])
def test_a_nonce_has_1_to_128_bytes(nonce: int, taken: bool) -> None:
    """RFC 9654, section 2.1."""
    if taken:
        assert parse_request(asking(b"n" * nonce)).nonce == b"n" * nonce
        return
    with pytest.raises(OcspError) as caught:
        parse_request(asking(b"n" * nonce))
    assert str(caught.value) == f"OCSP request: wanted a nonce of 1 to 128 bytes, got {nonce}"
    assert caught.value.fault is OcspFault.MALFORMED


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (asking(algorithm=hashes.SHA224()), "wanted hashes by SHA-1, SHA-256, SHA-384 or SHA-512, got another"),
        (asking(extra=[(UNKNOWN, True)]), "critical extension 1.2.3.4 is not understood here"),
        (bytes(MAX_REQUEST_BYTES + 1), f"wanted at most {MAX_REQUEST_BYTES} bytes, got {MAX_REQUEST_BYTES + 1}"),
        (b"", "wanted one in DER: "),
        (asking()[:-1], "wanted one in DER: "),
        (asking() + b"\0", "wanted one in DER: "),
        (bytes.fromhex("300430023000"), "wanted one certificate a request, got several or none"),
    ],
    ids=["a digest", "a critical extension", "too large", "empty", "cut off", "a byte more", "no certificate"],
)
def test_a_malformed_request_is_refused(der: bytes, why: str) -> None:
    parse_request(asking(extra=[(UNKNOWN, False)]))
    with pytest.raises(OcspError) as caught:
        parse_request(der)
    assert str(caught.value).startswith(f"OCSP request: {why}")
    assert caught.value.fault is OcspFault.MALFORMED


def test_a_request_for_two_certificates_is_malformed() -> None:
    one = asking()
    # OCSPRequest { TBSRequest { requestList { Request } } }: the list's only element comes twice.
    request = one[6:]
    inner = request + request
    listed = b"\x30\x81" + bytes([len(inner)]) + inner
    tbs = b"\x30\x81" + bytes([len(listed)]) + listed
    with pytest.raises(OcspError) as caught:
        parse_request(b"\x30\x81" + bytes([len(tbs)]) + tbs)
    assert str(caught.value) == "OCSP request: wanted one certificate a request, got several or none"


@pytest.mark.parametrize("escape", [lambda text: text, lambda text: quote(text, safe="")], ids=["plain", "escaped"])
def test_a_request_can_be_a_path(escape: object) -> None:
    assert callable(escape)
    for nonce in (b"\xff" * 32, b"\xfb\xff", b"a"):
        der = asking(nonce)
        assert request_of_path(escape(base64.b64encode(der).decode())) == der


@pytest.mark.parametrize("path", ["***", "MEI", "A" * (2 * MAX_REQUEST_BYTES + 1), "%ff"])
def test_a_path_that_is_no_base64_or_too_long_is_refused(path: str) -> None:
    with pytest.raises(OcspError):
        request_of_path(path)


STATES = {
    "good": OCSP_GOOD,
    "unknown": NOT_ISSUED,
    "revoked": CertificateState.revoked(BEFORE, x509.ReasonFlags.key_compromise),
    "revoked without reason": CertificateState.revoked(BEFORE, x509.ReasonFlags.unspecified),
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("by", [signer, delegated], ids=["the CA", "a delegate"])
@pytest.mark.parametrize("nonce", [None, b"n" * 32], ids=["no nonce", "nonce"])
def test_a_response_has_the_state_and_the_nonce_and_is_signed(name: str, by: object, nonce: bytes | None) -> None:
    assert callable(by)
    state, signing = STATES[name], by()
    query = parse_request(asking(nonce))
    until = NOW + timedelta(minutes=1)
    response = ocsp.load_der_ocsp_response(build_response(query, signing, state, NOW, until))
    assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    assert response.certificate_status is state.status
    assert (response.serial_number, response.this_update_utc, response.next_update_utc) == (
        LEAF.certificate.serial_number,
        NOW,
        until,
    )
    assert response.revocation_time_utc == state.revoked_at
    assert response.revocation_reason is (x509.ReasonFlags.key_compromise if name == "revoked" else None)
    assert [one.value for one in response.extensions] == ([] if nonce is None else [x509.OCSPNonce(nonce)])
    assert response.certificates == ([signing.certificate] if signing.is_delegated else [])
    public, digest = signing.certificate.public_key(), response.signature_hash_algorithm
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert digest is not None
    public.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))


def test_an_rsa_key_signs_responses() -> None:
    issuer = ca(None, "spiffe://a.test", slot="rsa", kind="RSA")
    response = ocsp.load_der_ocsp_response(
        build_response(parse_request(asking(issuer=issuer)), signer(issuer), OCSP_GOOD, NOW, AFTER)
    )
    assert isinstance(issuer.private_key, rsa.RSAPrivateKey)
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD


@pytest.mark.parametrize("fault", OcspFault)
def test_a_fault_is_an_unsigned_response(fault: OcspFault) -> None:
    assert ocsp.load_der_ocsp_response(fault_response(fault)).response_status is fault.value


def test_a_delegate_is_an_end_entity_that_can_t_be_a_workload() -> None:
    certificate = delegated().certificate
    names = [type(one.value) for one in certificate.extensions]
    assert x509.OCSPNoCheck in names
    assert x509.SubjectAlternativeName not in names
    certificate.verify_directly_issued_by(INTERMEDIATE.certificate)
    assert certificate.not_valid_after_utc == AFTER
    late = delegate_certificate(
        INTERMEDIATE.certificate, INTERMEDIATE.private_key, key("responder"), BEFORE, AFTER + timedelta(days=1)
    )
    assert late.not_valid_after_utc == AFTER


def test_a_certificate_that_may_not_sign_responses_is_refused() -> None:
    plain = leaf(INTERMEDIATE, WEB, own_key=key("responder"))
    with pytest.raises(ConfigError) as caught:
        OcspSigner(INTERMEDIATE.certificate, plain.certificate, key("responder"))
    assert str(caught.value) == "OCSP responder's certificate abc123: wanted OCSPSigning in its extendedKeyUsage"
    good = delegated()
    with pytest.raises(ConfigError, match=r"it was not signed by CA abc123$"):
        OcspSigner(ROOT.certificate, good.certificate, key("responder"))
    with pytest.raises(ConfigError, match=r"^OCSP responder: the private key does not belong to certificate "):
        OcspSigner(INTERMEDIATE.certificate, good.certificate, key("leaf"))
    with pytest.raises(ConfigError):
        OcspSigner(INTERMEDIATE.certificate, INTERMEDIATE.certificate, key("leaf"))
