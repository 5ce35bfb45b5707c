"""A private key in a file of its own, or the public key there of one that is in a token."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.pkcs11 import Token
from meshtls.errors import ConfigError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import read_secret
from meshtls.svid.x509 import PrivateKey, SignsOnly

__all__ = ["contents_of", "read_key"]


def contents_of(key: PrivateKey) -> bytes:
    """What a file has of this key: PKCS#8 in PEM, or the public key of one that can't be read."""
    if isinstance(key, SignsOnly):
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path, token: Token | None = None, mend: str = "restore the file from a backup") -> PrivateKey:
    """The key in this file, or that in the token to the public key there.

    Raises ConfigError if it can't be used, with ``mend`` as what to do.
    """
    try:
        content = read_secret(path)
        if b"-----BEGIN PUBLIC KEY-----" in content:
            if token is None:
                raise ConfigError(f"{path}: its private key is in a token; configure that token to use it")
            return token.find(check_public_key(load_pem_public_key(content)))
        key = load_pem_private_key(content, password=None)
        check_public_key(key.public_key())
    except (RequestError, *PARSE_ERRORS) as error:
        raise ConfigError(f"{path}: wanted a private key in PEM, without a password: {error}; {mend}") from error
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{path}: wanted an EC or RSA key, got {type(key).__name__}; {mend}")
    return key
