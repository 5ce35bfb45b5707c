"""JWK sets: which keys are used, which are left out and why, and what is no set."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshtls.errors import RequestError
from meshtls.policy.jwt.key_set import MAX_KEY_SET_BYTES, MAX_KEYS, read_key_set
from tests.support.certs import NOW
from tests.support.jwts import Issuer, signing_key

ISSUER = Issuer("https://issuer.test", NOW)
GOOD = ISSUER.jwk()


def unusable(entry: Any) -> tuple[str, ...]:
    """The complaints about a set of this key and a good one, of which only the good one is used."""
    found = read_key_set(json.dumps({"keys": [entry, GOOD]}))
    assert [one.key_id for one in found.keys] == ["one"]
    return found.unusable


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (7, "key 0: wanted an object, got 7"),
        (GOOD | {"kid": 7}, "key 0: wanted a string in 'kid', got 7"),
        (GOOD | {"use": "enc"}, "key 0: its use is 'enc', not 'sig'"),
        (GOOD | {"key_ops": ["sign"]}, "key 0: its operations are ['sign'], without 'verify'"),
        (GOOD | {"alg": "ES384"}, "key 0: its algorithm is 'ES384', wanted one of ES256"),
        (
            {"kty": "oct", "k": "c2VjcmV0"},
            "key 0: wanted a public key of kind RSA, EC or OKP, got 'oct'",
        ),
        ({"kty": "OKP", "crv": "X25519", "x": "AA"}, "key 0: curve 'X25519': wanted Ed25519"),
        (GOOD | {"crv": "secp256k1"}, "key 0: curve 'secp256k1': wanted P-256, P-384, P-521"),
        ({"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "key 0: 17 bits: wanted 2048 to 8192"),
    ],
)
def test_an_unusable_key_is_left_out(entry: Any, complaint: str) -> None:
    assert unusable(entry) == (complaint,)


@pytest.mark.parametrize("entry", [{"kty": "OKP", "crv": "Ed25519", "x": "!"}, {"kty": "EC"}, {"kty": "RSA"}, None, []])
def test_a_broken_key_is_left_out(entry: Any) -> None:
    assert len(unusable(entry)) == 1


def test_the_keys_of_all_kinds_are_read_with_their_algorithms() -> None:
    issuers = [Issuer("i", NOW, signing_key(kind), kind) for kind in ("RSA", "P-256", "P-384", "P-521", "Ed25519")]
    found = read_key_set(json.dumps({"keys": [one.jwk() for one in issuers]}))
    assert [(one.key_id, one.algorithms) for one in found.keys] == [
        ("RSA", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("P-256", ("ES256",)),
        ("P-384", ("ES384",)),
        ("P-521", ("ES512",)),
        ("Ed25519", ("Ed25519", "EdDSA")),
    ]
    assert found.unusable == ()


def test_a_keys_own_algorithm_is_the_only_one() -> None:
    rsa = Issuer("i", NOW, signing_key("RSA")).jwks(alg="RS512")
    assert [one.algorithms for one in read_key_set(rsa).keys] == [("RS512",)]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "wanted a JWK set, a JSON object: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "wanted a JWK set, a JSON object with an array 'keys', got []"),
        ('{"keys": {}}', "wanted a JWK set, a JSON object with an array 'keys', got {'keys': {}}"),
        ('{"keys": []}', "wanted a JWK set with a usable key, got none; no keys"),
        ('{"keys": [1]}', "wanted a JWK set with a usable key, got none; key 0: wanted an object, got 1"),
        (
            json.dumps({"keys": [GOOD] * (MAX_KEYS + 1)}),
            f"wanted a JWK set of at most {MAX_KEYS} keys, got {MAX_KEYS + 1}",
        ),
        (
            " " * (MAX_KEY_SET_BYTES + 1),
            f"wanted a JWK set of at most {MAX_KEY_SET_BYTES} bytes, got {MAX_KEY_SET_BYTES + 1}",
        ),
    ],
)
def test_an_invalid_key_set_is_refused(document: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_key_set(document)
    assert str(caught.value) == message


def test_a_set_of_the_largest_number_of_keys_is_read() -> None:
    assert len(read_key_set(json.dumps({"keys": [GOOD] * MAX_KEYS})).keys) == MAX_KEYS
