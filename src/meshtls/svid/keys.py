"""The ONE list of public keys that a certificate may hold, a leaf or a CA, a peer's or one of our own.

TLS 1.3 has a signature scheme for these and no others (RFC 8446, section 4.2.3), and verifying with one has a known
cost: an RSA key of 3072 bits with an exponent as long costs a thousand times as much as one with 65537.
"""

from __future__ import annotations

from meshtls.svid.der import BIT_STRING, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, parts

__all__ = ["MAX_EXPONENT", "MAX_RSA_BITS", "MIN_RSA_BITS", "WANTED_KEYS", "key_violation"]

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 4096
#: The largest public exponent of an RSA key.
MAX_EXPONENT = (1 << 32) - 1
WANTED_KEYS = (
    f"RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits with an exponent below 2^32, EC P-256, P-384 or P-521, or Ed25519"
)

_RSA = bytes.fromhex("2a864886f70d010101")
_EC = bytes.fromhex("2a8648ce3d0201")
_ED25519 = bytes.fromhex("2b6570")
#: Name and size of a coordinate in bytes by the curve's object identifier (RFC 5480, section 2.1.1.1).
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): ("P-256", 32),
    bytes.fromhex("2b81040022"): ("P-384", 48),
    bytes.fromhex("2b81040023"): ("P-521", 66),
}
_UNCOMPRESSED = 4
# Only for the text of a refusal.
_OTHERS = {
    bytes.fromhex("2a864886f70d01010a"): "a key for RSASSA-PSS only",
    bytes.fromhex("2a8648ce380401"): "DSA",
    bytes.fromhex("2b656e"): "X25519",
    bytes.fromhex("2b656f"): "X448",
    bytes.fromhex("2b6571"): "Ed448",
    bytes.fromhex("2b81040021"): "EC P-224",
    bytes.fromhex("2a8648ce3d030101"): "EC P-192",
    bytes.fromhex("2b8104000a"): "EC secp256k1",
    bytes.fromhex("2b2403030208010107"): "EC brainpoolP256r1",
    bytes.fromhex("2b240303020801010b"): "EC brainpoolP384r1",
    bytes.fromhex("2b240303020801010d"): "EC brainpoolP512r1",
}


def key_violation(spki: bytes) -> str | None:
    """What is wrong with a SubjectPublicKeyInfo in DER, in words; None for a key that may be used.

    Looks at sizes and identifiers only. Raises ValueError for what is no such structure.
    """
    [(_, content, _)] = parts(spki, SEQUENCE)
    (_, algorithm, _), (_, key, _) = parts(content, SEQUENCE, BIT_STRING)
    [(_, kind, identifier)] = parts(algorithm, OBJECT_IDENTIFIER)
    parameters, key = algorithm[len(identifier) :], key[1:]
    if kind == _RSA:
        got = _rsa_misfit(key)
    elif kind == _EC:
        got = _ec_misfit(parameters, key)
    elif kind == _ED25519:
        got = None
    else:
        got = _OTHERS.get(kind, f"a key of the algorithm {kind.hex()}")
    return f"wanted a public key that is {WANTED_KEYS}, got {got}" if got else None


def _rsa_misfit(key: bytes) -> str | None:
    [(_, numbers, _)] = parts(key, SEQUENCE)
    (_, modulus, _), (_, exponent, _) = parts(numbers, INTEGER, INTEGER)
    modulus = modulus.lstrip(b"\0")
    bits = 8 * len(modulus) - (8 - modulus[0].bit_length()) if modulus else 0
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        return f"RSA of {bits} bits"
    if len(exponent) > 5 or not 3 <= int.from_bytes(exponent, "big") <= MAX_EXPONENT or not exponent[-1] & 1:
        return f"RSA with a public exponent of {8 * len(exponent)} bits that is too large, too small or even"
    return None


def _ec_misfit(parameters: bytes, key: bytes) -> str | None:
    if parameters[:1] != bytes((OBJECT_IDENTIFIER,)):
        return "EC on a curve that is not named"
    [(_, oid, _)] = parts(parameters, OBJECT_IDENTIFIER)
    if oid not in _CURVES:
        return _OTHERS.get(oid, f"EC on the curve {oid.hex()}")
    name, size = _CURVES[oid]
    if len(key) != 1 + 2 * size or key[0] != _UNCOMPRESSED:
        return f"EC {name} with a point that is not uncompressed"
    return None
