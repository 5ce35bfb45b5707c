"""The CAs that an upstream authority signed, each in a file of its own with its key and its path to the root.

A file appears by one rename, and is deleted once its CA has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from meshtls.ca.profile import Signer
from meshtls.ca.subordinate import SubordinateCa
from meshtls.errors import ConfigError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import read_secret, replace_secrets
from meshtls.svid.x509 import PrivateKey, format_serial

__all__ = ["HeldCas"]

_FILES = "upstream-*.pem"


class HeldCas:
    """In this directory, or in memory only if that is None. Raises ConfigError where it can't be read or written."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._held = [_read(path) for path in sorted(directory.glob(_FILES))] if directory else []

    def newest_first(self) -> Sequence[SubordinateCa]:
        # Of two in the same second, the one that was added later.
        return sorted(self._held, key=lambda one: one.since)[::-1]

    def add(self, ca: SubordinateCa) -> None:
        if self._directory:
            key = ca.signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            certificates = b"".join(one.public_bytes(Encoding.PEM) for one in (*ca.chain, ca.root))
            replace_secrets({self._path(ca, self._directory): key + certificates})
        self._held.append(ca)

    def remove(self, cas: Iterable[SubordinateCa]) -> None:
        for one in cas:
            self._held.remove(one)
            if self._directory:
                self._path(one, self._directory).unlink(missing_ok=True)

    def _path(self, ca: SubordinateCa, directory: Path) -> Path:
        return directory / f"upstream-{format_serial(ca.signer.certificate)}.pem"


def _read(path: Path) -> SubordinateCa:
    content = read_secret(path)
    try:
        key = load_pem_private_key(content, password=None)
        first, *above, root = x509.load_pem_x509_certificates(content)
    except PARSE_ERRORS as error:
        raise ConfigError(f"{path}: {error}; delete it, and the upstream authority signs a new CA") from error
    if not isinstance(key, PrivateKey) or key.public_key() != first.public_key():
        raise ConfigError(
            f"{path}: the key does not belong to the certificate; delete it, and the upstream authority signs a new CA"
        )
    return SubordinateCa(Signer(first, key), tuple(above), root)
