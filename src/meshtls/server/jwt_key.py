"""The key that signs this server's JWT-SVIDs, stored with the CA's keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.errors import ConfigError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import read_secret, replace_secrets
from meshtls.svid.x509 import PrivateKey

__all__ = ["JwtKey", "jwt_key_in"]


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A signing key. Bundle and tokens refer to it by ``kid``, which is derived from the key and so never reused."""

    private_key: PrivateKey = field(repr=False)

    @property
    def kid(self) -> str:
        public = self.private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(public).hexdigest()[:32]


def jwt_key_in(directory: Path, algorithm: KeyAlgorithm) -> JwtKey:
    """The key in ``jwt.pem`` of this directory, created if missing (0600, atomically).

    Raises ConfigError if it can't be read, used or written.
    """
    path = directory / "jwt.pem"
    if path.exists():
        return JwtKey(_parse(path))
    key = algorithm.generate()
    replace_secrets({path: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())})
    return JwtKey(key)


def _parse(path: Path) -> PrivateKey:
    try:
        key = load_pem_private_key(read_secret(path), password=None)
        check_public_key(key.public_key())
    except (RequestError, *PARSE_ERRORS) as error:
        raise ConfigError(f"{path}: {error}; restore the file from a backup") from error
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{path}: wanted an EC or RSA key, got {type(key).__name__}; restore the file from a backup")
    return key
