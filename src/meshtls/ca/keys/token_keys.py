"""Keys in a token as cryptography's own interfaces of private keys, of which a token has ``public_key`` and ``sign``.

cryptography's builders of certificates, CRLs, CSRs and OCSP responses hand the encoded content to ``sign``. So whatever
a CA signs, it signs in the same way wherever the key is. All that would show the key, or use it otherwise, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from meshtls.errors import ConfigError
from meshtls.svid.x509 import SignsOnly

if TYPE_CHECKING:
    from cryptography.utils import Buffer

__all__ = ["Sign", "TokenEcKey", "TokenRsaKey", "is_offline", "offline_key"]

#: Signs: the key's ID, the name of the PKCS#11 mechanism, and what that mechanism signs.
Sign = Callable[[bytes, str, bytes], bytes]


class _TokenKey(SignsOnly):
    """What keys of both kinds have in common: a copy is the same key in the token."""

    def private_numbers(self) -> NoReturn:
        _refuse("be read")

    def private_bytes(self, encoding: object, format: object, encryption_algorithm: object) -> NoReturn:  # noqa: A002
        _refuse("be read")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class TokenEcKey(_TokenKey, ec.EllipticCurvePrivateKey):
    """A key on a NIST curve. ``sign`` raises TokenError if the token can't be used."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, key_id: bytes, sign: Sign) -> None:
        self.id = key_id
        self._public_key = public_key
        self._sign = sign

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The token is given the digest only. The signature is in DER, as cryptography's."""
        algorithm = signature_algorithm.algorithm
        if not isinstance(algorithm, hashes.HashAlgorithm):
            raise TypeError("wanted the data to sign, got a digest of it")
        digest = hashes.Hash(algorithm)
        digest.update(data)
        signature = self._sign(self.id, "ECDSA", digest.finalize())
        half = len(signature) // 2
        return utils.encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        _refuse("agree on a secret")

    def __repr__(self) -> str:
        return f"<TokenEcKey {self.curve.name} {self.id.hex()}>"


class TokenRsaKey(_TokenKey, rsa.RSAPrivateKey):
    """An RSA key, for signatures by PKCS#1 v1.5. ``sign`` raises TokenError if the token can't be used."""

    def __init__(self, public_key: rsa.RSAPublicKey, key_id: bytes, sign: Sign) -> None:
        self.id = key_id
        self._public_key = public_key
        self._sign = sign

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    def sign(
        self,
        data: Buffer,
        padding: padding.AsymmetricPadding,
        algorithm: utils.Prehashed | hashes.HashAlgorithm | utils.NoDigestInfo,
    ) -> bytes:
        if not isinstance(padding, _PKCS1) or not isinstance(algorithm, hashes.SHA256):
            raise TypeError("wanted PKCS#1 v1.5 with SHA-256, got another padding or digest")
        return self._sign(self.id, "SHA256_RSA_PKCS", bytes(data))

    def decrypt(self, ciphertext: Buffer, padding: object) -> NoReturn:
        _refuse("decrypt")

    def __repr__(self) -> str:
        return f"<TokenRsaKey {self.key_size} bits {self.id.hex()}>"


_PKCS1 = padding.PKCS1v15


def offline_key(public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> TokenEcKey | TokenRsaKey:
    """The key of a root that is kept elsewhere: ``sign`` raises ConfigError."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return TokenEcKey(public_key, b"", _offline)
    return TokenRsaKey(public_key, b"", _offline)


def is_offline(key: object) -> bool:
    return isinstance(key, TokenEcKey | TokenRsaKey) and not key.id


def _offline(key_id: bytes, mechanism: str, data: bytes) -> NoReturn:
    raise ConfigError(
        "the root's key is offline; request a CA with `meshtls ca csr`, and sign it with `meshtls ca sign`"
    )


def _refuse(what: str) -> NoReturn:
    raise ConfigError(f"a key in a token can't {what}; it only signs")
