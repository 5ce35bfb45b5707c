"""CA keys in a data directory: ``root.pem`` and ``intermediate.pem``, each one certificate and its private key.

Certificate and key share a file so that renewing an intermediate is one atomic replacement: a crash can't leave a key
with the certificate of another key.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.manager import KeyAlgorithm, Slot
from meshtls.ca.profile import Signer
from meshtls.errors import ConfigError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import lock_directory, read_secret, replace_secrets
from meshtls.svid.x509 import PrivateKey

__all__ = ["DiskKeys"]

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


class DiskKeys:
    """A KeyManager in a directory, which it locks until ``close``.

    Raises ConfigError if another process has locked the directory, other users can access it, or it can't be created.
    """

    def __init__(self, directory: Path, algorithm: KeyAlgorithm = KeyAlgorithm.P256) -> None:
        self._directory = directory
        self._algorithm = algorithm
        self._lock: int | None = lock_directory(directory)

    def load(self) -> Mapping[Slot, Signer]:
        missing = [slot for slot in Slot if not os.path.lexists(self._path(slot))]
        if len(missing) == len(Slot):
            return {}
        if missing:
            raise ConfigError(
                f"{self.where(missing[0])}: missing, though the CA's other file is there;"
                " restore it from a backup, or empty the directory to start a new CA"
            )
        return {slot: _parse(self._path(slot)) for slot in Slot}

    def generate(self, slot: Slot) -> PrivateKey:
        return self._algorithm.generate()

    def save(self, signers: Mapping[Slot, Signer]) -> None:
        replace_secrets(
            {
                self._path(slot): signer.certificate.public_bytes(Encoding.PEM)
                + signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                for slot, signer in signers.items()
            }
        )

    def where(self, slot: Slot) -> str:
        return str(self._path(slot))

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __repr__(self) -> str:
        return f"<DiskKeys {self._directory} [{'closed' if self._lock is None else 'locked'}]>"

    def _path(self, slot: Slot) -> Path:
        return self._directory / f"{slot.value}.pem"


def _parse(path: Path) -> Signer:
    content = read_secret(path)
    # The label and the text of each complete block (RFC 7468).
    found = []
    for part in content.split(_BEGIN)[1:]:
        label, _, rest = part.partition(_DASHES)
        end = _END + label + _DASHES
        body, complete, _ = rest.partition(end)
        if complete:
            found.append((label, _BEGIN + label + _DASHES + body + end))
    if sorted(label for label, _ in found) != [b"CERTIFICATE", b"PRIVATE KEY"]:
        labels = ", ".join(ascii(label.decode("latin-1"))[1:-1] for label, _ in found) or "no PEM at all"
        raise _corrupt(path, f"wanted one CERTIFICATE and one PRIVATE KEY in PEM, got {labels}")
    blocks = dict(found)
    try:
        certificate = x509.load_pem_x509_certificate(blocks[b"CERTIFICATE"])
        key = load_pem_private_key(blocks[b"PRIVATE KEY"], password=None)
        check_public_key(key.public_key())
        check_public_key(certificate.public_key())
    except PARSE_ERRORS as error:
        raise _corrupt(path, str(error)) from error
    if not isinstance(key, PrivateKey):
        raise _corrupt(path, f"wanted an EC or RSA key, got {type(key).__name__}")
    return Signer(certificate, key)


def _corrupt(path: Path, what: str) -> ConfigError:
    return ConfigError(f"{path}: {what}; restore the file from a backup")
