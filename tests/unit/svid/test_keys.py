"""The one list of public keys: by size and kind, on the bytes, before a library loads them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from meshtls.svid.keys import WANTED_KEYS, key_violation
from tests.support.certs import key

EC = ec.generate_private_key(ec.SECP256R1()).public_key()


def spki(public: object) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


def rsa_of(bits: int, exponent: int = 65537) -> bytes:
    """Any odd number of that many bits has the form of an RSA modulus."""
    return spki(rsa.RSAPublicNumbers(exponent, (1 << bits) - 1).public_key())


def point(form: PublicFormat, curve: ec.EllipticCurve) -> bytes:
    """A key's SubjectPublicKeyInfo with its point in this form."""
    public = ec.generate_private_key(curve).public_key()
    whole = spki(public)
    plain, other = (public.public_bytes(Encoding.X962, one) for one in (PublicFormat.UncompressedPoint, form))
    head = whole[: -len(plain)]
    shorter = len(plain) - len(other)
    # Lengths: of the BIT STRING just before the point and its zero, and of the whole.
    return bytes((head[0], head[1] - shorter)) + head[2:-2] + bytes((head[-2] - shorter, head[-1])) + other


@pytest.mark.parametrize(
    "der",
    [
        pytest.param(spki(EC), id="P-256"),
        pytest.param(spki(ec.generate_private_key(ec.SECP384R1()).public_key()), id="P-384"),
        pytest.param(spki(ec.generate_private_key(ec.SECP521R1()).public_key()), id="P-521"),
        pytest.param(spki(ed25519.Ed25519PrivateKey.generate().public_key()), id="Ed25519"),
        pytest.param(rsa_of(2048), id="RSA of the fewest bits"),
        pytest.param(rsa_of(4096), id="RSA of the most bits"),
        pytest.param(rsa_of(2048, 3), id="RSA with the smallest exponent"),
        pytest.param(rsa_of(2048, (1 << 32) - 1), id="RSA with the largest exponent"),
        pytest.param(point(PublicFormat.UncompressedPoint, ec.SECP256R1()), id="an uncompressed point"),
    ],
)
def test_a_key_in_the_allowed_list_is_accepted(der: bytes) -> None:
    assert key_violation(der) is None


BAD_EXPONENT = "RSA with a public exponent of {} bits that is too large, too small or even"


@pytest.mark.parametrize(
    ("der", "got"),
    [
        pytest.param(rsa_of(2047), "RSA of 2047 bits", id="RSA of too few bits"),
        pytest.param(rsa_of(4097), "RSA of 4097 bits", id="RSA of too many bits"),
        pytest.param(rsa_of(2048, (1 << 32) + 1), BAD_EXPONENT.format(40), id="RSA with too large an exponent"),
        pytest.param(rsa_of(3072, (1 << 3068) + 1), BAD_EXPONENT.format(3072), id="RSA with an exponent as long"),
        pytest.param(
            rsa_of(2048).replace(b"\x02\x03\x01\0\x01", b"\x02\x03\x01\0\0"), BAD_EXPONENT.format(24), id="even"
        ),
        pytest.param(
            rsa_of(2048).replace(b"\x02\x03\x01\0\x01", b"\x02\x03\0\0\x01"), BAD_EXPONENT.format(24), id="one"
        ),
        pytest.param(spki(ec.generate_private_key(ec.SECP192R1()).public_key()), "EC P-192", id="P-192"),
        pytest.param(spki(ec.generate_private_key(ec.SECP224R1()).public_key()), "EC P-224", id="P-224"),
        pytest.param(spki(ec.generate_private_key(ec.SECP256K1()).public_key()), "EC secp256k1", id="secp256k1"),
        pytest.param(
            spki(ec.generate_private_key(ec.BrainpoolP256R1()).public_key()), "EC brainpoolP256r1", id="brainpool"
        ),
        pytest.param(
            spki(EC).replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03010f")),
            "EC on the curve 2a8648ce3d03010f",
            id="a curve without a name here",
        ),
        pytest.param(
            point(PublicFormat.CompressedPoint, ec.SECP256R1()),
            "EC P-256 with a point that is not uncompressed",
            id="a compressed point",
        ),
        pytest.param(spki(dsa.generate_private_key(2048).public_key()), "DSA", id="DSA"),
        pytest.param(spki(x25519.X25519PrivateKey.generate().public_key()), "X25519", id="X25519"),
        pytest.param(spki(x448.X448PrivateKey.generate().public_key()), "X448", id="X448"),
        pytest.param(spki(ed448.Ed448PrivateKey.generate().public_key()), "Ed448", id="Ed448"),
        pytest.param(
            rsa_of(2048).replace(bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01010a")),
            "a key for RSASSA-PSS only",
            id="RSA-PSS",
        ),
        pytest.param(
            spki(EC).replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("30082a8648ce3d030107")),
            "EC on a curve that is not named",
            id="a curve written out",
        ),
    ],
)
def test_any_other_key_is_refused_by_name(der: bytes, got: str) -> None:
    assert key_violation(der) == f"wanted a public key that is {WANTED_KEYS}, got {got}"


@given(st.data())
def test_a_changed_byte_raises_nothing_but_value_error(data: st.DataObject) -> None:
    der = bytearray(spki(data.draw(st.sampled_from([EC, key("leaf", "RSA").public_key()]))))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        key_violation(bytes(der))
    except ValueError:
        return


@pytest.mark.parametrize("form", [0, 2, 6, 7], ids=["none", "compressed", "hybrid, even", "hybrid, odd"])
def test_a_point_of_the_right_length_in_another_form_is_refused(form: int) -> None:
    whole = spki(EC)
    assert whole[-65] == 4
    assert key_violation(whole) is None
    assert key_violation(whole[:-65] + bytes((form,)) + whole[-64:]) == (
        f"wanted a public key that is {WANTED_KEYS}, got EC P-256 with a point that is not uncompressed"
    )
