"""The agent's own SVID and its trust domain's bundle on disk, so that a restart needs no new attestation.

Used only with a data directory. The key's file has mode 0600 before its first byte and is replaced atomically.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.bundle import TrustBundle
from meshtls.errors import BundleError, ConfigError, LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory, read_secret, replace_secrets
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey, X509Svid

__all__ = ["NodeStore", "opened_store"]

_SVID = "agent-svid.pem"
_BUNDLE = "bundle.json"


class NodeStore:
    """Two files in one directory. Both methods raise ConfigError that names the file."""

    def __init__(self, directory: Path) -> None:
        self._svid = directory / _SVID
        self._bundle = directory / _BUNDLE

    def load(self, trust_domain: TrustDomain) -> tuple[X509Svid, TrustBundle] | None:
        """The SVID and bundle that were saved last, or None."""
        if not self._svid.exists():
            return None
        svid = _svid_of(self._svid, read_secret(self._svid, "the agent's key"))
        if not svid.spiffe_id.member_of(trust_domain):
            raise ConfigError(
                f"{self._svid}: wanted an agent of trust domain {trust_domain}, got {svid.spiffe_id};"
                " give another data directory"
            )
        try:
            return svid, TrustBundle.from_jwks(trust_domain, read_secret(self._bundle, "the agent's bundle"))
        except BundleError as error:
            raise ConfigError(f"{self._bundle}: {error}") from error

    def save(self, svid: X509Svid, bundle: TrustBundle) -> None:
        replace_secrets({self._svid: svid.key_pem() + svid.chain_pem(), self._bundle: bundle.to_jwks().encode()})


@contextmanager
def opened_store(directory: Path) -> Iterator[NodeStore]:
    """The store in this directory, which is created if missing and locked for this process while the body runs.

    Raises ConfigError.
    """
    descriptor = lock_directory(directory, "the agent's key")
    try:
        yield NodeStore(directory)
    finally:
        os.close(descriptor)


def _svid_of(file: Path, pem: bytes) -> X509Svid:
    try:
        key = load_pem_private_key(pem, None)
        chain = x509.load_pem_x509_certificates(pem)
    except PARSE_ERRORS as error:
        raise ConfigError(f"{file}: wanted a private key and certificates in PEM: {error}") from error
    if not isinstance(key, PrivateKey):
        raise ConfigError(f"{file}: wanted an EC or RSA key, got {type(key).__name__}")
    try:
        return X509Svid.from_chain(chain, key)
    except LocalIdentityError as error:
        raise ConfigError(f"{file}: {error}") from error
