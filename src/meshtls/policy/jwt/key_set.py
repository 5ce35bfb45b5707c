"""A JWK set (RFC 7517) whose keys verify the tokens of one issuer. Pure.

A key that can't be used is left out and reported in ``unusable``. Symmetric keys are never used: whoever may read the
configuration could sign with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from meshtls.bundle import read_public_jwk
from meshtls.errors import RequestError
from meshtls.json_text import read_json
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.jwt_format import ALGORITHMS as SVID_ALGORITHMS
from meshtls.svid.jwt_format import shortened

__all__ = ["ALGORITHMS", "MAX_KEYS", "MAX_KEY_SET_BYTES", "KeySet", "VerificationKey", "read_key_set"]

ALGORITHMS = (*SVID_ALGORITHMS, "Ed25519", "EdDSA")
_REGISTRY = jws.JWSRegistry(algorithms=(*SVID_ALGORITHMS, "Ed25519"))
MAX_KEY_SET_BYTES = 1 << 20
#: Keys that are read. Providers have two or three, shared ones some dozens.
MAX_KEYS = 256
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
#: The older name is of several curves, of which this is the only one here (RFC 9864, section 2.2).
_ED25519 = ("Ed25519", "EdDSA")
_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key and the algorithms that it may be used with."""

    key_id: str | None
    algorithms: tuple[str, ...]
    key: RSAKey | ECKey | OKPKey

    def made(self, signature: bytes, data: bytes, algorithm: str) -> bool:
        """Whether this key made the signature, by one of its algorithms. Raises JoseError or ValueError."""
        model = _REGISTRY.get_alg("Ed25519" if algorithm in _ED25519 else algorithm)
        return model.verify(data, signature, self.key)


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The usable keys of a set, in its order, and a line for each unusable one. Compared by identity: what was verified
    by one set is not taken for verified by its successor.
    """

    keys: tuple[VerificationKey, ...]
    unusable: tuple[str, ...] = ()

    def named(self, key_id: str | None) -> tuple[VerificationKey, ...]:
        """The keys that a token with this ``kid`` may be signed by. Without one every key is a candidate, and a key
        without a name is a candidate for every token, as RFC 7515, section 4.1.4, leaves it to the application.
        """
        if key_id is None:
            return self.keys
        return tuple(one for one in self.keys if one.key_id in (None, key_id))


def read_key_set(document: bytes | str) -> KeySet:
    """Read a JWK set. Raises RequestError for what is none, or for one without a single usable key."""
    if len(document) > MAX_KEY_SET_BYTES:
        raise RequestError(f"wanted a JWK set of at most {MAX_KEY_SET_BYTES} bytes, got {len(document)}")
    try:
        members = read_json(document, contained=True)
    except ValueError as error:
        raise RequestError(f"wanted a JWK set, a JSON object: {error}") from error
    entries = members.get("keys") if isinstance(members, dict) else None
    if not isinstance(entries, list):
        raise RequestError(f"wanted a JWK set, a JSON object with an array 'keys', got {shortened(members)}")
    if len(entries) > MAX_KEYS:
        raise RequestError(f"wanted a JWK set of at most {MAX_KEYS} keys, got {len(entries)}")
    keys, unusable = [], []
    for place, entry in enumerate(entries):
        try:
            keys.append(_key(entry))
        except (*PARSE_ERRORS, JoseError) as error:
            unusable.append(f"key {place}: {error}")
    if not keys:
        raise RequestError(f"wanted a JWK set with a usable key, got none; {'; '.join(unusable[:_SHOWN]) or 'no keys'}")
    return KeySet(tuple(keys), tuple(unusable))


def _key(entry: object) -> VerificationKey:
    if not isinstance(entry, dict):
        raise TypeError(f"wanted an object, got {shortened(entry)}")
    key_id, use, operations = entry.get("kid"), entry.get("use"), entry.get("key_ops")
    if not isinstance(key_id, str | None):
        raise TypeError(f"wanted a string in 'kid', got {shortened(key_id)}")
    if use not in (None, "sig"):
        raise ValueError(f"its use is {shortened(use)}, not 'sig'")
    if operations is not None and (not isinstance(operations, list) or "verify" not in operations):
        raise ValueError(f"its operations are {shortened(operations)}, without 'verify'")
    key, fitting = _public_key(entry)
    algorithm = entry.get("alg")
    algorithms = tuple(one for one in fitting if algorithm in (None, one))
    if not algorithms:
        raise ValueError(f"its algorithm is {shortened(algorithm)}, wanted one of {', '.join(fitting)}")
    return VerificationKey(key_id, algorithms, key)


def _public_key(entry: Mapping[str, Any]) -> tuple[RSAKey | ECKey | OKPKey, tuple[str, ...]]:
    kind = entry.get("kty")
    if kind == "OKP":
        if entry.get("crv") != "Ed25519":
            raise ValueError(f"curve {shortened(entry.get('crv'))}: wanted Ed25519")
        return OKPKey.import_key({name: entry[name] for name in ("kty", "crv", "x")}), _ED25519
    if kind not in ("EC", "RSA"):
        raise ValueError(f"wanted a public key of kind RSA, EC or OKP, got {shortened(kind)}")
    public = read_public_jwk(entry)
    if isinstance(public, ec.EllipticCurvePublicKey):
        return ECKey.import_key(public), (_BY_CURVE[public.curve.name],)
    return RSAKey.import_key(public), _RSA
