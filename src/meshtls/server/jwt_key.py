"""A key that signs this server's JWT-SVIDs, stored with the CA's keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.ca.keys.key_file import contents_of, read_key
from meshtls.ca.keys.pkcs11 import Token
from meshtls.private_files import replace_secrets
from meshtls.svid.x509 import PrivateKey

__all__ = ["JwtKey", "read_jwt_key", "store_jwt_key"]


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A signing key. Bundle and tokens refer to it by ``kid``, which is derived from the key and so never reused."""

    private_key: PrivateKey = field(repr=False)

    @property
    def kid(self) -> str:
        public = self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).hexdigest()[:32]


def store_jwt_key(directory: Path, private_key: PrivateKey, *, first: bool) -> JwtKey:
    """Store a new key in this directory (0600, atomically): the first in ``jwt.pem``, another in ``jwt-KID.pem``.

    Of a key in a token, the file has the public key. Raises ConfigError if it can't be written.
    """
    key = JwtKey(private_key)
    replace_secrets({directory / ("jwt.pem" if first else f"jwt-{key.kid}.pem"): contents_of(private_key)})
    return key


def read_jwt_key(path: Path, token: Token | None = None) -> JwtKey:
    """The key in this file, or that in the token to the public key there. Raises ConfigError if it can't be used."""
    return JwtKey(read_key(path, token))
