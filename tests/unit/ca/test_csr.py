"""CSRs: only the key is used, and only with proof of possession."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.ca.csr import MAX_REQUEST_BYTES, check_public_key, public_key_of_csr
from meshtls.errors import RequestError
from meshtls.svid.der import elements, parts
from meshtls.svid.x509 import PrivateKey
from tests.support.authority import csr_for

P256 = ec.generate_private_key(ec.SECP256R1())
TOO_FEW_BITS = 1024
WANTED = "public key: wanted EC P-256, EC P-384 or RSA of 2048 to 4096 bits with a public exponent below 2^32"


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize(
    "key",
    [P256, ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["p256", "p384", "rsa2048"],
)
def test_the_key_of_a_good_csr_is_taken(key: PrivateKey, encoding: Encoding) -> None:
    assert public_key_of_csr(csr_for(key).public_bytes(encoding)) == key.public_key()


def test_a_csr_signed_by_another_key_is_refused() -> None:
    der = csr_for(P256).public_bytes(Encoding.DER)
    other = ec.generate_private_key(ec.SECP256R1())
    forged = der.replace(_point(P256), _point(other))
    assert x509.load_der_x509_csr(forged).public_key() == other.public_key()
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(forged)
    assert str(raised.value) == "CSR: its signature is not by the key it holds; sign it with that key"


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (b"", "CSR: wanted a PKCS#10 request in PEM or DER: error parsing asn1 value: "),
        (b"hello", "CSR: wanted a PKCS#10 request in PEM or DER: error parsing asn1 value: "),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "CSR: wanted a PKCS#10 request in PEM or DER: Valid PEM but no BEGIN CERTIFICATE REQUEST",
        ),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "CSR: wanted a PKCS#10 request in PEM or DER: error parsing asn1 value: ",
        ),
    ],
)
def test_bytes_that_are_no_csr_are_refused(request_bytes: bytes, message: str) -> None:
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(request_bytes)
    assert str(raised.value).startswith(message)


def test_a_csr_with_a_key_of_another_kind_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(csr.public_bytes(Encoding.DER))
    assert str(raised.value) == f"{WANTED}, got Ed25519"


@pytest.mark.parametrize(
    ("key", "got"),
    [
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "EC secp521r1"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "EC secp256k1"),
        (rsa.generate_private_key(65537, TOO_FEW_BITS).public_key(), "RSA of 1024 bits"),
        (rsa.RSAPublicNumbers(65537, (1 << 4097) - 1).public_key(), "RSA of 4097 bits"),
        (rsa.RSAPublicNumbers((1 << 32) + 1, (1 << 2048) - 1).public_key(), "RSA with an exponent of 33 bits"),
    ],
)
def test_weak_and_unusual_keys_are_refused_by_name(key: object, got: str) -> None:
    with pytest.raises(RequestError) as raised:
        check_public_key(key)
    assert str(raised.value) == f"{WANTED}, got {got}"


def test_the_largest_keys_are_taken() -> None:
    for key in (
        rsa.RSAPublicNumbers(65537, (1 << 4096) - 1).public_key(),
        rsa.RSAPublicNumbers((1 << 32) - 1, (1 << 2048) - 1).public_key(),
    ):
        assert check_public_key(key) is key


def test_a_csr_by_a_key_that_is_dear_to_verify_with_is_refused_for_the_key_and_not_for_its_signature() -> None:
    """The exponent is as long as the modulus; the signature is junk and is not verified."""
    good = csr_for(rsa.generate_private_key(65537, 3072)).public_bytes(Encoding.DER)
    [(_, body, _)] = parts(good, 0x30)
    (_, info, _), algorithm, signature = elements(body)
    version, subject, _, *rest = (whole for _, _, whole in elements(info))
    dear = rsa.RSAPublicNumbers((1 << 3068) + 1, (1 << 3072) - 1).public_key()
    spki = dear.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    forged = _sequence(_sequence(version, subject, spki, *rest), algorithm[2], signature[2])
    assert x509.load_der_x509_csr(forged).public_key() == dear
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(forged)
    assert str(raised.value) == f"{WANTED}, got RSA with an exponent of 3069 bits"


def test_a_csr_of_too_many_bytes_is_refused_before_it_is_read() -> None:
    good = csr_for(P256).public_bytes(Encoding.PEM)
    assert public_key_of_csr(good.ljust(MAX_REQUEST_BYTES, b"\n")) == P256.public_key()
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(good.ljust(MAX_REQUEST_BYTES + 1, b"\n"))
    assert str(raised.value) == "CSR: wanted at most 16384 bytes, got 16385"


def test_a_csr_that_was_changed_in_one_bit_is_refused() -> None:
    csr = csr_for(P256, uri="spiffe://example.org/web")
    changed = csr.public_bytes(Encoding.DER).replace(b"example.org/web", b"example.org/wec")
    with pytest.raises(RequestError, match="its signature is not by the key it holds"):
        public_key_of_csr(changed)
    assert csr.signature_hash_algorithm is not None
    assert csr.signature_hash_algorithm.name == hashes.SHA256.name


def test_a_csr_of_an_unknown_version_is_refused() -> None:
    der = csr_for(P256, uri="spiffe://example.org/web").public_bytes(Encoding.DER)
    version = b"\x02\x01\x00"
    assert public_key_of_csr(der) == P256.public_key()
    with pytest.raises(RequestError) as raised:
        public_key_of_csr(der.replace(version, b"\x02\x01\x01", 1))
    assert str(raised.value) == "CSR: wanted a PKCS#10 request in PEM or DER: 1 is not a valid CSR version"


def _sequence(*inside: bytes) -> bytes:
    content = b"".join(inside)
    return b"\x30\x82" + len(content).to_bytes(2, "big") + content


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
